//! Showing sessions.

use std::{mem::size_of, sync::Arc};

use tessera_core::{ClientName, Condition, Label, RealmName, RoleName, Scope, Session, SessionId, Subject};
use tessera_policy::Permission;
use tessera_store::{Page, PageRequest, SessionIndex, StoredSession};

use crate::{
    error::Unavailable,
    page::{LIST_BYTES_MAX, Listed, page_request},
    principal::Principal,
    session::{error::SessionError, sessions::Sessions},
};

/// Sessions that are read at once: when a page is full, at most this number was read without use.
const STEP: usize = 16;

/// A session and its current condition, which considers everything that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// The session.
    pub session: Session,
    /// Its current condition.
    pub condition: Condition,
}

/// The attribute by which sessions are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionsBy {
    /// A subject.
    Subject(Subject),
    /// A client.
    Client(ClientName),
    /// A label.
    Label(Label),
    /// The caller's realm.
    Realm,
}

impl Sessions {
    /// One session.
    ///
    /// # Errors
    /// [`SessionError::NotFound`] also if the caller may not see it.
    pub async fn session(&self, principal: &Principal, id: SessionId) -> Result<ListedSession, SessionError> {
        let stored = self
            .shared
            .store
            .session(id)
            .await?
            .ok_or(SessionError::NotFound)?;
        let session = &stored.session;
        let may_see = session.realm == *principal.realm_name()
            && (session.client == *principal.client()
                || self.shared.require(principal, &Permission::ReadSessions).is_ok());
        if !may_see {
            return Err(SessionError::NotFound);
        }
        Ok(self.listed(stored))
    }

    /// The sessions of a subject, a client, a label or the realm, oldest first. A page ends at [`LIST_BYTES_MAX`], too.
    ///
    /// # Errors
    /// [`SessionError::NotAllowed`] if they do not belong to the caller and policy does not permit it.
    pub async fn sessions(
        &self,
        principal: &Principal,
        by: SessionsBy,
        page_size: usize,
        page_token: &str,
    ) -> Result<Listed<ListedSession>, SessionError> {
        if !matches!(&by, SessionsBy::Client(client) if client == principal.client()) {
            self.shared.require(principal, &Permission::ReadSessions)?;
        }
        let realm = principal.realm_name().clone();
        let index = match by {
            SessionsBy::Subject(subject) => SessionIndex::Subject(realm, subject),
            SessionsBy::Client(client) => SessionIndex::Client(realm, client),
            SessionsBy::Label(label) => SessionIndex::Label(realm, label),
            SessionsBy::Realm => SessionIndex::Realm(realm),
        };
        let request = page_request(page_size, page_token, |text| SessionId::parse(text).ok())
            .ok_or(SessionError::PageTokenInvalid)?;
        let page = self.page_of_sessions(&index, request).await?;
        let items = page.items.into_iter().map(|stored| self.listed(stored)).collect();
        let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
        Ok(Listed {
            items,
            next_page_token,
        })
    }

    /// How many sessions of a realm are stored, including those that ended and are not removed yet.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn session_count(&self, realm: &RealmName) -> Result<u64, Unavailable> {
        Ok(self.shared.store.session_count(realm).await?)
    }

    /// Reads a page in steps, and ends it when it is full.
    async fn page_of_sessions(
        &self,
        index: &SessionIndex,
        wanted: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, Unavailable> {
        let mut items: Vec<StoredSession> = Vec::new();
        let mut bytes: usize = 0;
        let mut after = wanted.after;
        loop {
            let limit = STEP.min(wanted.limit.saturating_sub(items.len()));
            let request = PageRequest { after, limit };
            let step = self.shared.store.sessions(index, request).await?;
            for stored in step.items {
                bytes = bytes.saturating_add(bytes_of(&stored.session));
                if bytes > LIST_BYTES_MAX
                    && let Some(last) = items.last()
                {
                    let next = Some(last.session.id);
                    return Ok(Page { items, next });
                }
                items.push(stored);
            }
            if step.next.is_none() || items.len() >= wanted.limit {
                let next = step.next;
                return Ok(Page { items, next });
            }
            after = step.next;
        }
    }

    fn listed(&self, stored: StoredSession) -> ListedSession {
        let condition = match (stored.session.condition(self.shared.clock.now()), stored.ended) {
            (Condition::Active, Some(reason)) => Condition::Revoked(reason),
            (condition, _) => condition,
        };
        ListedSession {
            session: Arc::unwrap_or_clone(stored.session),
            condition,
        }
    }
}

/// About the number of bytes that a session takes in an answer, and not fewer.
fn bytes_of(session: &Session) -> usize {
    let scopes = session.scopes.iter().chain(session.lost.iter());
    let texts = scopes
        .map(Scope::as_str)
        .chain(session.roles.iter().map(RoleName::as_str))
        .chain(session.labels.iter().map(Label::as_str))
        .chain([
            session.subject.as_str(),
            session.client.as_str(),
            session.audience.as_str(),
        ]);
    // Each text has a tag and a length before it.
    size_of::<Session>() + texts.map(|text| text.len() + 3).sum::<usize>()
}
