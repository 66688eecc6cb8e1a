//! A service that verifies access tokens by itself.
//!
//! Reading needs `videos:read`; writing needs `videos:write`, and asks the authority where revocations can't
//! be followed. While the authority is away what was good stays good for the staleness bound; then the answer
//! is 503, until it is back.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use tessera_client::{Claims, Mode, Requirement, Scope, Verifier, VerifierOptions};
use tessera_examples::{Failure, authority, listen, log, serve};

/// The names of all videos.
type Shelf = Arc<Mutex<BTreeSet<String>>>;

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("videos: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let listener = listen("127.0.0.1:7610").await?;
    // A name of its own, so that `tessera revoke --wait` waits until this very verifier knows.
    let name = format!("videos-{}", listener.local_addr()?.port());
    let options = VerifierOptions::new(authority()?, "production", "api")?
        .staleness_bound(Duration::from_secs(10))
        .subscriber(&name)?
        .required(true);
    let verifier = Verifier::start(options)?;
    serve("VIDEOS", listener, router(&verifier)?).await
}

fn router(verifier: &Verifier) -> Result<Router, Failure> {
    let read = Scope::parse("videos:read")?;
    let write = Requirement::scope(Scope::parse("videos:write")?).mode(Mode::Introspect);
    let shelf = Shelf::new(Mutex::new(["intro", "tour"].map(str::to_owned).into()));
    Ok(Router::new()
        .route("/videos", get(list).layer(verifier.require(read)))
        .route("/videos/{name}", put(add).layer(verifier.require(write)))
        .with_state(shelf)
        .route("/readyz", get(is_ready).with_state(verifier.clone())))
}

async fn list(Extension(claims): Extension<Claims>, State(shelf): State<Shelf>) -> String {
    let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<_> = shelf.iter().map(String::as_str).collect();
    format!("for {}: {}\n", claims.subject, names.join(", "))
}

async fn add(
    Extension(claims): Extension<Claims>,
    State(shelf): State<Shelf>,
    Path(name): Path<String>,
) -> (StatusCode, String) {
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let status = match shelf.insert(name.clone()) {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    (status, format!("{} has put {name} there\n", claims.subject))
}

/// Whether tokens can be decided on at all: for a load balancer.
async fn is_ready(State(verifier): State<Verifier>) -> (StatusCode, String) {
    let status = verifier.status();
    let code = match status.is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let problem = status.problem.unwrap_or_else(|| "following".to_owned());
    (code, format!("{problem}, behind by {:?}\n", status.behind))
}
