//! `grpc.health.v1.Health`. Like tonic's own, except that a watch of an unknown service says so and stays open, as the
//! protocol requires: otherwise clients that watch would call again at once, forever.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt, once, pending};
use tonic::{Code, Request, Response, Status};
use tonic_health::{
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus as Wire,
        health_server::Health,
    },
    server::{HealthReporter, HealthService},
};

/// The service.
pub(crate) struct Healths(HealthService);

impl Healths {
    pub(crate) fn of(reporter: &HealthReporter) -> Self {
        Self(HealthService::from_health_reporter(reporter.clone()))
    }
}

#[tonic::async_trait]
impl Health for Healths {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(watch) => Ok(watch.map(|stream| Box::pin(stream) as Self::WatchStream)),
            // No service is added while the server runs.
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: Wire::ServiceUnknown.into(),
                };
                Ok(Response::new(Box::pin(once(Ok(unknown)).chain(pending()))))
            }
            Err(status) => Err(status),
        }
    }
}
