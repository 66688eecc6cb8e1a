//! The length of tokens: every reader accepts an issued token, and a longer one is refused when it is requested, with
//! the remedy.

use std::sync::Arc;

use tessera_core::limits::{
    LABEL_BYTES_MAX, LABELS_MAX, ROLES_MAX, SCOPE_BYTES_MAX, SCOPES_MAX, SUBJECT_BYTES_MAX,
    TOKEN_BYTES_DEFAULT, TOKEN_BYTES_MAX,
};
use tessera_proto::{
    upstream::envoy::service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Request},
    },
    v1::{IntrospectManyRequest, IssueRequest, revoke_request::Target},
};
use tessera_store::{MemoryStore, Store};
use tessera_testkit::world::{
    Client, PolicyDirectory, Setup, World, access_token, reason, refresh_token, strings,
};
use tessera_token::ServerKey;
use tonic_types::StatusExt;

use crate::endpoints::{FORM, send};

/// Scopes of this length in bytes, as many as one request may name.
fn scopes(bytes: usize) -> Vec<String> {
    let scope = |number| format!("reports/{number:03}{}:read", "x".repeat(bytes - 16));
    (0..SCOPES_MAX).map(scope).collect()
}

/// A policy that grants `role:auditor` all `scopes`, and more roles with the longest names.
fn policy(scopes: &[String]) -> PolicyDirectory {
    let directory = PolicyDirectory::new();
    let mut catalogue = "realms.production = \"p\"\nrealms.sandbox = \"s\"\naudiences.api = \"x\"\n\
                         roles.\"role:auditor\" = \"x\"\n"
        .to_owned();
    for role in roles() {
        catalogue.push_str(&format!("roles.\"{role}\" = \"x\"\n"));
    }
    for scope in scopes {
        catalogue.push_str(&format!("scopes.\"{scope}\" = \"x\"\n"));
    }
    directory.write("catalogue.toml", &catalogue);
    directory.write(
        "policy.csv",
        "p, role:auditor, *, reports/*, read, allow\n\
         p, client:app, *, tessera/subjects/*, issue, allow\n\
         p, client:app, *, tessera/roles/*, assert, allow\n",
    );
    directory
}

fn roles() -> Vec<String> {
    let role = |number| format!("role:{number:02}{}", "x".repeat(62));
    (1..ROLES_MAX).map(role).collect()
}

async fn world(token_bytes_max: usize, scopes: &[String]) -> (World, Client) {
    let setup = Setup {
        token_bytes_max,
        ..Setup::default()
    };
    let world = World::in_directory(setup, policy(scopes)).await;
    let app = world.client("production", "app").await;
    (world, app)
}

fn auditor() -> IssueRequest {
    IssueRequest {
        subject: "user:ann".to_owned(),
        roles: strings(&["role:auditor"]),
        ..IssueRequest::default()
    }
}

/// A request with every list and every name at its maximum length.
fn largest(scopes: Vec<String>) -> IssueRequest {
    let label = |number| format!("{number}{}", "x".repeat(LABEL_BYTES_MAX - 1));
    IssueRequest {
        subject: "s".repeat(SUBJECT_BYTES_MAX),
        roles: roles().into_iter().chain(strings(&["role:auditor"])).collect(),
        scopes,
        labels: (0..LABELS_MAX).map(label).collect(),
        require_all: true,
        ..IssueRequest::default()
    }
}

/// Envoy's question about a request with this token, on a route for any valid token.
fn question(token: &str) -> CheckRequest {
    let http = HttpRequest {
        headers: [("authorization".to_owned(), format!("Bearer {token}"))].into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request { http: Some(http) }),
            context_extensions: [("tessera.scope".to_owned(), "any".to_owned())].into(),
        }),
    }
}

#[tokio::test]
async fn the_largest_request_passes_every_reader() {
    let scopes = scopes(SCOPE_BYTES_MAX);
    let (world, app) = world(TOKEN_BYTES_MAX, &scopes).await;
    let issued = app.issue(largest(scopes.clone())).await.unwrap();
    let token = access_token(issued.tokens.as_ref());
    assert!(token.len() > 20_000, "{}", token.len());

    assert_eq!(app.introspect(&token).await.scope, scopes.join(" "));
    let many = IntrospectManyRequest {
        tokens: vec![token.clone(); 100],
        at_least_as_fresh: String::new(),
    };
    let many = app.tokens().introspect_many(many).await.unwrap().into_inner();
    assert!(many.results.iter().all(|result| result.active));
    let bearer = [("authorization", &*format!("Bearer {token}"))];
    let asked = send(&world, "GET /forward-auth?scope=any", &bearer, b"").await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let mut envoy = world.authorization();
    let checked = envoy.check(question(&token)).await.unwrap().into_inner();
    assert_eq!(checked.status.unwrap().code, 0);
    let client = ("authorization", &*format!("Bearer {}", app.api_key));
    let form = format!("token={token}");
    let introspected = send(
        &world,
        "POST /oauth2/introspect",
        &[FORM, client],
        form.as_bytes(),
    )
    .await;
    assert_eq!(introspected.json()["active"], true);

    let refreshed = app.refresh(&refresh_token(issued.tokens.as_ref())).await.unwrap();
    let renewed = access_token(refreshed.tokens.as_ref());
    let revoked = send(&world, "POST /oauth2/revoke", &[FORM, client], form.as_bytes()).await;
    assert_eq!(revoked.status, 200);
    assert!(!app.introspect(&token).await.active);
    assert_eq!(app.revoke(Target::Token(renewed)).await.unwrap().matched, 1);
}

#[tokio::test]
async fn what_would_be_too_long_is_refused_where_it_is_made() {
    let scopes = scopes(70);
    let (_world, app) = world(TOKEN_BYTES_DEFAULT, &scopes).await;
    let refused = app.issue(auditor()).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / TOKEN_TOO_LARGE");
    let message = refused.message();
    assert!(
        message.contains("6144") && message.contains("name those that are needed"),
        "{message}"
    );
    let said = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(
        (said["bytes_max"].as_str(), said["scopes"].as_str()),
        ("6144", "100")
    );
    assert!(message.contains(&said["bytes"]));

    // More and more scopes, up to the limit: every issued token can be read.
    let mut longest = 0;
    for count in [40, 52, 55, 58, 60, 70] {
        let named = IssueRequest {
            scopes: scopes[..count].to_vec(),
            ..auditor()
        };
        match app.issue(named).await {
            Ok(issued) => {
                let token = access_token(issued.tokens.as_ref());
                assert!(token.len() <= TOKEN_BYTES_DEFAULT);
                assert!(app.introspect(&token).await.active);
                longest = count;
            }
            Err(refused) => assert_eq!(reason(&refused), "FailedPrecondition / TOKEN_TOO_LARGE"),
        }
    }
    assert!((40..70).contains(&longest), "{longest}");
}

#[tokio::test]
async fn a_refresh_that_would_be_too_long_is_refused_and_loses_nothing() {
    let scopes = scopes(70);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let key = ServerKey::generate().unwrap().to_paserk();
    let setup = |token_bytes_max| Setup {
        token_bytes_max,
        store: store.clone(),
        server_key: ServerKey::parse(&key).unwrap(),
        ..Setup::default()
    };
    let before = World::in_directory(setup(TOKEN_BYTES_MAX), policy(&scopes)).await;
    let app = before.client("production", "app").await;
    let issued = app.issue(auditor()).await.unwrap();
    let first = refresh_token(issued.tokens.as_ref());

    let after = World::in_directory(setup(TOKEN_BYTES_DEFAULT), policy(&scopes)).await;
    let app = after.with_key(&app.api_key);
    for _ in 0..3 {
        let refused = app.refresh(&first).await.unwrap_err();
        assert_eq!(reason(&refused), "FailedPrecondition / TOKEN_TOO_LARGE");
    }
    // The session is alive, and works with fewer scopes.
    let fewer: Vec<&str> = scopes[..10].iter().map(String::as_str).collect();
    let refreshed = app.refresh_with(&first, &fewer).await.unwrap();
    assert_eq!((refreshed.generation, refreshed.replayed), (2, false));
    let second = refresh_token(refreshed.tokens.as_ref());
    // The same holds for the answer to a retry.
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "FailedPrecondition / TOKEN_TOO_LARGE"
    );
    assert!(app.refresh_with(&first, &fewer).await.unwrap().replayed);
    assert_eq!(app.refresh_with(&second, &fewer).await.unwrap().generation, 3);
}
