//! Client authentication (RFC 6749 §2.3): by HTTP Basic or in the form, with the API key as the secret; or, as
//! everywhere else in Tessera, with the API key as a bearer token.

use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tessera_authority::{AuthenticateError, Principal};
use tessera_core::AuthorizationHeader;

use super::{error::Failure, form::Form};
use crate::{edge::authorization_in, error::ApiError, http::request::HttpRequest};

/// The credentials of a client.
pub(super) struct Credentials {
    /// The client that it claims to be; `None` if it sends only its key.
    id: Option<String>,
    api_key: String,
}

impl Credentials {
    /// Must be in exactly one part of the request.
    pub(super) fn of(http: &HttpRequest, form: &Form) -> Result<Self, Failure> {
        let (id, secret) = (form.one("client_id"), form.one("client_secret"));
        let in_header = Self::in_header(&http.headers)?;
        match (in_header, secret) {
            (Some(_), Some(_)) => Err(Failure::invalid_request(
                "the client authenticates in the Authorization header or in the body, not in both",
            )),
            (Some(shown), None) => shown.with_id(id),
            (None, Some(api_key)) => Ok(Self {
                id: id.map(str::to_owned),
                api_key: api_key.to_owned(),
            }),
            (None, None) => Err(Failure::no_client()),
        }
    }

    /// With the `client_id` of the form, which must name the same client.
    fn with_id(mut self, id: Option<&str>) -> Result<Self, Failure> {
        match (&self.id, id) {
            (Some(shown), Some(id)) if short(shown) != short(id) => Err(Failure::invalid_request(
                "client_id is of another client than the Authorization header",
            )),
            (None, Some(id)) => {
                self.id = Some(id.to_owned());
                Ok(self)
            }
            _ => Ok(self),
        }
    }

    /// Authenticates the client by its own API key.
    pub(super) async fn authenticate(&self, http: &HttpRequest) -> Result<Principal, Failure> {
        let principal = http
            .edge
            .authenticate(&http.exchange, Some(&self.api_key))
            .await?;
        let name = short(principal.client().as_str());
        if self.id.as_ref().is_none_or(|id| short(id) == name) {
            return Ok(principal);
        }
        http.edge.count_refusal(&http.exchange)?;
        Err(refused())
    }

    fn in_header(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let given = authorization_in(headers);
        match given {
            AuthorizationHeader::Absent => return Ok(None),
            AuthorizationHeader::Several => {
                return Err(Failure::invalid_request(
                    "there are several Authorization headers",
                ));
            }
            AuthorizationHeader::NotText | AuthorizationHeader::Given { .. } => {}
        }
        if let Some(api_key) = given.bearer() {
            return Ok(Some(Self {
                id: None,
                api_key: api_key.to_owned(),
            }));
        }
        let Some(shown) = given.credential("basic") else {
            return Err(Failure::unsupported_authentication(
                "the Authorization header must have the scheme Basic or Bearer, and a credential after it",
            ));
        };
        let malformed = || {
            Failure::unsupported_authentication(
                "HTTP Basic is base64 of the client's name, a colon and its API key (RFC 7617)",
            )
        };
        basic(shown).map(Some).ok_or_else(malformed)
    }
}

/// The name of a client, with or without its prefix.
fn short(name: &str) -> &str {
    name.strip_prefix("client:").unwrap_or(name)
}

/// Both parts are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic(credential: &str) -> Option<Credentials> {
    let pair = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    // An API key contains no colon; the name of a client does, if it was not encoded.
    let (id, api_key) = pair.rsplit_once(':')?;
    let decoded = |text: &str| {
        let mut parsed = form_urlencoded::parse(text.as_bytes());
        parsed.next().map(|(text, _)| text.into_owned())
    };
    Some(Credentials {
        id: decoded(id).filter(|id| !id.is_empty()),
        api_key: decoded(api_key)?,
    })
}

fn refused() -> Failure {
    ApiError::from(AuthenticateError::Refused).into()
}
