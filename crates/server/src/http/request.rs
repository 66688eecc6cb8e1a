//! A request at an HTTP endpoint, read within bounds.

use std::{error::Error as _, sync::Arc};

use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use tessera_proto::v1::ErrorReason;
use tonic::Code;

use crate::{
    edge::{BodyError, Edge, Exchange, exchange},
    error::ApiError,
};

/// The parts of a request that an endpoint sees.
pub(super) struct HttpRequest {
    pub(super) edge: Arc<Edge>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl HttpRequest {
    /// Reads a request. Secrets do not belong in a query, which proxies write to logs.
    ///
    /// # Errors
    /// A reason to refuse the request without reading it.
    pub(super) async fn read(edge: Arc<Edge>, request: Request) -> Result<Self, Unread> {
        if request.uri().query().is_some_and(|query| !query.is_empty()) {
            return Err(Unread::Query);
        }
        let charset = Charset::of(request.headers());
        if charset == Charset::Other {
            return Err(Unread::Charset);
        }
        let exchange = exchange(request.extensions()).map_err(|_| Unread::Broken)?;
        let (parts, body) = request.into_parts();
        // Before the client is told to continue (RFC 9110 §10.1.1).
        let max = exchange.route.message_bytes_max;
        if declared_bytes(&parts.headers).is_some_and(|length| length > max as u64) {
            return Err(Unread::TooLarge);
        }
        let body = to_bytes(body, max).await;
        let body = body.map_err(|error| Unread::of(&error))?;
        if !charset.is_utf8(&body) {
            return Err(Unread::Charset);
        }
        Ok(Self {
            edge,
            exchange,
            headers: parts.headers,
            body,
        })
    }
}

/// The length of the body, if the request declares it; hyper has checked that it is one number.
fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Why a request was refused before its content was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unread {
    Query,
    Charset,
    Broken,
    TooLarge,
    TooSlow,
    TooMany,
    Stopping,
}

impl Unread {
    /// Why a body could not be read.
    fn of(error: &axum::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            match error.downcast_ref::<BodyError>() {
                Some(BodyError::Refused(error)) => return Self::of_refusal(error),
                Some(BodyError::Broken(_)) => return Self::Broken,
                None => {}
            }
            cause = error.source();
        }
        Self::TooLarge
    }

    fn of_refusal(error: &ApiError) -> Self {
        match error.code() {
            Code::DeadlineExceeded => Self::TooSlow,
            Code::Unavailable if error.reason() == ErrorReason::Draining => Self::Stopping,
            Code::Unavailable => Self::TooMany,
            _ => Self::Broken,
        }
    }

    pub(super) fn code(self) -> StatusCode {
        match self {
            Self::Query | Self::Charset | Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The reason of the contract.
    pub(super) fn reason(self) -> ErrorReason {
        match self {
            Self::Query | Self::Charset | Self::Broken => ErrorReason::FieldInvalid,
            Self::TooLarge => ErrorReason::RequestTooLarge,
            Self::TooSlow => ErrorReason::RequestTooSlow,
            Self::TooMany => ErrorReason::Overloaded,
            Self::Stopping => ErrorReason::Draining,
        }
    }

    /// The code of an RPC that is refused for the same.
    pub(super) fn rpc_code(self) -> Code {
        match self {
            Self::Query | Self::Charset | Self::Broken | Self::TooLarge => Code::InvalidArgument,
            Self::TooSlow => Code::DeadlineExceeded,
            Self::TooMany | Self::Stopping => Code::Unavailable,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Query => "nothing is taken from the query string: send it in the body",
            Self::Charset => "the body must be UTF-8, and its type must not say otherwise",
            Self::Broken => "the body ended before it was complete",
            Self::TooLarge => "the body is longer than 64 KiB",
            Self::TooSlow => "the body did not come in time",
            Self::TooMany => "too many requests are under way: try again",
            Self::Stopping => "the server is stopping: try again",
        }
    }
}

/// The character set that the content type of a body names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// UTF-8; or not named, since only UTF-8 is read.
    Utf8,
    /// A character set whose first 128 characters are ASCII.
    LikeAscii,
    Other,
}

impl Charset {
    fn of(headers: &HeaderMap) -> Self {
        let types = headers.get_all(header::CONTENT_TYPE).iter();
        let parameters = types.flat_map(|value| value.as_bytes().split(|byte| *byte == b';').skip(1));
        let mut charsets = parameters.filter_map(|parameter| {
            let mut halves = parameter.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
            let (name, value) = (halves.next()?, halves.next()?);
            name.eq_ignore_ascii_case(b"charset").then(|| Self::named(value))
        });
        match (charsets.next(), charsets.next()) {
            (None, _) => Self::Utf8,
            (Some(only), None) => only,
            (Some(first), Some(second)) if first == second => first,
            _ => Self::Other,
        }
    }

    fn named(value: &[u8]) -> Self {
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        let name = String::from_utf8_lossy(value).to_ascii_lowercase();
        match name.as_str() {
            "utf-8" | "utf8" => Self::Utf8,
            "us-ascii" | "ascii" | "latin1" => Self::LikeAscii,
            name if name.starts_with("iso-8859-") || name.starts_with("windows-125") => Self::LikeAscii,
            _ => Self::Other,
        }
    }

    /// Whether a body in this character set means the same as UTF-8.
    fn is_utf8(self, body: &[u8]) -> bool {
        match self {
            Self::Utf8 => true,
            Self::LikeAscii => body.is_ascii(),
            Self::Other => false,
        }
    }
}
