//! The authority of a test.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tessera_authority::{Authority, Trigger};
use tessera_client::{
    ApiKey, Client, ClientOptions, Connection, Verifier, VerifierOptions,
    v1::{IssueRequest, RevokeRequest, RevokeResponse, revoke_request::Target},
};
use tessera_core::{ClientName, KeyStatus, RealmName};

use crate::{
    clock::TestClock,
    process::{Disk, Process, Served, Settings},
    proxy::Proxy,
    serving,
    waiting::soon,
};

const REALM: &str = "production";
/// Enough for a busy machine; short, because a revocation waits as long for a verifier that a test has dropped.
const STALENESS_BOUND: Duration = Duration::from_secs(5);
/// Longer than the fence waits for a verifier that is gone.
const DEADLINE: Duration = Duration::from_secs(20);

/// An authority in this process. It stops when it is dropped.
///
/// [`stall`](Self::stall) holds up every connection to [`address`](Self::address); the calls of the kit itself, and of
/// [`client`](Self::client), are not held up.
pub struct TestAuthority {
    settings: Settings,
    disk: Disk,
    authority: Arc<Authority>,
    clock: TestClock,
    audience: String,
    client: Client,
    api_key: ApiKey,
    proxy: Proxy,
    direct_address: String,
    verifiers: AtomicU32,
    /// `None` while it does not run.
    process: Option<Process>,
}

/// A session that was issued. Its `Debug` output shows no token.
#[derive(Clone)]
pub struct Session {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// The session id, for [`TestAuthority::revoke_session`].
    pub session_id: String,
    /// The granted scopes, sorted.
    pub scopes: Vec<String>,
}

impl TestAuthority {
    pub(crate) async fn of(settings: Settings, disk: Disk, served: Served) -> Self {
        let Served {
            authority,
            audience,
            address,
            process,
        } = served;
        let api_key = new_api_key(&authority, REALM, &settings.client).await;
        let connection = Connection::new(&address, api_key.clone());
        let options = ClientOptions {
            deadline: DEADLINE,
            ..ClientOptions::default()
        };
        Self {
            clock: settings.clock.clone(),
            settings,
            disk,
            authority,
            audience,
            client: Client::with_options(&connection, options).expect("the address is one"),
            api_key,
            proxy: Proxy::to(&address).await,
            direct_address: address,
            verifiers: AtomicU32::new(0),
            process: Some(process),
        }
    }

    // === where it is, and who may call it ===

    /// The address for services under test, as in `TESSERA_ADDR`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.proxy.address()
    }

    /// The address on which it listens itself, which [`stall`](Self::stall) does not affect.
    #[must_use]
    pub fn direct_address(&self) -> &str {
        &self.direct_address
    }

    /// An API key of the kit's client (`client:dev`) in the realm `production`, as in `TESSERA_API_KEY`.
    #[must_use]
    pub fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    /// A new API key of another client, such as `client:shop`, or in another realm.
    ///
    /// # Panics
    /// Panics if one of them is not a valid name.
    pub async fn api_key_of(&self, realm: &str, client: &str) -> ApiKey {
        new_api_key(&self.authority, realm, client).await
    }

    /// The address with the API key, from which [`Client`] and [`Verifier`] are made.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection::new(self.address(), self.api_key.clone())
    }

    /// A client that is never held up, to set up what a test needs.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The authority itself, for operations that the kit does not offer.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    // === verifiers ===

    /// The options with which a verifier for `audience` follows this authority, with the same clock and a staleness
    /// bound of 5 s.
    ///
    /// Each is `required`: revoking through the kit waits for it, and if it is gone, for as long as its bound. Start
    /// only one with the same options; get new options for another.
    ///
    /// # Panics
    /// Panics if `audience` is not valid.
    pub fn verifier_options(&self, audience: &str) -> VerifierOptions {
        let number = self.verifiers.fetch_add(1, Ordering::Relaxed);
        VerifierOptions::new(self.connection(), REALM, audience)
            .and_then(|options| options.subscriber(&format!("testkit-{number}")))
            .expect("an audience")
            .required(true)
            .staleness_bound(STALENESS_BOUND)
            .clock(self.clock.shared())
    }

    /// A verifier that is ready.
    ///
    /// # Panics
    /// Panics if it does not become ready.
    pub async fn verifier(&self, audience: &str) -> Verifier {
        let verifier = Verifier::start(self.verifier_options(audience)).expect("good options");
        let ready = soon("a verifier is ready", verifier.ready(Duration::MAX)).await;
        ready.expect("the authority lets it watch");
        verifier
    }

    // === sessions ===

    /// A session of `subject` for the audience `api` (if policy has none of that name, its first) with these scopes, in
    /// the roles that the kit's client asserts: `role:editor` unless
    /// [`TestAuthorityBuilder::with_policy`](crate::TestAuthorityBuilder::with_policy) says otherwise.
    ///
    /// # Panics
    /// Panics if policy does not grant all of them.
    pub async fn issue(&self, subject: &str, scopes: &[&str]) -> Session {
        self.issue_with(IssueRequest {
            subject: subject.to_owned(),
            roles: self.settings.roles.clone(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            audience: self.audience.clone(),
            require_all: true,
            ..IssueRequest::default()
        })
        .await
    }

    /// A session for this request.
    ///
    /// # Panics
    /// Panics if the authority refuses.
    pub async fn issue_with(&self, request: IssueRequest) -> Session {
        let issued = self.client.issue(request).await;
        let issued =
            issued.unwrap_or_else(|error| panic!("{} gets no session: {error}", self.settings.client));
        let tokens = issued.tokens.expect("an answer has tokens");
        Session {
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            session_id: issued.session_id,
            scopes: tokens.scopes,
        }
    }

    /// Ends everything of a subject.
    ///
    /// # Panics
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_subject(&self, subject: &str) {
        self.revoke(Target::Subject(subject.to_owned())).await;
    }

    /// Ends one session.
    ///
    /// # Panics
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_session(&self, session: &Session) {
        self.revoke(Target::SessionId(session.session_id.clone())).await;
    }

    /// Ends everything that `target` names. Returns when every verifier of this kit knows, unless the authority is
    /// [stalled](Self::stall).
    ///
    /// # Panics
    /// Panics if the authority refuses.
    pub async fn revoke(&self, target: Target) -> RevokeResponse {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        let revoked = self.client.revoke(request).await;
        let revoked =
            revoked.unwrap_or_else(|error| panic!("{} can't revoke: {error}", self.settings.client));
        if !self.proxy.is_stalled() {
            let fence = self.client.await_propagation(&revoked.cursor).await;
            fence.unwrap_or_else(|error| panic!("not every verifier knows of the revocation: {error}"));
        }
        revoked
    }

    /// Reads the policy directory again, and puts it in force.
    ///
    /// # Panics
    /// Panics if it is refused, or if there is no directory.
    pub async fn reload_policy(&self) {
        let reloaded = self.authority.policies().reload(Trigger::Call).await;
        reloaded.unwrap_or_else(|error| panic!("the policy is not reloaded: {error}"));
    }

    /// Replaces the signing key, as `tessera key rotate` does: moves the clock on by the time for which a new key is
    /// published, and returns when it signs.
    ///
    /// # Panics
    /// Panics if the authority refuses: the kit's client needs `tessera/keys:rotate` and `read`.
    pub async fn rotate_signing_key(&self) {
        let refused = |error: &dyn fmt::Display| -> ! {
            panic!("{} can't replace the signing key: {error}", self.settings.client)
        };
        let operator = self
            .authority
            .credentials()
            .authenticate(self.api_key.expose(), Ipv4Addr::LOCALHOST.into())
            .await;
        let operator = operator.unwrap_or_else(|error| refused(&error));
        let rotated = self
            .authority
            .signing_keys()
            .rotate_signing_key(&operator, false)
            .await;
        let new = rotated.unwrap_or_else(|error| refused(&error)).id;
        let published_for = self.authority.signing_keys().key_rotation().publish_for;
        self.clock.advance(Duration::from_secs(published_for.0.into()));
        let signs = || {
            let keys = self.authority.signing_keys().list(&operator);
            let keys = keys.unwrap_or_else(|error| refused(&error));
            keys.iter()
                .any(|key| key.id == new && key.status == KeyStatus::Active)
        };
        soon("the new key signs", async {
            while !signs() {
                let advanced = self.authority.signing_keys().advance_signing_keys().await;
                advanced.unwrap_or_else(|error| refused(&error));
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    // === time and weather ===

    /// The clock of the authority and of its verifiers.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Holds up all traffic to and from [`address`](Self::address), with its connections open: the worst failure of a
    /// network. Verifiers become stale when their bound has passed.
    pub fn stall(&self) {
        self.proxy.stall();
    }

    /// Releases what [`stall`](Self::stall) holds up.
    pub fn resume(&self) {
        self.proxy.resume();
    }

    /// The proxy between the authority and the connections to [`address`](Self::address), to delay or to cut them.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Stops it, and waits until it has stopped.
    ///
    /// # Panics
    /// Panics if it does not stop, or not cleanly.
    pub async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // If the other end is gone, it has stopped.
        let _ = process.stop.take().map(|stop| stop.send(()));
        let stopped = soon("the authority stops", &mut process.serving).await;
        let stopped = stopped.expect("serving does not panic");
        stopped.unwrap_or_else(|error| panic!("the authority did not stop cleanly: {error}"));
    }

    /// Ends it immediately, like a crash: no peer is told, and connections break. What it has acknowledged is kept for
    /// [`restart`](Self::restart).
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again after [`kill`](Self::kill), at the same address and with all its data. The policy is read again
    /// if it has a directory. If it still runs, it is killed before.
    ///
    /// Verifiers follow it again by themselves. Since the authority does not know which of them accept tokens until
    /// they do, revoking waits until their staleness bound has passed.
    ///
    /// # Panics
    /// As [`TestAuthorityBuilder::start`](crate::TestAuthorityBuilder::start), and after [`stop`](Self::stop), which
    /// closes the store permanently.
    pub async fn restart(&mut self) {
        self.kill().await;
        let address = self.direct_address.trim_start_matches("http://");
        address.clone_into(&mut self.settings.listen);
        let served = self.settings.serve(&self.disk).await;
        self.authority = served.authority;
        self.process = Some(served.process);
    }
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestAuthority")
            .field("address", &self.address())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("session_id", &self.session_id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

async fn new_api_key(authority: &Authority, realm: &str, client: &str) -> ApiKey {
    let realm = RealmName::parse(realm).expect("a realm");
    let client = ClientName::parse(client).expect("a client such as `client:shop`");
    serving::new_api_key(authority, &realm, client).await
}
