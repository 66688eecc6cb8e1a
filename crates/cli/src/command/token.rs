//! `tessera token …`.

use std::process::ExitCode;

use serde_json::json;
use tessera_core::{Audience, Clock, RealmName, SystemClock};
use tessera_proto::v1::{
    IntrospectRequest, IntrospectResponse, IssueRequest, ListKeysRequest, RefreshRequest, RevokeRequest,
    TokenSet, revoke_request::Target,
};
use tessera_token::{Expectation, Keyring, VerifyingKey, access, refresh};

use crate::{
    arguments::{Connection, Issue, Output, Token},
    command::{duration::duration, revoke::print_revoked},
    connect::secret,
    failure::Failure,
    json,
    output::table,
};

pub(crate) async fn run(
    command: Token,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        Token::Issue(arguments) => issue(arguments, connection, output).await?,
        Token::Refresh {
            token,
            scopes,
            request_id,
        } => {
            let refresh_token = secret(token)?;
            let request = RefreshRequest {
                request_id: request_id.unwrap_or_default(),
                refresh_token,
                scopes,
            };
            print_refreshed(request, connection, output).await?;
        }
        Token::Introspect {
            token,
            at_least_as_fresh,
        } => {
            let token = secret(token)?;
            let request = IntrospectRequest {
                token,
                at_least_as_fresh: at_least_as_fresh.unwrap_or_default(),
            };
            let response = connection.tokens().await?.introspect(request).await?.into_inner();
            output.print(&json::introspect_response(&response), || introspection(&response))?;
            return Ok(ExitCode::from(u8::from(!response.active)));
        }
        Token::Revoke { token, reason, wait } => {
            let target = Some(Target::Token(secret(token)?));
            let request = RevokeRequest {
                reason,
                target,
                ..RevokeRequest::default()
            };
            print_revoked(request, wait, connection, output).await?;
        }
        Token::Inspect {
            token,
            verify,
            audience,
        } => {
            return inspect(&secret(token)?, verify, audience.as_ref(), connection, output).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn issue(arguments: Issue, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let request = IssueRequest {
        request_id: arguments.request_id.unwrap_or_default(),
        subject: arguments.subject.unwrap_or_default(),
        roles: arguments.roles,
        scopes: arguments.scopes,
        audience: arguments.audience.unwrap_or_default(),
        access_ttl: arguments.access_ttl.map(duration),
        session_ttl: arguments.session_ttl.map(duration),
        labels: arguments.labels,
        require_all: arguments.require_all,
        without_refresh: arguments.without_refresh,
    };
    let response = connection.tokens().await?.issue(request).await?.into_inner();
    output.print(&json::issue_response(&response), || {
        let mut rows = token_rows(response.tokens.as_ref());
        rows.push(("session", response.session_id.clone()));
        rows.extend(
            response
                .denied
                .iter()
                .map(|denied| ("denied", format!("{}: {}", denied.scope, denied.reason))),
        );
        table(&rows)
    })
}

async fn print_refreshed(
    request: RefreshRequest,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let response = connection.tokens().await?.refresh(request).await?.into_inner();
    output.print(&json::refresh_response(&response), || {
        let mut rows = token_rows(response.tokens.as_ref());
        rows.push(("session", response.session_id.clone()));
        let again = if response.replayed {
            " (the answer to the last refresh, again)"
        } else {
            ""
        };
        rows.push(("generation", format!("{}{again}", response.generation)));
        rows.extend(
            response
                .denied
                .iter()
                .map(|denied| ("denied", format!("{}: {}", denied.scope, denied.reason))),
        );
        table(&rows)
    })
}

fn token_rows(tokens: Option<&TokenSet>) -> Vec<(&'static str, String)> {
    let Some(tokens) = tokens else { return Vec::new() };
    vec![
        ("access token", tokens.access_token.clone()),
        ("refresh token", tokens.refresh_token.clone()),
        ("expires in", format!("{} s", tokens.expires_in)),
        ("scopes", tokens.scopes.join(" ")),
    ]
}

fn introspection(response: &IntrospectResponse) -> String {
    if !response.active {
        return "inactive".to_owned();
    }
    let time = |seconds| tessera_core::Timestamp::from_seconds(seconds).to_rfc3339();
    table(&[
        ("active", response.token_kind.clone()),
        ("subject", response.sub.clone()),
        ("scopes", response.scope.clone()),
        ("roles", response.roles.join(" ")),
        ("audience", response.aud.clone()),
        ("client", response.client_id.clone()),
        ("issuer", response.iss.clone()),
        ("issued at", time(response.iat)),
        ("expires at", time(response.exp)),
        ("session", response.session_id.clone()),
        ("generation", response.generation.to_string()),
        ("labels", response.labels.join(" ")),
    ])
}

async fn inspect(
    token: &str,
    verify: bool,
    audience: Option<&Audience>,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    if token.starts_with(refresh::PREFIX) {
        return Err(Failure::refused(
            "only its authority can read a refresh token: try `tessera token introspect`",
        ));
    }
    let Some((kid, claims)) = access::unverified_claims(token) else {
        return Err(Failure::refused(
            "not a Tessera access token: expected `v4.public.…`, copied whole",
        ));
    };
    let verdict = if verify {
        Some(verdict(token, audience, connection).await?)
    } else {
        None
    };
    let said = match &verdict {
        None => "nothing was verified (--verify does)".to_owned(),
        Some(Ok(())) => {
            let too = audience.map_or("signature and time", |_| "signature, time and audience");
            format!("{too} are right; whether it is revoked was not checked")
        }
        Some(Err(error)) => format!("REFUSED: {error}"),
    };
    let mut document = json::claims(kid.as_str(), &claims);
    if let Some(members) = document.as_object_mut() {
        members.insert("verified".to_owned(), json!(verdict.as_ref().map(Result::is_ok)));
    }
    output.print(&document, || {
        table(&[
            ("key", kid.to_string()),
            ("issuer", claims.issuer.clone()),
            ("subject", claims.subject.to_string()),
            ("audience", claims.audience.to_string()),
            ("scopes", claims.scopes.to_string()),
            ("client", claims.client.to_string()),
            ("issued at", claims.issued_at.to_rfc3339()),
            ("expires at", claims.expires_at.to_rfc3339()),
            ("session", claims.session.to_string()),
            ("generation", claims.generation.to_string()),
            ("", said),
        ])
    })?;
    Ok(if matches!(verdict, Some(Err(_))) {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// Verifies as a service does, with the published keys.
async fn verdict(
    token: &str,
    audience: Option<&Audience>,
    connection: &Connection,
) -> Result<Result<(), tessera_token::VerifyError>, Failure> {
    let mut keyring = Keyring::default();
    let mut client = connection.keys().await?;
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            page_token,
            ..ListKeysRequest::default()
        };
        let page = client.list_keys(request).await?.into_inner();
        for key in page
            .keys
            .into_iter()
            .filter(|key| key.status() != tessera_proto::v1::KeyStatus::Revoked)
        {
            let realm = RealmName::parse(&key.realm).map_err(Failure::cannot_run)?;
            let not_after = key
                .not_after
                .map(|time| tessera_core::Timestamp::from_seconds(time.seconds));
            let key = VerifyingKey::parse(&key.paserk, realm, key.issuer, not_after);
            keyring.insert(key.map_err(Failure::cannot_run)?);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = Expectation {
        audience,
        realm: None,
        leeway: Expectation::LEEWAY_DEFAULT,
    };
    Ok(access::verify(token, &keyring, &expected, SystemClock.now()).map(|_| ()))
}
