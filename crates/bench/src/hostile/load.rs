//! The load of one way, until this process is ended.

use tokio::io::AsyncReadExt;

use super::{neighbour, strangers, unread, way::Way};
use crate::{arguments::HostileLoad, failure::Failure};

/// Makes the load, and prints a line of JSON once it is there.
pub(crate) async fn run(arguments: &HostileLoad) -> Result<(), Failure> {
    let load = async {
        match arguments.way {
            Way::Unfinished => strangers::leave_unfinished(&arguments.url).await,
            Way::Unread => unread::leave_unread(&arguments.url).await,
            way => neighbour::call(way, arguments).await,
        }
    };
    // The parent process holds its input open.
    let ended = async { tokio::io::stdin().read(&mut [0]).await };
    tokio::select! {
        outcome = load => outcome,
        _ = ended => Ok(()),
    }
}
