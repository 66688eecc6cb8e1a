//! A service that plays a film to whoever has rented it.
//!
//! Playing film `v42` needs `videos/v42:play`: the scope has its parameter from the path that is called. A token for
//! another film, and a path that can be read in more than one way, are refused before the film is looked for.
#![forbid(unsafe_code)]

use std::{process::ExitCode, time::Duration};

use axum::{Extension, Router, extract::Path, routing::get};
use tessera_client::{Claims, Requirement, Verifier, VerifierOptions};
use tessera_examples::{Failure, authority, listen, log, serve};

/// Where a film is played.
const PLAY: &str = "/videos/{id}/play";

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("player: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let listener = listen("127.0.0.1:7612").await?;
    // Films are for players only: a token for the API plays none.
    let verifier = Verifier::start(VerifierOptions::new(authority()?, "production", "player")?)?;
    verifier.ready(Duration::from_secs(30)).await?;
    serve("PLAYER", listener, router(&verifier)?).await
}

fn router(verifier: &Verifier) -> Result<Router, Failure> {
    let rented = Requirement::scope_from_path(PLAY, "videos/{id}:play")?;
    Ok(Router::new().route(PLAY, get(play).layer(verifier.require(rented))))
}

async fn play(Extension(claims): Extension<Claims>, Path(id): Path<String>) -> String {
    format!("film {id} for {}\n", claims.subject)
}
