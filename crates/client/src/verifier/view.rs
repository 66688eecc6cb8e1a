//! The state of a verifier: keys, revocations, and since when it may have missed something.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tessera_core::{
    AccessClaims, Clock, Cursor, Event, EventBody, LEEWAY_MAX, Revocations, Scope, ScopeSet, Sequence,
    Timestamp,
};
use tessera_token::{Expectation, Keyring, VerifyError, access, access::Verified};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    decision::{Decision, DenyReason},
    options::VerifierOptions,
};

/// How long a token waits for its position of the log. An answer to a ping takes milliseconds.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// Shared by the handles of a verifier and its follower.
pub(super) struct Shared {
    pub(super) options: VerifierOptions,
    pub(super) clock: Arc<dyn Clock>,
    keys: ArcSwap<Keys>,
    followed: RwLock<Followed>,
    pub(super) unknown_key: Notify,
    /// A token has a position of the log that was not reached here yet.
    pub(super) ahead: Notify,
    pub(super) ready: watch::Sender<bool>,
    /// Everything up to here is in force; `None` before the first checkpoint.
    pub(super) place: watch::Sender<Option<Cursor>>,
    pub(super) problem: watch::Sender<Option<Problem>>,
    /// Which address is followed, or tried.
    pub(super) at: AtomicUsize,
}

/// Why the authority can't be followed now.
pub(super) struct Problem {
    /// The address where it occurred.
    pub(super) address: String,
    pub(super) text: String,
    /// Waiting does not help.
    pub(super) is_permanent: bool,
}

impl Problem {
    pub(super) fn passing(text: &str) -> Self {
        Self {
            address: String::new(),
            text: text.to_owned(),
            is_permanent: false,
        }
    }

    pub(super) fn permanent(text: &str) -> Self {
        Self {
            is_permanent: true,
            ..Self::passing(text)
        }
    }
}

/// The keys of one moment, with the tokens whose signature they verified.
struct Keys {
    keyring: Keyring,
    verified: Cache<[u8; 32], Arc<Signed>>,
}

/// A token whose signature is valid.
pub(super) struct Signed {
    verified: Verified,
    claims: Arc<AccessClaims>,
}

/// The revocations, and how fresh they are.
pub(super) struct Followed {
    pub(super) revoked: Revoked,
    /// Everything durable before this moment has been applied. `None` before the first checkpoint.
    pub(super) fresh_as_of: Option<Instant>,
    /// Revocations of tokens that expired before this may have been left out or forgotten, so no leeway reaches back
    /// beyond it.
    pub(super) forgotten_through: Timestamp,
    /// How many snapshots were taken.
    pub(super) snapshots: u64,
}

/// How far the known state reaches, in time and in the log.
struct Horizon {
    fresh_as_of: Option<Instant>,
    through: Sequence,
}

/// What happens to a token with a position of the log that was not reached here. It may have been issued a moment ago;
/// or its claims were never issued, so that no revocation could match it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ahead {
    /// It is not allowed before the position is known.
    Refused,
    /// It is allowed for as long as the authority has not answered since this moment, when the token already existed:
    /// an answer without that position shows that the position does not exist.
    AllowedUnheard(Instant),
}

impl Ahead {
    fn allows(self, known: &Horizon) -> bool {
        match self {
            Self::Refused => false,
            Self::AllowedUnheard(since) => known.fresh_as_of.is_none_or(|fresh| fresh < since),
        }
    }
}

/// A set of revocations.
#[derive(Default)]
pub(super) struct Revoked {
    pub(super) entries: Revocations,
    /// Whether any scope was ever taken: usually not, and then no token's scopes are checked one by one.
    has_narrowed: bool,
}

impl Shared {
    pub(super) fn new(options: VerifierOptions) -> Self {
        Self {
            clock: Arc::clone(&options.clock),
            keys: ArcSwap::from_pointee(Keys::new(Keyring::default(), options.cache_capacity)),
            options,
            followed: RwLock::new(Followed {
                revoked: Revoked::default(),
                fresh_as_of: None,
                forgotten_through: Timestamp::EPOCH,
                snapshots: 0,
            }),
            unknown_key: Notify::new(),
            ahead: Notify::new(),
            ready: watch::Sender::new(false),
            place: watch::Sender::new(None),
            problem: watch::Sender::new(None),
            at: AtomicUsize::new(0),
        }
    }

    /// A problem, with its address if there are several.
    pub(super) fn told(&self, problem: &Problem) -> String {
        match self.options.connection.addresses().are_several() {
            true => format!("{}: {}", problem.address, problem.text),
            false => problem.text.clone(),
        }
    }

    /// Other keys get a new cache. The same keys keep theirs: any caller can cause them to be read again, with a token
    /// of an unknown key.
    pub(super) fn put_keys(&self, keyring: Keyring) {
        if self.keys.load().keyring == keyring {
            return;
        }
        let capacity = self.options.cache_capacity;
        self.keys.store(Arc::new(Keys::new(keyring, capacity)));
    }

    pub(super) fn followed(&self) -> RwLockReadGuard<'_, Followed> {
        self.followed.read()
    }

    pub(super) fn followed_mut(&self) -> RwLockWriteGuard<'_, Followed> {
        self.followed.write()
    }

    /// The decision on `token` if a staleness up to `bound` is allowed.
    pub(super) fn decide(
        &self,
        token: &str,
        required: Option<&Scope>,
        bound: Duration,
        ahead: Ahead,
    ) -> Decision {
        let keys = self.keys.load();
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let checked = keys
            .signed(token, hash)
            .map_err(|()| self.why_not_signed(token, &keys.keyring))
            .and_then(|signed| self.admit(&signed, required));
        match checked {
            Ok((claims, known)) if claims.rev > known.through && !ahead.allows(&known) => {
                self.ahead.notify_one();
                let behind = known.fresh_as_of.map(|fresh| fresh.elapsed());
                Decision::Stale { bound, behind }
            }
            Ok((claims, known)) => unless_stale(Decision::Allow(claims), known.fresh_as_of, bound),
            // The authority may have a key that is not known here yet.
            Err(DenyReason::UnknownKey) => {
                let fresh_as_of = self.followed().fresh_as_of;
                unless_stale(Decision::Deny(DenyReason::UnknownKey), fresh_as_of, bound)
            }
            Err(reason) => {
                if matches!(reason, DenyReason::Revoked | DenyReason::Expired) {
                    keys.verified.remove(&hash);
                }
                Decision::Deny(reason)
            }
        }
    }

    /// Ready when the token's position of the log is known, if it was ahead of what is known. The answer to a ping
    /// shows it; if none comes soon, the decision on the token does not change.
    pub(super) async fn catch_up(&self, token: &str) {
        let Some((_, claims)) = access::unverified_claims(token) else {
            return;
        };
        let is_ahead = || claims.rev > self.followed().revoked.entries.through();
        let mut place = self.place.subscribe();
        let caught_up = async {
            while is_ahead() {
                if place.changed().await.is_err() {
                    return;
                }
            }
        };
        if is_ahead() {
            // An error means that it is still ahead, which is checked again anyway.
            let _ = tokio::time::timeout(CATCH_UP_MAX, caught_up).await;
        }
    }

    /// What a signed token may be used for, with how fresh that is: both read under one lock.
    fn admit(
        &self,
        signed: &Signed,
        required: Option<&Scope>,
    ) -> Result<(Arc<AccessClaims>, Horizon), DenyReason> {
        self.check(&signed.verified)?;
        let claims = &signed.claims;
        let known = self.followed();
        if claims.expires_at < known.forgotten_through {
            return Err(DenyReason::Expired);
        }
        if known
            .revoked
            .entries
            .revokes_token(claims, signed.verified.key_id())
        {
            return Err(DenyReason::Revoked);
        }
        if let Some(required) = required {
            let required = || required.clone();
            if !claims.scopes.contains(&required()) {
                return Err(DenyReason::ScopeMissing { required: required() });
            }
            if known.revoked.entries.narrows(claims, &required()) {
                return Err(DenyReason::ScopeTaken { required: required() });
            }
        }
        let left = known.revoked.left_of(claims).ok_or(DenyReason::Revoked)?;
        let horizon = Horizon {
            fresh_as_of: known.fresh_as_of,
            through: known.revoked.entries.through(),
        };
        Ok((left, horizon))
    }

    /// Key, time, realm and audience.
    fn check(&self, verified: &Verified) -> Result<(), DenyReason> {
        let expected = Expectation {
            audience: Some(&self.options.audience),
            realm: Some(&self.options.realm),
            leeway: self.options.leeway,
        };
        verified
            .check(&expected, self.clock.now())
            .map_err(|error| match error {
                // Its key has expired, and so has everything that it signed.
                VerifyError::Invalid | VerifyError::Expired => DenyReason::Expired,
                VerifyError::NotYetValid => DenyReason::NotYetValid,
                VerifyError::WrongAudience => DenyReason::WrongAudience,
                VerifyError::WrongRealm => DenyReason::WrongRealm,
            })
    }

    /// Distinguishes the refusals of a token that no key signed: by its own content, which is sufficient for a refusal.
    fn why_not_signed(&self, token: &str, keyring: &Keyring) -> DenyReason {
        match access::unverified_claims(token) {
            None => DenyReason::Malformed,
            Some((id, _)) if keyring.get(&id).is_some() => DenyReason::BadSignature,
            Some((_, claims)) if claims.realm != self.options.realm => DenyReason::WrongRealm,
            Some(_) => {
                self.unknown_key.notify_one();
                DenyReason::UnknownKey
            }
        }
    }
}

/// The moment is taken last: the time that the decision took counts as staleness.
fn unless_stale(decision: Decision, fresh_as_of: Option<Instant>, bound: Duration) -> Decision {
    let behind = fresh_as_of.map(|fresh| Instant::now().saturating_duration_since(fresh));
    if behind.is_some_and(|behind| behind <= bound) {
        decision
    } else {
        Decision::Stale { bound, behind }
    }
}

impl Keys {
    fn new(keyring: Keyring, capacity: u64) -> Self {
        Self {
            keyring,
            verified: Cache::new(usize::try_from(capacity).unwrap_or(usize::MAX)),
        }
    }

    fn signed(&self, token: &str, hash: [u8; 32]) -> Result<Arc<Signed>, ()> {
        if let Some(signed) = self.verified.get(&hash) {
            return Ok(signed);
        }
        let verified = access::verify_signature(token, &self.keyring).map_err(|_| ())?;
        let claims = Arc::new(verified.claims().clone());
        let signed = Arc::new(Signed { verified, claims });
        self.verified.insert(hash, Arc::clone(&signed));
        Ok(signed)
    }
}

impl Followed {
    /// Forgets what no longer mattered before `now`: a minute after the end of the last token that it concerns.
    pub(super) fn forget_before(&mut self, now: Timestamp) {
        self.forgotten_through = self.forgotten_through.max(now.minus(LEEWAY_MAX));
        self.revoked.entries.forget_expired(now);
    }
}

impl Revoked {
    pub(super) fn apply(&mut self, event: &Event) {
        self.has_narrowed |= matches!(event.body, EventBody::ScopesNarrowed { .. });
        self.entries.apply(event);
    }

    /// The claims without the scopes that policy took; `None` if it took all.
    fn left_of(&self, claims: &Arc<AccessClaims>) -> Option<Arc<AccessClaims>> {
        let is_taken = |scope: &&Scope| self.entries.narrows(claims, scope);
        if !self.has_narrowed || !claims.scopes.iter().any(|scope| is_taken(&scope)) {
            return Some(Arc::clone(claims));
        }
        let scopes: ScopeSet = claims
            .scopes
            .iter()
            .filter(|scope| !is_taken(scope))
            .cloned()
            .collect();
        (!scopes.is_empty()).then(|| {
            Arc::new(AccessClaims {
                scopes,
                ..AccessClaims::clone(claims)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{
        Audience, ClientName, PolicyRevision, RealmKind, RealmName, Seconds, SessionId, Subject, TokenId,
    };
    use tessera_token::{ApiKeySecret, ServerKey, ServerKeys, SigningKeyPair, VerifyingKey};

    use super::*;
    use crate::Connection;

    fn shared() -> Shared {
        let api_key = ApiKeySecret::generate(RealmKind::Production).unwrap();
        let connection = Connection::new("http://127.0.0.1:1", api_key);
        Shared::new(VerifierOptions::new(connection, "production", "api").unwrap())
    }

    /// The public half of a new key, as PASERK.
    fn paserk() -> String {
        let sealed_by = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
        let realm = RealmName::parse("production").unwrap();
        let pair = SigningKeyPair::generate().unwrap();
        pair.to_record(&realm, Seconds::DAY, &sealed_by, Timestamp::EPOCH)
            .unwrap()
            .public
    }

    fn keyring(paserks: &[&str], not_after: Option<Timestamp>) -> Keyring {
        let mut keyring = Keyring::default();
        for paserk in paserks {
            let realm = RealmName::parse("production").unwrap();
            let key = VerifyingKey::parse(paserk, realm, "urn:tessera".to_owned(), not_after);
            keyring.insert(key.unwrap());
        }
        keyring
    }

    /// A verifier that knows the log up to position 5, a token of that position, and one of the next.
    fn fresh_up_to_5() -> (Shared, [String; 2]) {
        let shared = shared();
        let sealed_by = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
        let realm = RealmName::parse("production").unwrap();
        let pair = SigningKeyPair::generate().unwrap();
        let record = pair
            .to_record(&realm, Seconds::DAY, &sealed_by, Timestamp::EPOCH)
            .unwrap();
        shared.put_keys(keyring(&[&record.public], None));
        let now = shared.clock.now().floor_to_second();
        let tokens = [5, 6].map(|rev| {
            let claims = AccessClaims {
                issuer: "urn:tessera".to_owned(),
                subject: Subject::parse("user:ann").unwrap(),
                audience: Audience::parse("api").unwrap(),
                token_id: TokenId::from_bytes([2; 16]),
                issued_at: now,
                not_before: now,
                expires_at: now.plus(Seconds(100)),
                scopes: [Scope::parse("a:read").unwrap()].into_iter().collect(),
                roles: Vec::new(),
                realm: realm.clone(),
                client: ClientName::parse("client:cms").unwrap(),
                session: SessionId::from_bytes([1; 16]),
                generation: 1,
                rev: Sequence(rev),
                policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
                labels: Vec::new(),
            };
            access::sign(&claims, &pair).unwrap()
        });
        {
            let mut known = shared.followed_mut();
            known.fresh_as_of = Some(Instant::now());
            known.revoked.entries.advance(Sequence(5));
        }
        (shared, tokens)
    }

    #[test]
    fn a_token_of_a_place_that_was_not_heard_of_is_not_allowed_before_it_is() {
        let (shared, [known, ahead]) = fresh_up_to_5();
        let bound = Duration::from_secs(10);
        let is_allowed =
            |token: &str, ahead| matches!(shared.decide(token, None, bound, ahead), Decision::Allow(_));
        let is_stale =
            |token: &str, ahead| matches!(shared.decide(token, None, bound, ahead), Decision::Stale { .. });
        assert!(is_allowed(&known, Ahead::Refused));
        assert!(is_stale(&ahead, Ahead::Refused));
        // While there is no answer, the modes that fail open allow it; after an answer none does.
        let since = Instant::now();
        assert!(is_allowed(&ahead, Ahead::AllowedUnheard(since)));
        shared.followed_mut().fresh_as_of = Some(since);
        assert!(is_stale(&ahead, Ahead::AllowedUnheard(since)));
        shared.followed_mut().revoked.entries.advance(Sequence(6));
        assert!(is_allowed(&ahead, Ahead::Refused));
    }

    #[test]
    fn keys_that_are_read_again_keep_the_tokens_that_they_verified_and_others_do_not() {
        let (shared, one, two) = (shared(), paserk(), paserk());
        let is_kept = |keyring: Keyring| {
            let before = shared.keys.load_full();
            shared.put_keys(keyring);
            Arc::ptr_eq(&before, &shared.keys.load_full())
        };
        assert!(!is_kept(keyring(&[&one, &two], None)));
        assert!(is_kept(keyring(&[&two, &one], None)));
        assert!(!is_kept(keyring(&[&one, &two], Some(Timestamp::EPOCH))));
        assert!(!is_kept(keyring(&[&one], Some(Timestamp::EPOCH))));
        assert!(!is_kept(keyring(&[&two], Some(Timestamp::EPOCH))));
    }
}
