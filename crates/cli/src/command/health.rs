//! `tessera health`: the answer of `/readyz`, as an exit code for containers and scripts.

use std::{process::ExitCode, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    arguments::{Connection, Health, Output},
    failure::Failure,
    terminal::visible,
};

/// How much of an answer is read.
const ANSWER_MAX: usize = 64 * 1024;
/// The beginning of the reason of an authority that is not ready.
const NOT_READY: &str = "not ready: ";
/// The beginning of a line that needs an operator's attention.
const WARNING: &str = "warning: ";

/// Exit code 0 if it is ready, 1 if it is not, 2 if that is not known.
pub(crate) async fn run(
    health: &Health,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let time_max = Duration::from_secs(connection.timeout.0.into());
    let asked = timeout(time_max, ask(&health.admin_addr)).await;
    let cannot_tell = |why: String| {
        Failure::cannot_run(format!(
            "{} does not say whether the authority is ready: {why}",
            health.admin_addr
        ))
    };
    let (status, text) = match asked {
        Ok(answer) => answer.map_err(cannot_tell)?,
        Err(_) => return Err(cannot_tell(format!("no answer within {}", connection.timeout))),
    };
    let is_ready = match status {
        StatusCode::OK if text.starts_with("ready") => true,
        StatusCode::SERVICE_UNAVAILABLE if text.starts_with(NOT_READY) => false,
        status => return Err(cannot_tell(format!("it answers {status}: not an authority"))),
    };
    let lines = || text.lines();
    let reasons: Vec<_> = lines().filter_map(|line| line.strip_prefix(NOT_READY)).collect();
    let warnings: Vec<_> = lines().filter_map(|line| line.strip_prefix(WARNING)).collect();
    let document = json!({ "ready": is_ready, "reasons": reasons, "warnings": warnings });
    output.print(&document, || {
        lines().map(|line| format!("{}\n", visible(line))).collect()
    })?;
    Ok(ExitCode::from(u8::from(!is_ready)))
}

/// The status and the text of `/readyz`, or why there is none.
async fn ask(address: &Uri) -> Result<(StatusCode, String), String> {
    let host = address.host().unwrap_or_default();
    // An IPv6 address has brackets in a URL.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, address.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let failed = |error: hyper::Error| format!("its answer is not HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let request = Request::get("/readyz")
            .header(header::HOST, address.authority().map_or(host, |at| at.as_str()))
            .body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.map_err(|error| error.to_string())?);
        let answer = answer.await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The result of the exchange is known then.
        _ = connection => exchange.await,
    }
}
