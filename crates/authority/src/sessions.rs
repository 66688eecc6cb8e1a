//! Looking at sessions (families).

use std::{mem::size_of, sync::PoisonError};

use tessera_core::{
    Binding, ClientName, Family, FamilyId, RevokeReason, RoleName, Scope, Subject, family::Condition,
};
use tessera_policy::Permission;
use tessera_store::{FamilyIndex, Page, PageRequest};

use crate::{
    Authority, Listed, Principal,
    error::{SessionError, Unavailable},
    list::{LIST_BYTES_MAX, page_request},
};

/// Families that are read at once: at most so many are read for nothing when a page is full.
const STEP: usize = 16;

/// A family and what it is now, all that ended it considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The family.
    pub family: Family,
    /// What it is now.
    pub condition: Condition,
}

/// What sessions are listed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionsBy {
    /// A subject.
    Subject(Subject),
    /// A client.
    Client(ClientName),
    /// A binding.
    Binding(Binding),
    /// The caller's realm.
    Realm,
}

impl Authority {
    /// One session.
    ///
    /// # Errors
    /// [`SessionError::NotFound`] also where the caller may not see it.
    pub async fn session(&self, principal: &Principal, id: FamilyId) -> Result<Session, SessionError> {
        let family = self.store.family(id).await?.ok_or(SessionError::NotFound)?;
        let may_see = family.realm == *principal.realm_name()
            && (family.client == *principal.client()
                || self.require(principal, &Permission::ReadSessions).is_ok());
        if !may_see {
            return Err(SessionError::NotFound);
        }
        Ok(self.session_of(family).await?)
    }

    /// The sessions of a subject, a client, a binding or the realm, oldest first. A page ends at [`LIST_BYTES_MAX`], too.
    ///
    /// # Errors
    /// [`SessionError::NotAllowed`] where they are not the caller's own and policy does not permit.
    pub async fn sessions(
        &self,
        principal: &Principal,
        by: SessionsBy,
        page_size: usize,
        page_token: &str,
    ) -> Result<Listed<Session>, SessionError> {
        if !matches!(&by, SessionsBy::Client(client) if client == principal.client()) {
            self.require(principal, &Permission::ReadSessions)?;
        }
        let realm = principal.realm_name().clone();
        let index = match by {
            SessionsBy::Subject(subject) => FamilyIndex::Subject(realm, subject),
            SessionsBy::Client(client) => FamilyIndex::Client(realm, client),
            SessionsBy::Binding(binding) => FamilyIndex::Binding(realm, binding),
            SessionsBy::Realm => FamilyIndex::Realm(realm),
        };
        let request = page_request(page_size, page_token, |text| FamilyId::parse(text).ok())
            .ok_or(SessionError::PageTokenInvalid)?;
        let page = self.page_of_families(&index, request).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for family in page.items {
            items.push(self.session_of(family).await?);
        }
        let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
        Ok(Listed {
            items,
            next_page_token,
        })
    }

    /// Reads a page in steps, and ends it where it is full.
    async fn page_of_families(
        &self,
        index: &FamilyIndex,
        wanted: PageRequest<FamilyId>,
    ) -> Result<Page<Family, FamilyId>, Unavailable> {
        let mut items: Vec<Family> = Vec::new();
        let mut bytes: usize = 0;
        let mut after = wanted.after;
        loop {
            let limit = STEP.min(wanted.limit.saturating_sub(items.len()));
            let request = PageRequest { after, limit };
            let step = self.store.families(index.clone(), request).await?;
            for family in step.items {
                bytes = bytes.saturating_add(bytes_of(&family));
                if bytes > LIST_BYTES_MAX
                    && let Some(last) = items.last()
                {
                    let next = Some(last.id);
                    return Ok(Page { items, next });
                }
                items.push(family);
            }
            if step.next.is_none() || items.len() >= wanted.limit {
                let next = step.next;
                return Ok(Page { items, next });
            }
            after = step.next;
        }
    }

    pub(crate) async fn session_of(&self, family: Family) -> Result<Session, Unavailable> {
        let condition = match family.condition(self.clock.now()) {
            Condition::Active => match self.ended_with_others(&family).await? {
                Some(reason) => Condition::Revoked(reason),
                None => Condition::Active,
            },
            ended => ended,
        };
        Ok(Session { family, condition })
    }

    /// Why a family ended together with others: its subject, client, binding, realm or API key.
    pub(crate) async fn ended_with_others(
        &self,
        family: &Family,
    ) -> Result<Option<RevokeReason>, Unavailable> {
        if let Some(ended) = self.revoked_with_others(family) {
            return Ok(Some(ended));
        }
        let api_key = self.store.api_key(&family.api_key).await?;
        Ok(api_key
            .and_then(|key| key.revoked_at)
            .map(|_| RevokeReason::ApiKey))
    }

    /// Why a family ended by an event about its subject, client, binding or realm.
    pub(crate) fn revoked_with_others(&self, family: &Family) -> Option<RevokeReason> {
        self.store
            .revocations()
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .revokes_family(family)
    }
}

/// About as many bytes as a family takes in an answer, and not fewer.
fn bytes_of(family: &Family) -> usize {
    let scopes = family.scopes.iter().chain(family.lost.iter());
    let texts = scopes
        .map(Scope::as_str)
        .chain(family.roles.iter().map(RoleName::as_str))
        .chain(family.bindings.iter().map(Binding::as_str))
        .chain([
            family.subject.as_str(),
            family.client.as_str(),
            family.audience.as_str(),
        ]);
    // Each text has a tag and a length before it.
    size_of::<Family>() + texts.map(|text| text.len() + 3).sum::<usize>()
}
