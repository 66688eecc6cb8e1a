//! The task that follows the authority: one session after another.

use std::{sync::Arc, time::Duration};

use tessera_core::Cursor;
use tonic::transport::Endpoint;

use super::{session::Session, view::Shared};
use crate::{connection::Credential, diagnosis::Plaintext, problem_log::ProblemLog, retry::Backoff};

const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What outlives a session.
pub(super) struct Following {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) credential: Credential,
    pub(super) plaintext: Option<Plaintext>,
    /// The cursor of the last thing applied; none: a snapshot is needed.
    pub(super) place: Option<String>,
    /// The key set that the keys were read for; none: they may have changed.
    pub(super) key_set: Option<String>,
    pub(super) backoff: Backoff,
    pub(super) problems: ProblemLog,
}

/// Follows until it is aborted.
pub(super) async fn follow(shared: Arc<Shared>, endpoint: Endpoint, credential: Credential) {
    let plaintext = shared.options.connection.plaintext();
    let mut following = Following {
        shared,
        plaintext,
        endpoint,
        credential,
        place: None,
        key_set: None,
        backoff: Backoff::new(BACKOFF, BACKOFF_MAX),
        problems: ProblemLog::new(
            "following the revocations was interrupted",
            "the revocations are followed",
        ),
    };
    loop {
        let end = match Session::open(&mut following).await {
            Ok(session) => session.run().await,
            Err(end) => end,
        };
        if end.starts_again {
            following.place = None;
        }
        following.problems.failed(&end.problem.text);
        following.shared.problem.send_replace(Some(end.problem));
        tokio::time::sleep(following.backoff.wait()).await;
    }
}

impl Following {
    /// Everything up to `cursor` is in force.
    pub(super) fn reached(&mut self, cursor: &str) {
        self.place = Some(cursor.to_owned());
        // To go on from, a cursor is the authority's own affair. What can't be read is nobody's place.
        self.shared.place.send_replace(Cursor::parse(cursor).ok());
    }
}
