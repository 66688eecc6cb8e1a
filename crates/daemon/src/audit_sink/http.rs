//! Records in the body of a POST: lines of JSON. An answer of 2xx means that all of them arrived.

use std::{fmt::Write as _, io, path::PathBuf};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tessera_core::read_small_text;
use tessera_store::AuditEntry;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::format::lines;
use crate::{
    config::{SinkFormat, SinkUrl},
    outgoing_tls,
};

/// How much of an answer is read.
const ANSWER_MAX: usize = 64 * 1024;

/// The receiver.
pub(super) struct HttpSink {
    uri: Uri,
    token_file: Option<PathBuf>,
    format: SinkFormat,
}

/// A batch was not accepted. The receiver's text is not repeated, since it may be confidential.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    /// Its answer was not 2xx.
    #[error("the receiver answered {0}")]
    Status(StatusCode),
    /// The file with the token can't be used.
    #[error("the token in {0} can't be sent: {1}")]
    Token(PathBuf, String),
}

impl HttpSink {
    pub(super) fn new(url: SinkUrl, token_file: Option<PathBuf>, format: SinkFormat) -> Self {
        Self {
            uri: url.0,
            token_file,
            format,
        }
    }

    /// Whether others can read the token in transit.
    pub(super) fn shows_token(&self) -> bool {
        let is_tls = self.uri.scheme_str() == Some("https");
        self.token_file.is_some() && !is_tls && !outgoing_tls::is_loopback(self.host())
    }

    /// An IPv6 address has brackets in a URL only.
    fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) async fn deliver(&self, entries: &[AuditEntry]) -> io::Result<()> {
        let request = self.request(lines(entries, self.format)?).await?;
        let is_tls = self.uri.scheme_str() == Some("https");
        let port = self.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let name = self.host().to_owned();
        let stream = TcpStream::connect((name.as_str(), port)).await?;
        if !is_tls {
            return send(stream, request).await;
        }
        let server = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = TlsConnector::from(outgoing_tls::config(None)?)
            .connect(server, stream)
            .await?;
        send(stream, request).await
    }

    async fn request(&self, body: Vec<u8>) -> io::Result<Request<Full<Bytes>>> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .header(header::USER_AGENT, concat!("tessera/", env!("CARGO_PKG_VERSION")));
        let request = match self.token().await? {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        request.body(Full::from(body)).map_err(io::Error::other)
    }

    /// Read each time, so that a new token needs no restart.
    async fn token(&self) -> io::Result<Option<HeaderValue>> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let problem = |problem: String| io::Error::other(HttpError::Token(path.clone(), problem));
        let text = tokio::task::spawn_blocking({
            let path = path.clone();
            move || read_small_text(&path).map(zeroize::Zeroizing::new)
        });
        let text = text.await.map_err(io::Error::other)?;
        let text = text.map_err(|error| problem(error.to_string()))?;
        let mut bearer = zeroize::Zeroizing::new(String::new());
        // Writing to a string can't fail.
        let _ = write!(bearer, "Bearer {}", text.trim());
        let value = HeaderValue::from_str(&bearer);
        let mut value = value.map_err(|_| problem("it has characters that no header has".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
        // It is read so that the receiver can finish; its content does not matter.
        let _ = body.collect().await;
        if status.is_success() {
            Ok(())
        } else {
            Err(io::Error::other(HttpError::Status(status)))
        }
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The result of the exchange is known then.
        _ = connection => exchange.await,
    }
}
