//! `tessera.v1.PolicyService`.

use std::sync::Arc;

use tessera_proto::v1::{
    ApplyRequest, ApplyResponse, CheckRequest, CheckResponse, ExplainRequest, ExplainResponse,
    GetStatusRequest, GetStatusResponse, PlanRequest, PlanResponse, ReloadRequest, ReloadResponse,
    policy_service_server::PolicyService,
};
use tonic::{Request, Response, Status};

use super::{
    call::call,
    convert::policy::{self as convert, ExplainAbout},
};
use crate::edge::Edge;

/// The service.
pub(crate) struct Policies(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let (about, scopes) = convert::check_request(&wire, &caller.principal)?;
            let checked = self
                .0
                .authority
                .policies()
                .check_policy(&caller.principal, (about.subject, about.roles), scopes)
                .await?;
            Ok(convert::check_response(checked))
        })
        .await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let authority = &self.0.authority;
            Ok(match convert::explain_request(wire, &caller.principal)? {
                ExplainAbout::Question(about, ask) => {
                    let about = (about.subject, about.roles);
                    let explained = authority.policies().explain_policy(&caller.principal, about, ask);
                    convert::explained_question(explained.await?)
                }
                ExplainAbout::Decision(decision) => {
                    let explained = authority.policies().explain_decision(&caller.principal, decision);
                    convert::explained_decision(explained.await?)
                }
            })
        })
        .await
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let bytes: usize = wire.files.iter().map(|file| file.content.len()).sum();
            // A kilobyte takes about as long as two calls.
            caller
                .spend(u32::try_from(bytes / 512).unwrap_or(u32::MAX))
                .await?;
            let files = convert::policy_files(wire);
            let plan = self
                .0
                .authority
                .policies()
                .plan_policy(&caller.principal, files)
                .await?;
            Ok(convert::plan_response(&plan, &caller.principal))
        })
        .await
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let plan = convert::plan_id(&wire.plan)?;
            let applied = self
                .0
                .authority
                .policies()
                .apply_plan(&caller.principal, plan, wire.max_sessions)
                .await?;
            caller.changed("policy applied", &applied.policy.to_string());
            Ok(convert::apply_response(&applied, &self.0.authority.position()))
        })
        .await
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        call(&self.0, request, async |caller, _| {
            let applied = self.0.authority.policies().reload_for(&caller.principal).await?;
            caller.changed("policy reloaded", &applied.policy.to_string());
            Ok(convert::reload_response(&applied, &self.0.authority.position()))
        })
        .await
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        call(&self.0, request, async |caller, _| {
            let status = self.0.authority.policies().policy_status_for(&caller.principal)?;
            Ok(convert::policy_status(status))
        })
        .await
    }
}
