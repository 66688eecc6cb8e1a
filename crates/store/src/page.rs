//! Pages of a list.

use tessera_core::{ClientName, CredentialId, Label, RealmName, Session, Subject};

/// The indexes of sessions within a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionIndex {
    /// The sessions of a subject.
    Subject(RealmName, Subject),
    /// The sessions of a client.
    Client(RealmName, ClientName),
    /// The sessions that carry a label.
    Label(RealmName, Label),
    /// The sessions that a credential began.
    Credential(RealmName, CredentialId),
    /// All sessions of a realm.
    Realm(RealmName),
}

impl SessionIndex {
    /// Whether it lists the session.
    #[must_use]
    pub fn has(&self, session: &Session) -> bool {
        match self {
            Self::Subject(realm, subject) => session.realm == *realm && session.subject == *subject,
            Self::Client(realm, client) => session.realm == *realm && session.client == *client,
            Self::Label(realm, label) => session.realm == *realm && session.labels.contains(label),
            Self::Credential(realm, credential) => {
                session.realm == *realm && session.credential == *credential
            }
            Self::Realm(realm) => session.realm == *realm,
        }
    }
}

/// The page to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// The last key of the page before; `None` for the first page.
    pub after: Option<K>,
    /// How many items at most.
    pub limit: usize,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items.
    pub items: Vec<T>,
    /// The last key, if there is another page.
    pub next: Option<K>,
}
