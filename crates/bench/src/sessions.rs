//! Sessions that exist before a measurement.

use tokio::task::JoinSet;
use tonic::Status;

use crate::{
    caller::{Caller, Issue, Refresh},
    failure::Failure,
    stage::Target,
};

/// Begins this many sessions, and returns who refreshes them: each of `callers` has a part of them.
pub(crate) async fn begin(target: &Target, count: u32, callers: u16) -> Result<Vec<Vec<Caller>>, Failure> {
    eprintln!("beginning {count} sessions");
    let mut issuing = JoinSet::new();
    let each = count.div_ceil(callers.into());
    for (number, channel) in target.channels_for(callers).enumerate() {
        let authorization = target.authorization();
        issuing.spawn(async move {
            let mut issuer = Issue::new(channel.clone(), authorization.clone(), number);
            let mut own = Vec::new();
            for _ in 0..each {
                let (_, issued) = issuer.issue().await?;
                let token = issued.tokens.unwrap_or_default().refresh_token;
                own.push(Caller::Refresh(Refresh::new(
                    channel.clone(),
                    authorization.clone(),
                    token,
                )));
            }
            Ok::<_, Status>(own)
        });
    }
    let mut sessions = Vec::new();
    while let Some(ended) = issuing.join_next().await {
        let own = ended.map_err(|error| Failure::at("a caller", error))?;
        sessions.push(own.map_err(|status| Failure::at("beginning a session", status))?);
    }
    Ok(sessions)
}
