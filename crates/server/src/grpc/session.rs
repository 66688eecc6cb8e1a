//! `tessera.v1.SessionService`.

use std::sync::Arc;

use tessera_authority::RevokeTarget;
use tessera_proto::v1::{
    GetSessionRequest, GetSessionResponse, ListSessionsRequest, ListSessionsResponse, RevokeSessionRequest,
    RevokeSessionResponse, session_service_server::SessionService,
};
use tonic::{Request, Response, Status};

use super::{call::call, convert};
use crate::edge::Edge;

/// The service.
pub(crate) struct Sessions(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let id = convert::session::session_id(&wire.session_id)?;
            let session = self.0.authority.sessions().session(&caller.principal, id).await?;
            Ok(GetSessionResponse {
                session: Some(convert::session::session(session)),
            })
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let (by, page_size) = convert::session::list_sessions(&wire)?;
            let listed = self
                .0
                .authority
                .sessions()
                .sessions(&caller.principal, by, page_size, &wire.page_token)
                .await?;
            Ok(ListSessionsResponse {
                sessions: listed.items.into_iter().map(convert::session::session).collect(),
                next_page_token: listed.next_page_token,
            })
        })
        .await
    }

    async fn revoke_session(
        &self,
        request: Request<RevokeSessionRequest>,
    ) -> Result<Response<RevokeSessionResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let session = convert::session::session_id(&wire.session_id)?;
            let request = convert::revoke::revoke_one(RevokeTarget::Session(session), &wire.reason)?;
            let revoked = self
                .0
                .authority
                .sessions()
                .revoke(&caller.principal, &request)
                .await?;
            caller.revoked(&request, &revoked);
            Ok(RevokeSessionResponse {
                matched: revoked.matched,
                cursor: convert::revoke::cursor_text(&revoked),
            })
        })
        .await
    }
}
