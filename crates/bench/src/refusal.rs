//! One revocation to many verifiers of the client crate: how long each keeps accepting the token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_client::{
    Client, Decision, Verifier, VerifierOptions,
    v1::{IssueRequest, RevokeRequest, revoke_request::Target as Revoked},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    failure::Failure,
    stage::{REALM, Target},
    statistics::{Latencies, Percentiles},
};

const AUDIENCE: &str = "api";
/// Long enough that no verifier becomes stale too early, and short enough that pings are not what is measured.
const BOUND: Duration = Duration::from_secs(10);
/// The longest time for any step.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Verifiers in this process, each with a separate connection, and the client that revokes.
pub(crate) struct Verifiers {
    client: Client,
    /// Verifiers that must become fresh, and accept, before a round.
    verifiers: Arc<[Verifier]>,
    /// The next revocation, sent to all at once.
    next: watch::Sender<Option<Revocation>>,
    refusals: mpsc::UnboundedReceiver<Result<Instant, Failure>>,
    /// Ended when this is dropped.
    _tasks: JoinSet<()>,
}

/// A revoked token, and its position in the log.
#[derive(Clone)]
struct Revocation {
    token: String,
    cursor: String,
}

/// The times of the verifiers' refusals.
pub(crate) struct Refusals {
    /// From Revoke's answer to a verifier's refusal.
    pub(crate) after_answer: Percentiles,
    /// From its call.
    pub(crate) after_call: Percentiles,
}

impl Verifiers {
    /// Starts `count` verifiers, and waits until each is fresh.
    pub(crate) async fn of(server: &Target, count: u16) -> Result<Self, Failure> {
        let connection = server.connection()?;
        let client = Client::new(&connection).map_err(|error| Failure::at("making a client", error))?;
        let options = VerifierOptions::new(connection, REALM, AUDIENCE)
            .map_err(|error| Failure::at("setting up a verifier", error))?
            .staleness_bound(BOUND)
            .cache_capacity(100);
        let (next, _) = watch::channel(None);
        let (report, refusals) = mpsc::unbounded_channel();
        let (mut verifiers, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..count {
            let verifier = Verifier::start(options.clone());
            let verifier = verifier.map_err(|error| Failure::at("starting a verifier", error))?;
            let ready = in_time("a verifier is ready", verifier.ready(Duration::MAX)).await?;
            ready.map_err(|error| Failure::at("waiting for a verifier", error))?;
            tasks.spawn(refuse(verifier.clone(), next.subscribe(), report.clone()));
            verifiers.push(verifier);
        }
        Ok(Self {
            client,
            verifiers: verifiers.into(),
            next,
            refusals,
            _tasks: tasks,
        })
    }

    /// Revokes one session after the other for `time`: each once all verifiers refuse the previous one.
    pub(crate) async fn measure(&mut self, time: Duration) -> Result<Refusals, Failure> {
        let (mut after_answer, mut after_call) = (Latencies::default(), Latencies::default());
        let end = Instant::now() + time;
        while Instant::now() < end {
            let (token, session) = self.issue().await?;
            self.check_that_all_accept(&token)?;
            let began = Instant::now();
            let revoked = self.client.revoke(RevokeRequest {
                target: Some(Revoked::SessionId(session)),
                ..RevokeRequest::default()
            });
            let revoked = revoked.await.map_err(|error| Failure::at("revoking", error))?;
            let answered = Instant::now();
            self.next.send_replace(Some(Revocation {
                token,
                cursor: revoked.cursor,
            }));
            for _ in 0..self.verifiers.len() {
                let refused = in_time("a verifier refuses", self.refusals.recv()).await?;
                let refused = refused.ok_or_else(|| Failure::new("all verifiers ended"))??;
                after_answer.add(refused.saturating_duration_since(answered));
                after_call.add(refused.saturating_duration_since(began));
            }
        }
        Ok(Refusals {
            after_answer: after_answer.into_percentiles(),
            after_call: after_call.into_percentiles(),
        })
    }

    async fn issue(&self) -> Result<(String, String), Failure> {
        let issued = self.client.issue(IssueRequest {
            subject: "user:ann".to_owned(),
            roles: vec!["role:editor".to_owned()],
            audience: AUDIENCE.to_owned(),
            without_refresh: true,
            ..IssueRequest::default()
        });
        let issued = issued
            .await
            .map_err(|error| Failure::at("issuing a token", error))?;
        let token = issued.tokens.unwrap_or_default().access_token;
        Ok((token, issued.session_id))
    }

    /// A refusal before the revocation would improve the figure.
    fn check_that_all_accept(&self, token: &str) -> Result<(), Failure> {
        let refusing = self
            .verifiers
            .iter()
            .find(|v| v.verify(token, None).claims().is_none());
        match refusing {
            None => Ok(()),
            Some(verifier) => Err(Failure::new(format!("a good token is refused by {verifier:?}"))),
        }
    }
}

/// Reports when `verifier` has applied each revocation, and refuses by it.
async fn refuse(
    verifier: Verifier,
    mut next: watch::Receiver<Option<Revocation>>,
    report: mpsc::UnboundedSender<Result<Instant, Failure>>,
) {
    while next.changed().await.is_ok() {
        let Some(Revocation { token, cursor }) = next.borrow_and_update().clone() else {
            continue;
        };
        let applied = verifier.applied(&cursor).await;
        let refused = match verifier.verify(&token, None) {
            Decision::Deny(_) => Ok(Instant::now()),
            decision => Err(Failure::new(format!(
                "{applied:?}, and not refused: {decision:?}"
            ))),
        };
        if report.send(refused).is_err() {
            return;
        }
    }
}

async fn in_time<T>(what: &str, happens: impl Future<Output = T>) -> Result<T, Failure> {
    let happened = tokio::time::timeout(TIME_MAX, happens).await;
    happened.map_err(|_| Failure::at(what, "nothing happened"))
}
