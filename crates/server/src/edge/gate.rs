//! The entry for every request: the caller is identified from its head, its slots are taken, and only then is its body
//! read, within bounds. Also the exit: an answer keeps its slots until it is taken.

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc};

use axum::{Router, body::Body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tonic::Code;
use tower::ServiceExt;

use super::{
    answer_body::{AnswerBody, Inner as AnswerInner},
    authorization::authorization_in,
    bytes::TakenBytes,
    calls::Edge,
    exchange::Exchange,
    outcome::Failed,
    peer::Peer,
    request_body::RequestBody,
    route::{Caller, Route, Shape},
    trace,
};
use crate::{
    error::ApiError,
    grpc::{
        body,
        services::Services,
        status::{self, Sent},
    },
    http::{message, refusal},
};

/// What serves a request that may be served.
pub(crate) struct Handlers {
    pub(crate) grpc: Services,
    pub(crate) http: Router,
}

impl Edge {
    /// Serves one request of `peer`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: Arc<Peer>,
        handlers: Arc<Handlers>,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let route = Route::of(request.uri().path());
        let method = request.method().clone();
        if let Some(response) = no_call(&request) {
            let exchange = self.begin(route, &peer, request.headers(), None);
            return Ok(self.answer(Arc::new(exchange), &method, response));
        }
        let stranger = match route.caller {
            Caller::Client => None,
            Caller::Anyone => match self.strangers.admit(&peer) {
                Ok(stranger) => Some(stranger),
                Err(super::strangers::Full) => {
                    let exchange = self.begin(route, &peer, request.headers(), None);
                    return Ok(self.refuse(Arc::new(exchange), &request, &ApiError::overloaded()));
                }
            },
        };
        let exchange = Arc::new(self.begin(route, &peer, request.headers(), stranger));
        if route.is_open
            && let Err(error) = self.pace.keep(&exchange).await
        {
            return Ok(self.refuse(exchange, &request, &error));
        }
        if let Err(error) = self.enter(&exchange, request.headers()).await {
            return Ok(self.refuse(exchange, &request, &error));
        }
        let request = self.opened(request, &exchange);
        // A method that its service does not have is answered like a method of an unknown service.
        let service = handlers.grpc.at(request.uri().path());
        if let Some(call) = service.filter(|_| route.shape != Shape::Http) {
            let mut calling = call(request.map(body::body));
            let Ok(response) = trace::within(&exchange, calling.as_mut()).await;
            return Ok(self.answer(exchange, &method, response));
        }
        let response = ask(&exchange, handlers.http.clone(), request).await;
        Ok(self.answer(exchange, &method, response))
    }

    fn begin(
        &self,
        route: &'static Route,
        peer: &Arc<Peer>,
        headers: &HeaderMap,
        stranger: Option<super::strangers::Stranger>,
    ) -> Exchange {
        let address = self.caller(peer, headers);
        let trace = self.tracing.as_ref().map(|tracing| {
            let ip = peer.address().ip().to_canonical();
            let mut trusted = self.limits.trusted_proxies.iter();
            tracing.read(headers, trusted.any(|range| range.contains(ip)).then_some(ip))
        });
        let time_max = self.limits.call_time_max;
        let exchange = Exchange::begin(route, peer, address, headers, time_max, stranger, trace);
        if let Some(tracing) = self.tracing.as_ref().filter(|_| route.caller == Caller::Anyone) {
            tracing.begin_early(&exchange);
        }
        exchange
    }

    fn caller(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        super::caller::caller(peer.address().ip(), headers, &self.limits.trusted_proxies)
    }

    /// Identifies the caller, if the head contains the credential, and takes the call's slots.
    async fn enter(&self, exchange: &Arc<Exchange>, headers: &HeaderMap) -> Result<(), ApiError> {
        if exchange.route.caller == Caller::Anyone {
            return Ok(());
        }
        let credential = authorization_in(headers).bearer();
        let entering = pin!(self.authenticate(exchange, credential));
        let entering = pin!(trace::within(exchange, entering));
        match tokio::time::timeout(exchange.time_left(), entering).await {
            Ok(entered) => entered.map(drop),
            Err(_) => Err(ApiError::deadline_exceeded()),
        }
    }

    /// The request with a bounded body, for the services.
    fn opened(&self, request: Request<Incoming>, exchange: &Arc<Exchange>) -> Request<RequestBody> {
        let mut budgets = vec![
            Arc::clone(&self.request_bytes),
            Arc::clone(&exchange.peer.request_bytes),
        ];
        budgets.extend(exchange.client().map(|client| Arc::clone(&client.request_bytes)));
        let (mut parts, body) = request.into_parts();
        let body = RequestBody::new(
            body,
            Arc::clone(exchange),
            TakenBytes::of(budgets),
            self.limits.message_time_max,
        );
        if let Ok(id) = HeaderValue::from_str(exchange.request_id()) {
            parts.headers.insert("x-request-id", id);
        }
        parts.extensions.insert(Arc::clone(exchange));
        Request::from_parts(parts, body)
    }

    /// Refuses a request whose body is not read.
    fn refuse(
        self: &Arc<Self>,
        exchange: Arc<Exchange>,
        request: &Request<Incoming>,
        error: &ApiError,
    ) -> Response<AnswerBody> {
        self.observe(&exchange, Err(error.into()));
        let response = match exchange.route.shape {
            Shape::Http => refusal::refused(request.uri().path(), error),
            Shape::Unary | Shape::Stream => status::response(error),
        };
        self.answer(exchange, request.method(), response)
    }

    fn answer(
        self: &Arc<Self>,
        exchange: Arc<Exchange>,
        method: &Method,
        response: Response<impl Into<AnswerInner>>,
    ) -> Response<AnswerBody> {
        let mut response = response;
        status::bound(response.headers_mut());
        let is_stream = exchange.route.answers_with_stream;
        // The first part of a stream says whether the call was refused.
        let is_open = is_stream && Sent::of(response.headers()).is_none();
        if !is_open {
            self.observe_unserved(&exchange, &response);
        }
        if exchange.route.shape == Shape::Http {
            let (status, took) = (response.status(), exchange.took());
            self.metrics.count_request(exchange.route, method, status, took);
        }
        if let Ok(id) = HeaderValue::from_str(exchange.request_id()) {
            response.headers_mut().entry("x-request-id").or_insert(id);
        }
        if let Some(tracing) = self.tracing.as_ref().filter(|_| !is_open) {
            tracing.end(&exchange, method, response.status());
        }
        let opened = is_open.then(|| Arc::clone(self));
        let has_content = method != Method::HEAD;
        response.map(|body| {
            let body = if has_content {
                body.into()
            } else {
                Body::empty().into()
            };
            AnswerBody::new(body, exchange, is_stream, opened)
        })
    }

    /// Counts and logs how a stream begins, and ends its span.
    pub(super) fn observe_stream(&self, exchange: &Exchange, outcome: Result<(), Failed<'_>>) {
        self.observe(exchange, outcome);
        if let Some(tracing) = &self.tracing {
            tracing.end(exchange, &Method::POST, StatusCode::OK);
        }
    }

    /// Counts and logs what no service handled: health, reflection, and requests that can't be decoded.
    fn observe_unserved<B>(&self, exchange: &Exchange, response: &Response<B>) {
        let of_http = || {
            let failed = exchange.route.shape == Shape::Http && response.status() >= StatusCode::BAD_REQUEST;
            failed.then(|| Sent {
                code: Code::InvalidArgument,
                reason: String::new(),
                message: response.status().to_string(),
            })
        };
        let sent = Sent::of(response.headers()).or_else(of_http);
        self.observe(exchange, sent.as_ref().map_or(Ok(()), |sent| Err(sent.into())));
    }
}

/// The answer of the endpoints.
async fn ask(exchange: &Exchange, endpoints: Router, request: Request<RequestBody>) -> Response<Body> {
    let asking = pin!(endpoints.oneshot(request.map(Body::new)));
    let Ok(response) = trace::within(exchange, asking).await;
    response
}

/// The answer to a request that is not valid, or that can't be a call at the path of an RPC.
fn no_call(request: &Request<Incoming>) -> Option<Response<Body>> {
    if let Some(why) = message::refusal(request) {
        return Some(refusal::no_request(why));
    }
    if !Route::is_rpc(request.uri().path()) {
        return None;
    }
    if request.method() != Method::POST {
        return Some(refusal::not_post());
    }
    if !refusal::is_grpc(request.headers()) {
        return Some(refusal::not_grpc());
    }
    (request.version() < Version::HTTP_2).then(refusal::not_http_2)
}
