//! `tessera.v1.PolicyService`.

use std::sync::Arc;

use tessera_proto::v1::{
    ApplyRequest, ApplyResponse, CheckRequest, CheckResponse, ExplainRequest, ExplainResponse,
    GetStatusRequest, GetStatusResponse, PlanRequest, PlanResponse, ReloadRequest, ReloadResponse,
    policy_service_server::PolicyService,
};
use tonic::{Request, Response, Status};

use crate::{
    convert::policy::{self as convert, ExplainAbout},
    edge::Edge,
    status::IntoStatus,
};

/// The service.
pub(crate) struct Policies(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.0
            .call(request, async |caller, wire| {
                let (about, scopes) = convert::check_request(&wire, &caller.principal)?;
                let checked = self
                    .0
                    .authority
                    .check_policy(&caller.principal, (about.subject, about.roles), scopes)
                    .await;
                checked
                    .map(convert::check_response)
                    .map_err(IntoStatus::into_status)
            })
            .await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        self.0
            .call(request, async |caller, wire| {
                let authority = &self.0.authority;
                match convert::explain_request(wire, &caller.principal)? {
                    ExplainAbout::Question(about, ask) => authority
                        .explain_policy(&caller.principal, (about.subject, about.roles), ask)
                        .await
                        .map(convert::explained_question)
                        .map_err(IntoStatus::into_status),
                    ExplainAbout::Decision(decision) => authority
                        .explain_decision(&caller.principal, decision)
                        .await
                        .map(convert::explained_decision)
                        .map_err(IntoStatus::into_status),
                }
            })
            .await
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanResponse>, Status> {
        self.0
            .call(request, async |caller, wire| {
                let bytes: usize = wire.files.iter().map(|file| file.content.len()).sum();
                // A kilobyte takes about as long as two calls.
                caller
                    .spend(u32::try_from(bytes / 512).unwrap_or(u32::MAX))
                    .await?;
                let files = convert::policy_files(wire);
                let plan = self.0.authority.plan_policy(&caller.principal, files).await;
                let plan = plan.map_err(IntoStatus::into_status)?;
                Ok(convert::plan_response(&plan, &caller.principal))
            })
            .await
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        self.0
            .call(request, async |caller, wire| {
                let plan = convert::plan_id(&wire.plan)?;
                let applied = self
                    .0
                    .authority
                    .apply_plan(&caller.principal, plan, wire.max_sessions)
                    .await;
                let applied = applied.map_err(IntoStatus::into_status)?;
                caller.changed("policy applied", &applied.policy.to_string());
                Ok(convert::apply_response(&applied, &self.0.authority.position()))
            })
            .await
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        self.0
            .call(request, async |caller, _| {
                let applied = self.0.authority.reload_for(&caller.principal).await;
                let applied = applied.map_err(IntoStatus::into_status)?;
                caller.changed("policy reloaded", &applied.policy.to_string());
                Ok(convert::reload_response(&applied, &self.0.authority.position()))
            })
            .await
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.0
            .call(request, async |caller, _| {
                self.0
                    .authority
                    .policy_status_for(&caller.principal)
                    .map(convert::policy_status)
                    .map_err(IntoStatus::into_status)
            })
            .await
    }
}
