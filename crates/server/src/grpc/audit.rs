//! `tessera.v1.AuditService`.

use std::{pin::Pin, sync::Arc};

use tessera_authority::{AuditError, AuditTail, AuditTailEnd, TrailFault, TrailReport};
use tessera_proto::v1::{
    ListAuditRecordsRequest, ListAuditRecordsResponse, TailAuditRecordsRequest, TailAuditRecordsResponse,
    VerifyAuditRequest, VerifyAuditResponse, audit_service_server::AuditService,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{call::call, convert::audit as convert};
use crate::{
    edge::{Edge, Exchange, exchange},
    error::ApiError,
};

/// The service.
pub(crate) struct Audits(pub(crate) Arc<Edge>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Audits {
    type TailAuditRecordsStream = Answers<TailAuditRecordsResponse>;
    type VerifyAuditStream = Answers<VerifyAuditResponse>;

    async fn list_audit_records(
        &self,
        request: Request<ListAuditRecordsRequest>,
    ) -> Result<Response<ListAuditRecordsResponse>, Status> {
        call(&self.0, request, async |caller, wire| {
            let (filter, order, page_size) = convert::list_request(&wire)?;
            let principal = &caller.principal;
            let listed = self.0.authority.audit().audit_records(
                principal,
                &filter,
                order,
                page_size,
                &wire.page_token,
            );
            let listed = listed.await?;
            Ok(ListAuditRecordsResponse {
                records: listed.items.into_iter().map(convert::record).collect(),
                next_page_token: listed.next_page_token,
            })
        })
        .await
    }

    async fn tail_audit_records(
        &self,
        request: Request<TailAuditRecordsRequest>,
    ) -> Result<Response<Self::TailAuditRecordsStream>, Status> {
        let exchange = exchange(request.extensions())?;
        let principal = exchange
            .principal()
            .cloned()
            .ok_or_else(ApiError::no_credential)?;
        let wire = request.into_inner();
        let start = convert::tail_request(&wire)?;
        let realm = principal.realm_name().clone();
        match self.0.authority.audit().tail_audit(principal, start) {
            Ok(mut tail) => {
                let begin = tail.begin().await.map_err(ApiError::from)?;
                let begin = convert::tail_begin(&begin, &realm, self.0.authority.audit().checkpoint_key());
                Ok(Response::new(Box::pin(records(begin, tail))))
            }
            Err(error) => Err(self.0.refused(&exchange, error.into()).await.into()),
        }
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<Self::VerifyAuditStream>, Status> {
        let exchange = exchange(request.extensions())?;
        Ok(Response::new(Box::pin(check(Arc::clone(&self.0), exchange))))
    }
}

fn records(
    begin: TailAuditRecordsResponse,
    mut tail: AuditTail,
) -> impl Stream<Item = Result<TailAuditRecordsResponse, Status>> + Send {
    async_stream::try_stream! {
        yield begin;
        while let Some(tailed) = tail.next().await.map_err(ended)? {
            yield convert::tailed(tailed);
        }
    }
}

fn ended(end: AuditTailEnd) -> ApiError {
    match end {
        AuditTailEnd::Refused(error) => error.into(),
        AuditTailEnd::Failed(error) => error.into(),
    }
}

enum Step {
    SoFar(VerifyAuditResponse),
    Done(Result<Result<TrailReport, TrailFault>, AuditError>),
}

/// The check runs only while its progress is read.
fn check(
    edge: Arc<Edge>,
    exchange: Arc<Exchange>,
) -> impl Stream<Item = Result<VerifyAuditResponse, Status>> + Send {
    async_stream::try_stream! {
        let principal = exchange.principal().cloned().ok_or_else(ApiError::no_credential)?;
        // Progress that the caller has not read yet is left out.
        let (told, mut progress) = mpsc::channel(1);
        let check = edge.authority.audit().verify_audit(&principal, move |report, end| {
            let _ = told.try_send(convert::progress(report, end));
        });
        tokio::pin!(check);
        loop {
            let step = tokio::select! {
                result = &mut check => Step::Done(result),
                Some(so_far) = progress.recv() => Step::SoFar(so_far),
            };
            match step {
                Step::SoFar(so_far) => yield so_far,
                Step::Done(Ok(result)) => {
                    yield convert::verified(result, edge.authority.audit().checkpoint_key());
                    return;
                }
                Step::Done(Err(error)) => Err(edge.refused(&exchange, error.into()).await)?,
            }
        }
    }
}
