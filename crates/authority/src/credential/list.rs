//! Showing API keys.

use std::collections::HashSet;

use tessera_core::{ApiKey, ApiKeyId, RealmName, Seconds, Timestamp};
use tessera_policy::Permission;
use tessera_store::{PageRequest, Reads};

use crate::{
    credential::{credentials::Credentials, end::came_of, error::ApiKeyError},
    error::Unavailable,
    page::{Listed, page_request},
    principal::Principal,
};

/// How many descendants of a key are described at most.
const DESCENDANTS_MAX: usize = 500;

/// How many keys one step reads to find matching ones, and how many steps a page takes at most.
const SCAN: usize = 500;
const SCANS_MAX: usize = 20;

/// A page of API keys.
#[derive(Clone, Debug, Default)]
pub struct ListApiKeys {
    /// How many; 0: the default page size.
    pub page_size: usize,
    /// Where the page before ended; empty: the first page.
    pub page_token: String,
    /// Only keys that no client has used for so long.
    pub unused_for: Option<Seconds>,
    /// Only keys that end within this time.
    pub ends_within: Option<Seconds>,
}

/// The descendants of an API key.
#[derive(Debug, Default)]
pub struct Descendants {
    /// Its successors, the keys that were made with it, and the descendants of those; nearest first.
    pub keys: Vec<ApiKey>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Credentials {
    /// Whether any client of a realm has an API key that works.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn has_working_api_key(&self, realm: &RealmName) -> Result<bool, Unavailable> {
        let mut after: Option<ApiKeyId> = None;
        loop {
            let page = self
                .shared
                .store
                .api_keys(realm, PageRequest { after, limit: 100 })
                .await?;
            if page.items.iter().any(|key| key.works(self.shared.clock.now())) {
                return Ok(true);
            }
            after = page.next;
            if after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Describes a key.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] if the realm has no such key.
    pub async fn api_key(&self, principal: &Principal, id: &ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        self.shared.require(principal, &Permission::ReadApiKeys)?;
        self.api_key_of_realm(principal, id).await
    }

    /// The descendants of a key of the realm.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] if the realm has no such key.
    pub async fn api_key_descendants(
        &self,
        principal: &Principal,
        id: &ApiKeyId,
    ) -> Result<Descendants, ApiKeyError> {
        self.shared.require(principal, &Permission::ReadApiKeys)?;
        let root = self.api_key_of_realm(principal, id).await?;
        let mut descendants = Descendants::default();
        let (mut met, mut level) = (HashSet::from([root.id]), vec![root]);
        while !level.is_empty() {
            let ids = level.iter().map(|key| key.id);
            let state = self.shared.store.read(Reads::default().made_with(ids)).await?;
            let came: Vec<_> = level.iter().flat_map(|key| came_of(&state, key, true)).collect();
            let new = came.into_iter().filter(|id| met.insert(*id));
            let left = DESCENDANTS_MAX - descendants.keys.len();
            let new: Vec<_> = new.take(left + 1).collect();
            descendants.has_more = new.len() > left;
            let named = new.into_iter().take(left);
            level = self
                .shared
                .store
                .read(Reads::default().api_keys(named))
                .await?
                .api_keys;
            let completed = level.iter().map(|key| self.used_api_keys.completed(key.clone()));
            descendants.keys.extend(completed);
            if descendants.has_more {
                break;
            }
        }
        Ok(descendants)
    }

    /// The keys of the realm, or those that match the request. A page of matches may be short, or empty, without being
    /// the last.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn api_keys(
        &self,
        principal: &Principal,
        request: &ListApiKeys,
    ) -> Result<Listed<ApiKey>, ApiKeyError> {
        self.shared.require(principal, &Permission::ReadApiKeys)?;
        let parse = |text: &str| ApiKeyId::parse(text).ok();
        let PageRequest { mut after, limit } = page_request(request.page_size, &request.page_token, parse)
            .ok_or(ApiKeyError::PageTokenInvalid)?;
        let now = self.shared.clock.now();
        let mut items = Vec::new();
        for _ in 0..SCANS_MAX {
            let scan = PageRequest {
                after,
                limit: if request.asks_for_some() { SCAN } else { limit },
            };
            let page = self.shared.store.api_keys(principal.realm_name(), scan).await?;
            let mut scanned = page
                .items
                .into_iter()
                .map(|key| self.used_api_keys.completed(key));
            while let Some(key) = scanned.next() {
                if !request.has(&key, now) {
                    continue;
                }
                items.push(key);
                if items.len() == limit {
                    let is_last = scanned.len() == 0 && page.next.is_none();
                    let last = items.last().filter(|_| !is_last).map(|key| key.id.to_string());
                    return Ok(listed(items, last));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(listed(items, after.map(|id| id.to_string())))
    }
}

fn listed(items: Vec<ApiKey>, next: Option<String>) -> Listed<ApiKey> {
    Listed {
        items,
        next_page_token: next.unwrap_or_default(),
    }
}

impl ListApiKeys {
    fn asks_for_some(&self) -> bool {
        self.unused_for.is_some() || self.ends_within.is_some()
    }

    fn has(&self, key: &ApiKey, now: Timestamp) -> bool {
        self.unused_for.is_none_or(|time| key.is_unused_for(time, now))
            && self.ends_within.is_none_or(|time| key.ends_within(time, now))
    }
}
