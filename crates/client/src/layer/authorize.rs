//! Protecting a service.

use std::{
    mem,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use tessera_core::{AccessClaims, ScopeTemplate};
use tonic::Status;
use tower::{Layer, Service};

use super::{bearer, protocol::is_grpc, refusal::Refusal, requirements::Requirements};
use crate::{Decision, DenyReason, Verifier};

/// Lets a request through to a service if it has the required token, and puts the token's [`Claims`] in its extensions.
/// Made by [`Verifier::require`].
///
/// It works for tonic (`Server::builder().layer(…)`), for axum (`Router::layer`, `route_layer`, `MethodRouter::layer`),
/// and for any other service of `http` requests. A refused request never reaches the service. Its answer says of a
/// token only that it is not valid, and the log says why:
///
/// | the request has | gRPC | HTTP |
/// |---|---|---|
/// | no bearer token | UNAUTHENTICATED / CLIENT_AUTH_FAILED | 401, `WWW-Authenticate: Bearer realm="tessera"` |
/// | one that is not valid, or several | UNAUTHENTICATED / CLIENT_AUTH_FAILED | 401, and `error="invalid_token"` |
/// | one without the scope | PERMISSION_DENIED / SCOPE_DENIED | 403, and `error="insufficient_scope"`, `scope="…"` |
/// | a path that is not listed, or of which no scope can be made | PERMISSION_DENIED / CALL_NOT_ALLOWED | 403 |
/// | a valid one, but the verifier is stale | UNAVAILABLE / NOT_FRESH_ENOUGH, RetryInfo | 503, `Retry-After` |
#[derive(Clone, Debug)]
pub struct AuthorizeLayer {
    guard: Arc<Guard>,
}

/// The service that [`AuthorizeLayer`] makes.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    guard: Arc<Guard>,
}

/// The claims of the token with which a request was admitted; only [`Authorize`] makes them.
///
/// In a tonic service `request.extensions().get::<Claims>()`, in an axum handler `Extension<Claims>`.
/// Scopes that policy took since the token was issued are left out.
#[derive(Clone, Debug)]
pub struct Claims(Arc<AccessClaims>);

#[derive(Debug)]
struct Guard {
    verifier: Verifier,
    requirements: Requirements,
}

impl Verifier {
    /// A layer that checks with this verifier: for a scope, for a [`Requirement`](crate::Requirement), or by path for
    /// what [`Requirements`] say.
    ///
    /// One requirement for a route of axum:
    ///
    /// ```
    /// use axum::{Extension, Router, routing::get};
    /// use tessera_client::{Claims, Scope, Verifier};
    ///
    /// async fn list(Extension(claims): Extension<Claims>) -> String {
    ///     format!("the videos of {}", claims.subject)
    /// }
    ///
    /// fn router(verifier: &Verifier, read: Scope) -> Router {
    ///     Router::new().route("/videos", get(list).layer(verifier.require(read)))
    /// }
    /// ```
    ///
    /// A table for the methods of a tonic server:
    ///
    /// ```no_run
    /// use tessera_client::{Requirements, Scope, Verifier};
    /// use tonic::transport::Server;
    ///
    /// # async fn run(verifier: &Verifier, read: Scope) -> Result<(), Box<dyn std::error::Error>> {
    /// let requirements = Requirements::deny_unlisted()
    ///     .method("/shop.v1.Orders/Get", read)
    ///     .open("/grpc.health.v1.Health/Check");
    /// let (_, health) = tonic_health::server::health_reporter();
    /// Server::builder()
    ///     .layer(verifier.require(requirements))
    ///     .add_service(health)
    ///     .serve("127.0.0.1:7610".parse()?)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn require(&self, requirements: impl Into<Requirements>) -> AuthorizeLayer {
        AuthorizeLayer {
            guard: Arc::new(Guard {
                verifier: self.clone(),
                requirements: requirements.into(),
            }),
        }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize {
            inner,
            guard: Arc::clone(&self.guard),
        }
    }
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for Authorize<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    RequestBody: Send + 'static,
    ResponseBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        // The service that was polled ready must be called; its clone may not be ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let guard = Arc::clone(&self.guard);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match guard.admit(&mut parts).await {
                Ok(()) => inner.call(Request::from_parts(parts, body)).await,
                Err(refusal) => {
                    refusal.log(parts.uri.path());
                    Ok(refusal.into_response(is_grpc(&parts.headers)))
                }
            }
        })
    }
}

impl Guard {
    /// Puts the claims in the extensions of an admitted request, or none if it needs no token.
    async fn admit(&self, parts: &mut Parts) -> Result<(), Refusal> {
        // Claims of an outer layer do not belong to this one.
        parts.extensions.remove::<Claims>();
        bearer::conceal(&mut parts.headers);
        let path = parts.uri.path();
        let requirement = self.requirements.of(path).ok_or(Refusal::Unlisted)?;
        let Some((scope, mode)) = requirement.of_token(path)? else {
            return Ok(());
        };
        let token = bearer::token(&parts.headers)?;
        match self.verifier.verify_with(token, scope.as_deref(), mode).await {
            Decision::Allow(claims) => {
                parts.extensions.insert(Claims(claims));
                Ok(())
            }
            Decision::Deny(DenyReason::ScopeMissing { required } | DenyReason::ScopeTaken { required }) => {
                Err(Refusal::NoScope(required))
            }
            Decision::Deny(reason) => Err(Refusal::NoGoodToken(reason.to_string())),
            Decision::Stale { behind, .. } => Err(Refusal::Stale { behind }),
        }
    }
}

impl Claims {
    /// Whether the token has a scope whose parameters are in the message of a gRPC call; the error is the status with
    /// which [`Authorize`] refuses a token that lacks a scope.
    ///
    /// A layer does not see the message. So list the method with
    /// [`Requirement::any_token`](crate::Requirement::any_token) and call this first in its handler. A value must be
    /// one segment of a resource: one that no scope can have, such as `a/b`, is refused with PERMISSION_DENIED /
    /// CALL_NOT_ALLOWED.
    ///
    /// ```
    /// use tessera_client::{Claims, ScopeTemplate};
    /// use tonic::{Request, Status};
    ///
    /// struct PlayRequest {
    ///     film: String,
    /// }
    ///
    /// struct Films {
    ///     /// `ScopeTemplate::parse("videos/{id}:play")?`
    ///     play: ScopeTemplate,
    /// }
    ///
    /// impl Films {
    ///     async fn play(&self, request: Request<PlayRequest>) -> Result<(), Status> {
    ///         let claims = request.extensions().get::<Claims>();
    ///         let claims = claims.ok_or_else(|| Status::internal("the method is not protected"))?;
    ///         claims.require_scope(&self.play, &[("id", &request.get_ref().film)])?;
    ///         // …
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Fails if the token lacks the scope, and if no scope can be made of the parameters.
    pub fn require_scope(&self, scope: &ScopeTemplate, parameters: &[(&str, &str)]) -> Result<(), Status> {
        let refusal = match scope.fill_with(parameters) {
            Ok(needed) if self.scopes.contains(&needed) => return Ok(()),
            Ok(needed) => Refusal::NoScope(needed),
            Err(error) => Refusal::Unclear(error.to_string()),
        };
        refusal.log(scope.as_str());
        Err(refusal.status())
    }
}

impl Deref for Claims {
    type Target = AccessClaims;

    fn deref(&self) -> &AccessClaims {
        &self.0
    }
}
