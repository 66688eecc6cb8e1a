//! Client authentication (RFC 6749 §2.3): by HTTP Basic or in the form, with the API key as the secret, or
//! as everywhere else in Tessera by the API key as a bearer token.

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tessera_authority::{AuthenticateError, Principal};

use super::{error::Failure, form};
use crate::{http::Visit, status::IntoStatus};

/// What a client shows.
pub(super) struct Credentials {
    /// The client that it says it is; none where it shows its key only.
    id: Option<String>,
    api_key: String,
}

#[derive(Deserialize)]
struct InForm {
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl Credentials {
    /// Found in one place of the request.
    pub(super) fn of(visit: &Visit) -> Result<Self, Failure> {
        let in_form: InForm = form(&visit.body)?;
        let in_header = Self::in_header(&visit.headers)?;
        match (in_header, in_form.client_secret) {
            (Some(_), Some(_)) => Err(Failure::invalid_request(
                "the client authenticates in the Authorization header or in the body, not in both",
            )),
            (Some(credentials), None) => Ok(credentials),
            (None, Some(api_key)) => Ok(Self {
                id: in_form.client_id,
                api_key,
            }),
            (None, None) => Err(refused()),
        }
    }

    /// Lets the client in that shows its own API key.
    pub(super) async fn let_in(&self, visit: &Visit) -> Result<Principal, Failure> {
        let principal = visit
            .edge
            .authenticate(&visit.exchange, Some(&self.api_key))
            .await?;
        let is_itself = self.id.as_ref().is_none_or(|id| {
            let name = principal.client().as_str();
            id == name || name.strip_prefix("client:") == Some(id)
        });
        if is_itself {
            return Ok(principal);
        }
        visit.edge.count_refusal(&visit.exchange)?;
        Err(refused())
    }

    fn in_header(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let only = match (all.next(), all.next()) {
            (None, _) => return Ok(None),
            (Some(only), None) => only.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(Failure::invalid_request(
                    "there are several Authorization headers",
                ));
            }
        };
        let Some((scheme, credential)) = only.split_once(' ') else {
            return Err(refused());
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Self {
                id: None,
                api_key: credential.trim().to_owned(),
            }));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(refused());
        }
        basic(credential.trim()).map(Some).ok_or_else(refused)
    }
}

/// Both parts are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic(credential: &str) -> Option<Credentials> {
    let pair = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    // An API key has no colon; the name of a client has, where it was not encoded.
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
    Failure::from(AuthenticateError::Refused.into_status())
}
