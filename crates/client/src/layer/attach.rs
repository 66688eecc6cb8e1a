//! Calling a service.

use std::{
    error::Error,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};

use super::protocol::is_grpc;
use crate::{AccessToken, ErrorKind, TokenError, TokenSource};

type BoxError = Box<dyn Error + Send + Sync>;

/// Sends the access token of a [`TokenSource`] with every request: a layer that makes [`AttachToken`].
#[derive(Clone, Debug)]
pub struct AttachTokenLayer {
    tokens: TokenSource,
}

/// Sends the access token of a [`TokenSource`] with every request, and replaces any credential of the request. Waits
/// for a token if there is none yet.
///
/// If there is no token, the request is not sent. A gRPC call then ends with the status that [`Status::from`] makes of
/// the [`TokenError`], any other request with the `TokenError` itself.
///
/// An answer UNAUTHENTICATED (401) tells the source that the token is no longer valid, so that the next request has a
/// new one: see [`TokenSource::invalidate`]. The refused request is not sent again, because only its caller knows
/// whether it may be. An UNAUTHENTICATED that comes after a response has begun is not seen.
///
/// ```no_run
/// use tessera_client::{AttachToken, TokenSource, v1::key_service_client::KeyServiceClient};
/// use tonic::transport::Endpoint;
///
/// # fn caller(tokens: TokenSource) -> Result<(), tonic::transport::Error> {
/// let channel = Endpoint::from_static("http://videos.internal:7610").connect_lazy();
/// // Any generated client; this one is at hand.
/// let client = KeyServiceClient::new(AttachToken::new(channel, tokens));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AttachToken<S> {
    inner: S,
    tokens: TokenSource,
}

impl AttachTokenLayer {
    /// A layer that sends the tokens of this source.
    #[must_use]
    pub fn new(tokens: TokenSource) -> Self {
        Self { tokens }
    }
}

impl<S> Layer<S> for AttachTokenLayer {
    type Service = AttachToken<S>;

    fn layer(&self, inner: S) -> AttachToken<S> {
        AttachToken::new(inner, self.tokens.clone())
    }
}

impl<S> AttachToken<S> {
    /// Sends the tokens of this source with each request to `inner`.
    #[must_use]
    pub fn new(inner: S, tokens: TokenSource) -> Self {
        Self { inner, tokens }
    }
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for AttachToken<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    RequestBody: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        // The service that was polled ready must be called; its clone may not be ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let tokens = self.tokens.clone();
        Box::pin(async move {
            let token = match tokens.token().await {
                Ok(token) => token,
                Err(error) if is_grpc(request.headers()) => return Err(Status::from(error).into()),
                Err(error) => return Err(error.into()),
            };
            request.headers_mut().insert(AUTHORIZATION, header(&token)?);
            let response = inner.call(request).await.map_err(Into::into)?;
            if is_unauthenticated(&response) {
                tokens.invalidate(&token);
            }
            Ok(response)
        })
    }
}

fn header(token: &AccessToken) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_unauthenticated<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        || Status::from_header_map(response.headers())
            .is_some_and(|status| status.code() == Code::Unauthenticated)
}

/// UNAVAILABLE if waiting helps (with the authority's RetryInfo); UNAUTHENTICATED if this service's own API key is not
/// accepted, PERMISSION_DENIED if policy grants it nothing, and FAILED_PRECONDITION if the request for tokens is wrong.
/// The [`TokenError`] is the status's source.
impl From<TokenError> for Status {
    fn from(error: TokenError) -> Self {
        let message = error.to_string();
        let mut status = match &error {
            TokenError::Stopped => Self::unavailable(message),
            TokenError::Passing(call) => {
                let mut details = ErrorDetails::new();
                if let Some(delay) = call.retry_after() {
                    details.set_retry_info(Some(delay));
                }
                Self::with_error_details(Code::Unavailable, message, details)
            }
            TokenError::Permanent(call) if call.kind() == ErrorKind::SignIn => Self::unauthenticated(message),
            TokenError::Permanent(call) if call.code() == Code::PermissionDenied => {
                Self::permission_denied(message)
            }
            TokenError::Permanent(_) => Self::failed_precondition(message),
        };
        status.set_source(Arc::new(error));
        status
    }
}
