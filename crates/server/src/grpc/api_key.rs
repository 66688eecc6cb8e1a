//! `tessera.v1.ApiKeyService`.

use std::sync::Arc;

use tessera_authority::Descendants;
use tessera_core::Timestamp;
use tessera_proto::v1::{
    CreateApiKeyRequest, CreateApiKeyResponse, EnableClientRequest, EnableClientResponse, GetApiKeyRequest,
    GetApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse, RevokeApiKeyRequest, RevokeApiKeyResponse,
    RollApiKeyRequest, RollApiKeyResponse, api_key_service_server::ApiKeyService,
};
use tonic::{Request, Response, Status};

use super::{call::call, convert};
use crate::edge::Edge;

/// The additional cost of a call that describes the descendants of a key: as much as a listing.
const DESCENDANTS_COST: u32 = 20;

/// The service.
pub(crate) struct ApiKeys(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl ApiKeyService for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::api_key::create_api_key(&wire)?;
            let new = self
                .0
                .authority
                .credentials()
                .create_api_key(&caller.principal, request)
                .await?;
            let target = format!("API key {} of {}", new.record.id, new.record.client);
            caller.changed("API key created", &target);
            Ok(CreateApiKeyResponse {
                secret: new.secret.expose().to_owned(),
                api_key: Some(convert::api_key::api_key(&new.record, self.now())),
            })
        })
        .await
    }

    async fn get_api_key(
        &self,
        request: Request<GetApiKeyRequest>,
    ) -> Result<Response<GetApiKeyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let id = convert::api_key::api_key_id(&wire.id)?;
            let (authority, now) = (&self.0.authority, self.now());
            let key = authority.credentials().api_key(&caller.principal, &id).await?;
            let descendants = if wire.with_descendants {
                caller.spend(DESCENDANTS_COST).await?;
                authority
                    .credentials()
                    .api_key_descendants(&caller.principal, &id)
                    .await?
            } else {
                Descendants::default()
            };
            let described = descendants.keys.iter();
            Ok(GetApiKeyResponse {
                api_key: Some(convert::api_key::api_key(&key, now)),
                descendants: described.map(|key| convert::api_key::api_key(key, now)).collect(),
                has_more_descendants: descendants.has_more,
            })
        })
        .await
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::api_key::list_api_keys(wire)?;
            let authority = &self.0.authority;
            let listed = authority
                .credentials()
                .api_keys(&caller.principal, &request)
                .await?;
            let now = self.now();
            Ok(ListApiKeysResponse {
                api_keys: listed
                    .items
                    .iter()
                    .map(|key| convert::api_key::api_key(key, now))
                    .collect(),
                next_page_token: listed.next_page_token,
            })
        })
        .await
    }

    async fn roll_api_key(
        &self,
        request: Request<RollApiKeyRequest>,
    ) -> Result<Response<RollApiKeyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::api_key::roll_api_key(&wire)?;
            let id = request.id;
            let authority = &self.0.authority;
            let rolled = authority
                .credentials()
                .roll_api_key(&caller.principal, request)
                .await?;
            let target = format!("API key {id}, to {}", rolled.new.record.id);
            caller.changed("API key rolled", &target);
            let now = self.now();
            Ok(RollApiKeyResponse {
                secret: rolled.new.secret.expose().to_owned(),
                api_key: Some(convert::api_key::api_key(&rolled.new.record, now)),
                previous: Some(convert::api_key::api_key(&rolled.previous, now)),
            })
        })
        .await
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::api_key::revoke_api_key(&wire)?;
            let _turn = caller.counting_turn().await?;
            let revoked = self
                .0
                .authority
                .sessions()
                .revoke(&caller.principal, &request)
                .await?;
            caller.revoked(&request, &revoked);
            Ok(RevokeApiKeyResponse {
                matched: revoked.matched,
                cursor: convert::revoke::cursor_text(&revoked),
                api_key_ids: revoked.api_keys.iter().map(ToString::to_string).collect(),
                made_key_ids: revoked.made_keys.iter().map(ToString::to_string).collect(),
            })
        })
        .await
    }

    async fn enable_client(
        &self,
        request: Request<EnableClientRequest>,
    ) -> Result<Response<EnableClientResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let client = convert::api_key::client_name(&wire.name)?;
            let enabled = self
                .0
                .authority
                .credentials()
                .enable_client(&caller.principal, &client)
                .await;
            enabled?;
            caller.changed("client enabled", client.as_str());
            Ok(EnableClientResponse {})
        })
        .await
    }
}

impl ApiKeys {
    fn now(&self) -> Timestamp {
        self.0.authority.now()
    }
}
