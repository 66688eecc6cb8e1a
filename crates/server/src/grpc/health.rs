//! `grpc.health.v1.Health`. As tonic's own, but that a watch of a service that is not known says so and stays open,
//! as the protocol has it: clients that watch would otherwise call again at once, for ever.

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
            // No service comes while the server runs.
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
