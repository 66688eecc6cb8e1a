//! Showing API keys.

use std::collections::HashSet;

use tessera_core::{ApiKey, ApiKeyId};
use tessera_policy::Permission;
use tessera_store::Reads;

use crate::{
    Authority,
    credential::{authenticate::Principal, end::came_of, error::ApiKeyError},
    page::{Listed, page_request},
};

/// How many keys that came of one are described.
const DESCENDANTS_MAX: usize = 500;

/// What came of an API key.
#[derive(Debug, Default)]
pub struct Descendants {
    /// Its successors, the keys that were made with it, and what came of those; nearest first.
    pub keys: Vec<ApiKey>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Authority {
    /// Describes a key.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] where there is none in the realm.
    pub async fn api_key(&self, principal: &Principal, id: &ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        self.require(principal, &Permission::ReadApiKeys)?;
        self.api_key_of_realm(principal, id).await
    }

    /// What came of a key of the realm.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] where there is none in the realm.
    pub async fn api_key_descendants(
        &self,
        principal: &Principal,
        id: &ApiKeyId,
    ) -> Result<Descendants, ApiKeyError> {
        self.require(principal, &Permission::ReadApiKeys)?;
        let root = self.api_key_of_realm(principal, id).await?;
        let mut descendants = Descendants::default();
        let (mut met, mut level) = (HashSet::from([root.id.clone()]), vec![root]);
        while !level.is_empty() {
            let ids = level.iter().map(|key| key.id.clone());
            let state = self.store.read(Reads::default().made_with(ids)).await?;
            let came: Vec<_> = level.iter().flat_map(|key| came_of(&state, key, true)).collect();
            let new = came.into_iter().filter(|id| met.insert(id.clone()));
            let left = DESCENDANTS_MAX - descendants.keys.len();
            let new: Vec<_> = new.take(left + 1).collect();
            descendants.has_more = new.len() > left;
            let named = new.into_iter().take(left);
            level = self.store.read(Reads::default().api_keys(named)).await?.api_keys;
            let completed = level.iter().map(|key| self.used_api_keys.completed(key.clone()));
            descendants.keys.extend(completed);
            if descendants.has_more {
                break;
            }
        }
        Ok(descendants)
    }

    /// The keys of the realm.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn api_keys(
        &self,
        principal: &Principal,
        page_size: usize,
        page_token: &str,
    ) -> Result<Listed<ApiKey>, ApiKeyError> {
        self.require(principal, &Permission::ReadApiKeys)?;
        let request = page_request(page_size, page_token, |text| ApiKeyId::parse(text).ok())
            .ok_or(ApiKeyError::PageTokenInvalid)?;
        let page = self.store.api_keys(principal.realm_name(), request).await?;
        let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
        Ok(Listed {
            items: page
                .items
                .into_iter()
                .map(|key| self.used_api_keys.completed(key))
                .collect(),
            next_page_token,
        })
    }
}
