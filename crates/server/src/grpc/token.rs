//! `tessera.v1.TokenService`.

use std::sync::Arc;

use tessera_proto::v1::{
    IntrospectManyRequest, IntrospectManyResponse, IntrospectRequest, IntrospectResponse, IssueRequest,
    IssueResponse, RefreshRequest, RefreshResponse, RevokeRequest, RevokeResponse,
    token_service_server::TokenService,
};
use tonic::{Request, Response, Status};

use super::{call::call, convert};
use crate::{
    edge::{Caller, Edge},
    error::ApiError,
};

const TOKENS_MAX: usize = 100;

/// The service.
pub(crate) struct Tokens(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::token::issue_request(&wire)?;
            let issued = self
                .0
                .authority
                .issuance()
                .issue(&caller.principal, &request)
                .await?;
            Ok(convert::token::issue_response(issued))
        })
        .await
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::token::refresh_request(wire)?;
            let refreshed = self
                .0
                .authority
                .issuance()
                .refresh(&caller.principal, &request)
                .await?;
            Ok(convert::token::refresh_response(refreshed))
        })
        .await
    }

    async fn introspect(
        &self,
        request: Request<IntrospectRequest>,
    ) -> Result<Response<IntrospectResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            self.wait_for(&caller, &wire.at_least_as_fresh).await?;
            let introspection = self
                .0
                .authority
                .access()
                .introspect(&caller.principal, &wire.token)
                .await?;
            Ok(convert::token::introspect_response(introspection))
        })
        .await
    }

    async fn introspect_many(
        &self,
        request: Request<IntrospectManyRequest>,
    ) -> Result<Response<IntrospectManyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let tokens = convert::token::tokens(wire.tokens, TOKENS_MAX)?;
            // The first is counted already.
            let more = u32::try_from(tokens.len().saturating_sub(1)).unwrap_or(u32::MAX);
            caller.spend(more).await?;
            self.wait_for(&caller, &wire.at_least_as_fresh).await?;
            let mut results = Vec::with_capacity(tokens.len());
            for token in &tokens {
                // Checking a hundred signatures takes milliseconds, which other tasks would wait for.
                tokio::task::yield_now().await;
                let introspection = self
                    .0
                    .authority
                    .access()
                    .introspect(&caller.principal, token)
                    .await?;
                results.push(convert::token::introspect_response(introspection));
            }
            Ok(IntrospectManyResponse { results })
        })
        .await
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let request = convert::token::revoke_request(wire)?;
            let turn = if request.target.is_one() {
                None
            } else {
                caller.counting_turn().await?
            };
            let revoked = self
                .0
                .authority
                .sessions()
                .revoke_in_turn(&caller.principal, &request, turn)
                .await?;
            caller.revoked(&request, &revoked);
            Ok(RevokeResponse {
                matched: revoked.matched,
                cursor: convert::revoke::cursor_text(&revoked),
            })
        })
        .await
    }
}

impl Tokens {
    async fn wait_for(&self, caller: &Caller, cursor: &str) -> Result<(), ApiError> {
        if cursor.is_empty() {
            return Ok(());
        }
        // A little less than the remaining time, so that the caller receives the reason.
        let time_max = caller.time_left.mul_f64(0.9);
        let waiting = async { Ok(self.0.authority.access().wait_for(cursor, Some(time_max)).await?) };
        self.0.wait(caller, waiting).await
    }
}
