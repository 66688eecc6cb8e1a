//! `tessera.v1.KeyService`.

use std::sync::Arc;

use tessera_authority::LIST_SIZE_DEFAULT;
use tessera_core::KeyId;
use tessera_proto::v1::{ListKeysRequest, ListKeysResponse, key_service_server::KeyService};
use tonic::{Request, Response, Status};

use super::{call::open_call, convert};
use crate::{edge::Edge, error::ApiError};

/// The service.
pub(crate) struct Keys(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        open_call(&self.0, &request, async { self.list(request.get_ref()) }).await
    }
}

impl Keys {
    fn list(&self, wire: &ListKeysRequest) -> Result<ListKeysResponse, ApiError> {
        let (realm, page_size) = convert::key::list_keys(wire)?;
        let page_size = if page_size == 0 {
            LIST_SIZE_DEFAULT
        } else {
            page_size
        };
        let mut keys = self.0.authority.signing_keys().published_keys(realm.as_ref());
        if !wire.page_token.is_empty() {
            let after = KeyId::parse(&wire.page_token).ok();
            let position = after.and_then(|after| keys.iter().position(|key| key.id == after));
            let Some(position) = position else {
                let problem = "the page token is not of this list";
                return Err(ApiError::invalid_field("page_token", problem));
            };
            keys.drain(..=position);
        }
        let has_more = keys.len() > page_size;
        keys.truncate(page_size);
        let last = keys.last().filter(|_| has_more);
        let next_page_token = last.map_or_else(String::new, |key| key.id.to_string());
        Ok(ListKeysResponse {
            keys: keys.into_iter().map(convert::key::verifying_key).collect(),
            next_page_token,
        })
    }
}
