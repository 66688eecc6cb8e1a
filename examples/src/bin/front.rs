//! A service that calls another one with its own access token.
//!
//! Its `TokenSource` gets a token when the first one is needed, renews it in time, and starts a new session
//! where the old one was revoked. While the authority is away, the token that it has goes on; without one the
//! answer is 503.
#![forbid(unsafe_code)]

use std::{error::Error, process::ExitCode, time::Duration};

use axum::{Router, body::Body, extract::State, http::StatusCode, response::Response, routing::get};
use http::Request;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use tessera_client::{AttachToken, Client, ClientOptions, TokenError, TokenRequest, TokenSource};
use tessera_examples::{Failure, authority, listen, log, serve, setting};
use tower::ServiceExt;

/// Whoever waits here for a token has a caller that waits.
const TOKEN_TIME_MAX: Duration = Duration::from_secs(2);

/// How to call videos.
#[derive(Clone)]
struct Videos {
    address: String,
    client: AttachToken<HttpClient<HttpConnector, Body>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("front: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let options = ClientOptions {
        deadline: TOKEN_TIME_MAX,
        ..ClientOptions::default()
    };
    let tokens = TokenSource::new(
        Client::with_options(&authority()?, options)?,
        TokenRequest {
            audience: "api".to_owned(),
            scopes: vec!["videos:read".to_owned()],
            ..TokenRequest::default()
        },
    );
    let client = HttpClient::builder(TokioExecutor::new()).build_http();
    let videos = Videos {
        address: setting("VIDEOS", "http://127.0.0.1:7610"),
        client: AttachToken::new(client, tokens),
    };
    let listener = listen("127.0.0.1:7611").await?;
    serve(
        "FRONT",
        listener,
        Router::new().route("/", get(list)).with_state(videos),
    )
    .await
}

/// What videos answers; its refusals are this service's own trouble, not its caller's.
async fn list(State(videos): State<Videos>) -> Result<Response, (StatusCode, String)> {
    let request = Request::get(format!("{}/videos", videos.address))
        .body(Body::empty())
        .map_err(|error| unanswered(&error))?;
    let answer = videos.client.oneshot(request).await;
    let answer = answer.map_err(|error| unanswered(error.as_ref()))?;
    match answer.status() {
        StatusCode::OK => Ok(answer.map(Body::new)),
        StatusCode::SERVICE_UNAVAILABLE => Err((StatusCode::SERVICE_UNAVAILABLE, "try again\n".to_owned())),
        status => Err((StatusCode::BAD_GATEWAY, format!("videos answered {status}\n"))),
    }
}

/// The log has the reason; the caller is told what it can do.
fn unanswered(error: &(dyn Error + 'static)) -> (StatusCode, String) {
    tracing::warn!(error, "videos was not asked");
    match error.downcast_ref::<TokenError>() {
        Some(TokenError::Passing(_) | TokenError::Stopped) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no token now: try again\n".to_owned(),
        ),
        Some(TokenError::Permanent(_)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "no token: the log says why\n".to_owned(),
        ),
        None => (StatusCode::BAD_GATEWAY, "videos does not answer\n".to_owned()),
    }
}
