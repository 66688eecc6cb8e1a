//! A channel whose calls are answered, or begin to be, within a time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, Response};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, StdError},
    transport::Channel,
};

/// Also a stream begins within the time, though it may take as long as it takes then: a server that is gone without a word
/// is noticed by the pings of the connection.
#[derive(Clone)]
pub(crate) struct Timed {
    channel: Channel,
    time: Duration,
}

impl Timed {
    pub(super) fn new(channel: Channel, time: Duration) -> Self {
        Self { channel, time }
    }
}

impl Service<Request<Body>> for Timed {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, StdError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Service::poll_ready(&mut self.channel, cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (call, time) = (Service::call(&mut self.channel, request), self.time);
        Box::pin(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => Err(too_late(time).into()),
                answered = call => answered.map_err(Into::into),
            }
        })
    }
}

fn too_late(time: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "there was no answer within {} s (--timeout); the call may still have its effect",
        time.as_secs()
    ))
}
