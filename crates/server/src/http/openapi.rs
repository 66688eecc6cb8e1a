//! The description of the endpoints, generated from their code.

use std::sync::LazyLock;

use axum::{body::Bytes, response::IntoResponse};
use http::header::CONTENT_TYPE;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    forward_auth,
    login::{self, AccessToken, ApiKeyLogin, RefreshLogin},
    metadata,
    oauth::{self, IntrospectionAnswer, OAuthError, TokenAnswer, TokenForm, TokenToLookAt},
    problem::{Part, Problem},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tessera over HTTP",
        description = "The endpoints of the token authority for those who speak no gRPC. The gRPC API is the contract.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        login::api_key,
        login::refresh,
        oauth::token,
        oauth::introspect,
        oauth::revoke,
        metadata::first_issuer,
        metadata::issuer,
        metadata::keys,
        description,
        forward_auth::ask,
        forward_auth::ask_by_path,
    ),
    components(schemas(
        AccessToken,
        ApiKeyLogin,
        IntrospectionAnswer,
        OAuthError,
        Part,
        Problem,
        RefreshLogin,
        TokenAnswer,
        TokenForm,
        TokenToLookAt,
    )),
    modifiers(&Credentials)
)]
struct Description;

/// How clients authenticate at the OAuth routes: by Basic, or by the API key as a bearer token.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [
            ("basic", HttpAuthScheme::Basic),
            ("bearer", HttpAuthScheme::Bearer),
        ] {
            let scheme = HttpBuilder::new().scheme(scheme).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// Made once: making it takes longer than an Issue, and anybody may request it.
static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| {
    let text = Description::openapi().to_json().unwrap_or_default();
    text.into()
});

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn description() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described() {
        let described = Description::openapi();
        let paths: Vec<_> = described.paths.paths.keys().map(String::as_str).collect();
        for path in crate::http::PATHS
            .into_iter()
            .chain(["/forward-auth", "/forward-auth/{*path}"])
        {
            // OpenAPI can't express that a parameter may contain slashes.
            let path = path.replace("{*", "{");
            assert!(
                paths.contains(&path.as_str()),
                "{path} is in no `paths` of `Description`"
            );
        }
    }
}
