//! The current revocations: the log folded into look-ups with a constant cost for any number of entries.
//!
//! The store folds events into it as it commits them, introspection and verifiers query it. It is a plain value; an
//! owner that shares it puts a lock around it.

use std::collections::{BTreeMap, HashMap};

use crate::{
    claims::AccessClaims,
    event::{Event, EventBody},
    id::KeyId,
    name::{ClientName, Label, RealmName, Subject},
    revoke_reason::RevokeReason,
    scope::Scope,
    sequence::Sequence,
    session::Session,
    time::Timestamp,
};

mod id_map;
mod narrowings;

use id_map::IdSet;
use narrowings::Narrowings;

/// How many entries that do not concern a single token or session are forgotten at once.
const FORGOTTEN_MAX: usize = 4096;

/// The revocations that can still matter. Almost all concern a single token or session: each of those takes about 32
/// bytes, or about 50 if a session lost scopes. The others are kept in full.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    tokens: IdSet,
    sessions: IdSet,
    narrowed: Narrowings,
    keys: HashMap<KeyId, Entry>,
    realms: HashMap<RealmName, InRealm>,
    /// When each entry that does not concern a single token or session stops mattering, so that forgetting is never a
    /// full scan.
    expiry: BTreeMap<(Timestamp, Sequence), Target>,
    through: Sequence,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: Sequence,
    until: Timestamp,
}

/// Everything that ended together with others in one realm.
#[derive(Clone, Debug, Default)]
struct InRealm {
    whole: Option<Entry>,
    subjects: HashMap<Subject, Entry>,
    clients: HashMap<ClientName, Entry>,
    labels: HashMap<Label, Entry>,
}

#[derive(Clone, Debug)]
enum Target {
    Key(KeyId),
    Subject(RealmName, Subject),
    Client(RealmName, ClientName),
    Label(RealmName, Label),
    Realm(RealmName),
}

impl Revocations {
    /// Folds one event in, keeping it until its `relevant_until`.
    pub fn apply(&mut self, event: &Event) {
        self.apply_until(event, event.relevant_until);
    }

    /// Folds one event in, keeping it until `until`: the authority keeps the end of *sessions* longer than verifiers,
    /// which know only access tokens.
    pub fn apply_until(&mut self, event: &Event, until: Timestamp) {
        self.through = self.through.max(event.sequence);
        match &event.body {
            EventBody::TokenRevoked { token, .. } => self.tokens.insert(token.as_bytes(), until),
            EventBody::SessionRevoked { session, .. } => self.sessions.insert(session.as_bytes(), until),
            EventBody::ScopesNarrowed { session, lost, .. } => {
                self.narrowed.add(session, lost, event.sequence, until);
            }
            EventBody::SubjectRevoked { .. }
            | EventBody::ClientRevoked { .. }
            | EventBody::LabelRevoked { .. }
            | EventBody::RealmRevoked
            | EventBody::KeyPublished { .. }
            | EventBody::KeyActivated { .. }
            | EventBody::KeyRevoked { .. }
            | EventBody::ApiKeyRevoked { .. }
            | EventBody::PolicyApplied { .. } => self.apply_to_target(event, until),
        }
    }

    fn apply_to_target(&mut self, event: &Event, until: Timestamp) {
        let Some(target) = Target::of(event) else { return };
        let entry = Entry {
            sequence: event.sequence,
            until,
        };
        if let Some(older) = self.entry(&target) {
            // A replayed event changes nothing; a later one of the same target replaces the earlier.
            if older.sequence > entry.sequence {
                return;
            }
            self.expiry.remove(&(older.until, older.sequence));
        }
        self.expiry.insert((entry.until, event.sequence), target.clone());
        self.put(target, entry);
    }

    /// Notes that nothing up to `sequence` is missing, although the last events revoked nothing or were forgotten.
    pub fn advance(&mut self, sequence: Sequence) {
        self.through = self.through.max(sequence);
    }

    /// The last event folded in.
    #[must_use]
    pub fn through(&self) -> Sequence {
        self.through
    }

    /// Whether an access token, signed with `key`, is revoked.
    #[must_use]
    pub fn revokes_token(&self, claims: &AccessClaims, key: &KeyId) -> bool {
        self.tokens.contains(claims.token_id.as_bytes())
            || self.sessions.contains(claims.session.as_bytes())
            || (!self.keys.is_empty() && self.keys.contains_key(key))
            || self
                .ended_by(
                    &claims.realm,
                    &claims.subject,
                    &claims.client,
                    &claims.labels,
                    claims.rev,
                )
                .is_some()
    }

    /// Whether a change of policy took `scope` from the token after it was issued.
    #[must_use]
    pub fn narrows(&self, claims: &AccessClaims, scope: &Scope) -> bool {
        self.narrowed.took(&claims.session, scope, claims.rev)
    }

    /// Why a session ended together with others, if it did. The reason why it ended alone is in the session itself.
    #[must_use]
    pub fn revokes_session(&self, session: &Session) -> Option<RevokeReason> {
        self.ended_by(
            &session.realm,
            &session.subject,
            &session.client,
            &session.labels,
            session.rev,
        )
    }

    /// Forgets entries that stopped mattering before `now`; if there are very many, some of them in the next calls.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.tokens.forget_expired(now, drop);
        self.sessions.forget_expired(now, drop);
        self.narrowed.forget_expired(now);
        for _ in 0..FORGOTTEN_MAX {
            let Some(first) = self.expiry.first_entry().filter(|first| first.key().0 < now) else {
                return;
            };
            let target = first.remove();
            self.remove(&target);
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.sessions.len() + self.narrowed.len() + self.expiry.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ended_by(
        &self,
        realm: &RealmName,
        subject: &Subject,
        client: &ClientName,
        labels: &[Label],
        rev: Sequence,
    ) -> Option<RevokeReason> {
        let ended = self.realms.get(realm)?;
        let is_after = |entry: &Entry| rev < entry.sequence;
        if ended.whole.as_ref().is_some_and(is_after) {
            Some(RevokeReason::Realm)
        } else if ended.subjects.get(subject).is_some_and(is_after) {
            Some(RevokeReason::Subject)
        } else if ended.clients.get(client).is_some_and(is_after) {
            Some(RevokeReason::Client)
        } else if labels
            .iter()
            .any(|label| ended.labels.get(label).is_some_and(is_after))
        {
            Some(RevokeReason::Label)
        } else {
            None
        }
    }

    // === what is not of one token or session ===

    fn entry(&self, target: &Target) -> Option<Entry> {
        let realm = |name| self.realms.get(name);
        match target {
            Target::Key(key) => self.keys.get(key).copied(),
            Target::Subject(name, subject) => realm(name)?.subjects.get(subject).copied(),
            Target::Client(name, client) => realm(name)?.clients.get(client).copied(),
            Target::Label(name, label) => realm(name)?.labels.get(label).copied(),
            Target::Realm(name) => realm(name)?.whole,
        }
    }

    fn put(&mut self, target: Target, entry: Entry) {
        match target {
            Target::Key(key) => drop(self.keys.insert(key, entry)),
            Target::Subject(name, subject) => drop(self.realm(&name).subjects.insert(subject, entry)),
            Target::Client(name, client) => drop(self.realm(&name).clients.insert(client, entry)),
            Target::Label(name, label) => drop(self.realm(&name).labels.insert(label, entry)),
            Target::Realm(name) => self.realm(&name).whole = Some(entry),
        }
    }

    fn remove(&mut self, target: &Target) {
        match target {
            Target::Key(key) => drop(self.keys.remove(key)),
            Target::Subject(name, subject) => drop(self.realm(name).subjects.remove(subject)),
            Target::Client(name, client) => drop(self.realm(name).clients.remove(client)),
            Target::Label(name, label) => drop(self.realm(name).labels.remove(label)),
            Target::Realm(name) => self.realm(name).whole = None,
        }
    }

    fn realm(&mut self, name: &RealmName) -> &mut InRealm {
        self.realms.entry(name.clone()).or_default()
    }
}

impl Target {
    fn of(event: &Event) -> Option<Self> {
        let realm = || event.realm.clone();
        Some(match &event.body {
            EventBody::SubjectRevoked { subject } => Self::Subject(realm(), subject.clone()),
            EventBody::ClientRevoked { client } => Self::Client(realm(), client.clone()),
            EventBody::LabelRevoked { label } => Self::Label(realm(), label.clone()),
            EventBody::RealmRevoked => Self::Realm(realm()),
            EventBody::KeyRevoked { key } => Self::Key(*key),
            EventBody::TokenRevoked { .. }
            | EventBody::SessionRevoked { .. }
            | EventBody::ScopesNarrowed { .. }
            | EventBody::KeyPublished { .. }
            | EventBody::KeyActivated { .. }
            | EventBody::ApiKeyRevoked { .. }
            | EventBody::PolicyApplied { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{PolicyRevision, SessionId, TokenId},
        name::Audience,
        scope::ScopeSet,
    };

    const KEY: &str = "k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs";

    fn event(sequence: u64, until: i64, body: EventBody) -> Event {
        Event {
            sequence: Sequence(sequence),
            occurred_at: Timestamp::EPOCH,
            relevant_until: Timestamp::from_seconds(until),
            realm: RealmName::parse("production").unwrap(),
            note: String::new(),
            body,
        }
    }

    fn subject_revoked(sequence: u64, until: i64) -> Event {
        event(
            sequence,
            until,
            EventBody::SubjectRevoked {
                subject: Subject::parse("user:ann").unwrap(),
            },
        )
    }

    fn ends(revocations: &Revocations, realm: &str, subject: &str, rev: u64) -> bool {
        let client = ClientName::parse("client:cms").unwrap();
        revocations
            .ended_by(
                &RealmName::parse(realm).unwrap(),
                &Subject::parse(subject).unwrap(),
                &client,
                &[],
                Sequence(rev),
            )
            .is_some()
    }

    #[test]
    fn what_was_issued_before_ends_and_what_is_issued_after_does_not() {
        let mut revocations = Revocations::default();
        revocations.apply(&subject_revoked(5, 100));
        assert!(ends(&revocations, "production", "user:ann", 4));
        assert!(!ends(&revocations, "production", "user:ann", 5));
        assert!(!ends(&revocations, "sandbox", "user:ann", 4));
        assert!(!ends(&revocations, "production", "user:bob", 4));
    }

    fn scopes_narrowed(sequence: u64, until: i64, lost: &str) -> Event {
        event(
            sequence,
            until,
            EventBody::ScopesNarrowed {
                session: SessionId::from_bytes([1; 16]),
                client: ClientName::parse("client:cms").unwrap(),
                audience: Audience::parse("api").unwrap(),
                lost: [Scope::parse(lost).unwrap()].into_iter().collect(),
                policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
            },
        )
    }

    fn claims(session: u8, rev: u64) -> AccessClaims {
        AccessClaims {
            issuer: "https://tessera.example".to_owned(),
            subject: Subject::parse("user:ann").unwrap(),
            audience: Audience::parse("api").unwrap(),
            token_id: TokenId::from_bytes([2; 16]),
            issued_at: Timestamp::EPOCH,
            not_before: Timestamp::EPOCH,
            expires_at: Timestamp::from_seconds(100),
            scopes: ScopeSet::default(),
            roles: Vec::new(),
            realm: RealmName::parse("production").unwrap(),
            client: ClientName::parse("client:cms").unwrap(),
            session: SessionId::from_bytes([session; 16]),
            generation: 1,
            rev: Sequence(rev),
            policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn losses_add_up_and_concern_older_tokens_of_the_session_only() {
        let (read, write) = (Scope::parse("a:read").unwrap(), Scope::parse("a:write").unwrap());
        let mut revocations = Revocations::default();
        revocations.apply(&scopes_narrowed(5, 100, "a:read"));
        revocations.apply(&scopes_narrowed(9, 90, "a:write"));
        revocations.apply(&scopes_narrowed(5, 100, "a:read"));
        let taken = |claims: &AccessClaims| {
            (
                revocations.narrows(claims, &read),
                revocations.narrows(claims, &write),
            )
        };
        assert_eq!(taken(&claims(1, 4)), (true, true));
        assert_eq!(taken(&claims(1, 5)), (false, true));
        assert_eq!(taken(&claims(1, 9)), (false, false));
        assert_eq!(taken(&claims(2, 4)), (false, false));
        assert!(!revocations.revokes_token(&claims(1, 4), &KeyId::parse(KEY).unwrap()));
        revocations.forget_expired(Timestamp::from_seconds(95));
        assert!(revocations.narrows(&claims(1, 4), &read));
        revocations.forget_expired(Timestamp::from_seconds(101));
        assert!(revocations.is_empty() && revocations.narrowed.len() == 0 && revocations.expiry.is_empty());
    }

    #[test]
    fn a_later_event_of_the_same_target_replaces_the_earlier_and_its_expiry() {
        let mut revocations = Revocations::default();
        revocations.apply(&subject_revoked(5, 100));
        revocations.apply(&subject_revoked(9, 200));
        revocations.apply(&subject_revoked(5, 100));
        revocations.forget_expired(Timestamp::from_seconds(150));
        assert!(ends(&revocations, "production", "user:ann", 8));
        revocations.forget_expired(Timestamp::from_seconds(201));
        assert!(revocations.is_empty() && revocations.expiry.is_empty());
        assert_eq!(revocations.through(), Sequence(9));
    }
}
