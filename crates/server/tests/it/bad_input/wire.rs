//! Malformed requests, over HTTP/1.1 and HTTP/2, and the log meanwhile.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::Once,
};

use axum::body::{Body, to_bytes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Request};
use tessera_testkit::{soon, world::World};
use tower::{Service, ServiceExt};
use tracing_subscriber::{EnvFilter, fmt};

use crate::endpoints::{Answer, raw};

/// A request with correct lengths.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: String,
    /// The path; it may have a query.
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Http1,
    Http2,
}

impl Ask {
    /// The same with another value of a header, or without it.
    pub(super) fn header<'a>(&self, name: &'static str, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut ask = self.clone();
        ask.headers.retain(|(called, _)| *called != name);
        let values = values.into_iter().map(|value| (name, value.to_vec()));
        ask.headers.extend(values);
        ask
    }

    pub(super) fn body(&self, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..self.clone()
        }
    }

    pub(super) fn target(&self, target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            ..self.clone()
        }
    }

    pub(super) fn method(&self, method: &str) -> Self {
        Self {
            method: method.to_owned(),
            ..self.clone()
        }
    }

    pub(super) async fn send(&self, world: &World, over: Over) -> Answer {
        match over {
            Over::Http1 => raw(world.address, &self.bytes()).await,
            Over::Http2 => soon("an answer", self.by_http2(world)).await,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let Self { method, target, .. } = self;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: tessera\r\nconnection: close\r\n");
        bytes += &format!("content-length: {}\r\n", self.body.len());
        let mut bytes = bytes.into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        [&bytes, &b"\r\n"[..], &self.body].concat()
    }

    /// With gRPC's channel, which uses HTTP/2 from the start.
    async fn by_http2(&self, world: &World) -> Answer {
        let mut request = Request::new(tonic::body::Body::new(Body::from(self.body.clone())));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).unwrap();
        *request.uri_mut() = self.target.parse().unwrap();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let mut channel = world.channel();
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
        let mut head = String::new();
        for (name, value) in &parts.headers {
            head += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        Answer {
            status: parts.status.as_u16(),
            head,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

pub(super) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

thread_local! {
    /// What was logged in this thread, if the test collects it.
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log of this thread, and so of its test's server.
pub(super) struct Log;

/// The log of all threads: tracing may ask any of them whether a line is needed at all.
struct Lines;

impl Log {
    pub(super) fn listen() -> Self {
        static SET_UP: Once = Once::new();
        SET_UP.call_once(|| {
            let subscriber = fmt()
                .with_env_filter(EnvFilter::new("trace,h2=info"))
                .with_ansi(false)
                .with_writer(|| Lines);
            subscriber.init();
        });
        HEARD.set(Some(Vec::new()));
        Self
    }

    /// What was logged since the last time.
    #[expect(clippy::unused_self, reason = "only who listens hears something")]
    pub(super) fn take(&self) -> String {
        String::from_utf8(HEARD.replace(Some(Vec::new())).unwrap()).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.extend(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
