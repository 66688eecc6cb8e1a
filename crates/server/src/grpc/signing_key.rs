//! `tessera.v1.SigningKeyService`.

use std::sync::Arc;

use tessera_core::KeyStatus;
use tessera_proto::v1::{
    ListSigningKeysRequest, ListSigningKeysResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    signing_key_service_server::SigningKeyService,
};
use tonic::{Request, Response, Status};

use super::{call::call, convert::signing_key as convert};
use crate::edge::Edge;

/// The service.
pub(crate) struct SigningKeys(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl SigningKeyService for SigningKeys {
    async fn list_signing_keys(
        &self,
        request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        call(&self.0, request, async |caller, _| {
            let keys = self.0.authority.signing_keys().list(&caller.principal)?;
            Ok(ListSigningKeysResponse {
                keys: keys.iter().map(convert::signing_key).collect(),
            })
        })
        .await
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let at_once = convert::activates_at_once(&wire)?;
            let key = self
                .0
                .authority
                .signing_keys()
                .rotate_signing_key(&caller.principal, at_once);
            let key = key.await?;
            let change = match key.status {
                KeyStatus::Published => "signing key published",
                KeyStatus::Active | KeyStatus::Retired | KeyStatus::Revoked => "signing key activated",
            };
            caller.changed(change, &key.id.to_string());
            Ok(RotateSigningKeyResponse {
                key: Some(convert::signing_key(&key)),
            })
        })
        .await
    }
}
