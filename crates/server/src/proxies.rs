//! Proxies ask whether a request may pass: one decision for the HTTP endpoint and for Envoy's RPC.
//!
//! Neither needs a credential of the proxy. The holder of a token learns only that it is valid and what it contains,
//! which anyone can check with the published keys. An answer to a proxy is worth nothing to others. Refusals are not
//! counted against an address: the address is the proxy's, and the tokens belong to its users. Only the number of
//! signature checks is bounded; a token that was seen before needs none.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tessera_authority::{AccessCheck, AccessError};
use tessera_core::AuthorizationHeader;

use crate::edge::{Edge, Exchange};

mod refusal;
mod requirement;

pub(crate) use refusal::Refusal;
use requirement::Need;
pub(crate) use requirement::{Question, Stated, Unstated, default_audience};

/// The headers that tell the service behind a proxy who sent the request.
pub(crate) const HEADERS: [&str; 4] = [
    "x-tessera-subject",
    "x-tessera-client",
    "x-tessera-scopes",
    "x-tessera-realm",
];

/// A request that may pass.
#[derive(Debug)]
pub(crate) enum Passed {
    /// The caller was not identified: anyone may send it.
    Open,
    /// With a valid token.
    As(AccessCheck),
}

/// Checks one request.
pub(crate) async fn check(
    edge: &Edge,
    exchange: &Exchange,
    question: Result<Question<'_>, Refusal>,
    token: Result<&str, Refusal>,
) -> Result<Passed, Refusal> {
    let mut refusal = None;
    let checked = edge.endpoint(exchange, async {
        let checked = decide(edge, question, token).await;
        checked.map_err(|refused| {
            if edge.may_log(exchange) {
                refused.log(exchange);
            }
            let error = refused.error();
            refusal = Some(refused);
            error
        })
    });
    let checked = checked.await;
    // Without a refusal of the check, the edge refused it: overload, or the time was over.
    checked.map_err(|error| refusal.unwrap_or(Refusal::Indeterminate(error)))
}

async fn decide(
    edge: &Edge,
    question: Result<Question<'_>, Refusal>,
    token: Result<&str, Refusal>,
) -> Result<Passed, Refusal> {
    // Before the token, so that a mistake in a configuration shows with the first request.
    let requirement = match Need::of(edge, question?)? {
        Need::Nothing => return Ok(Passed::Open),
        Need::Token(requirement) => requirement,
    };
    let token = token?;
    if !edge.authority.access().has_verified(token) {
        edge.count_proxy_check().map_err(Refusal::Indeterminate)?;
    }
    edge.authority
        .access()
        .check_access(token, &requirement.wanted())
        .await
        .map(Passed::As)
        .map_err(Refusal::from)
}

/// The values for the service behind the proxy, in the order of [`HEADERS`].
pub(crate) fn headers(checked: &AccessCheck) -> [(&'static str, String); 4] {
    let [subject, client, scopes, realm] = HEADERS;
    [
        (subject, encoded(checked.subject.as_str())),
        (client, checked.client.to_string()),
        (scopes, checked.scopes.to_string()),
        (realm, checked.realm.to_string()),
    ]
}

/// A subject in a header: percent-encoded, as in a URI (RFC 3986 §2.1), if it contains anything except visible ASCII,
/// or `%` itself, or a character that divides the value of a header.
fn encoded(subject: &str) -> String {
    const ENCODED: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'%')
        .add(b'"')
        .add(b',')
        .add(b';')
        .add(b'\\');
    utf8_percent_encode(subject, ENCODED).to_string()
}

/// The one bearer token of a request (RFC 6750 §2.1).
pub(crate) fn bearer(authorization: AuthorizationHeader<'_>) -> Result<&str, Refusal> {
    match authorization {
        AuthorizationHeader::Absent => Err(Refusal::NoToken),
        // It is unknown which of them the service behind the proxy would use.
        AuthorizationHeader::Several => Err(Refusal::no_good("more than one authorization header")),
        AuthorizationHeader::NotText => Err(Refusal::no_good("the authorization header is no text")),
        given @ AuthorizationHeader::Given { .. } => given.credential("bearer").ok_or(Refusal::NoToken),
    }
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::TokenRejection(why) => Self::NoGoodToken(why.to_string()),
            AccessError::ScopesMissing { missing } => Self::NoScopes(missing),
            AccessError::Unavailable(error) => Self::Indeterminate(error.into()),
        }
    }
}
