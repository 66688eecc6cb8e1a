//! A collector of OpenTelemetry, reached over gRPC.
//!
//! Values that are secret or expire are read when they are needed, so that they can be replaced while the authority
//! serves: headers for each request, certificate authorities for each connection.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use tessera_core::read_small_text;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use crate::{config::CollectorUrl, outgoing_tls};

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The address of a collector, and the headers and certificates for it.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    pub(crate) url: CollectorUrl,
    pub(crate) headers_file: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
}

/// The file with the headers can't be used. Its content is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the headers in `{path}` can't be sent: {problem}")]
struct HeadersError {
    path: PathBuf,
    problem: String,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Collector {
    /// A channel for requests, each of which has this time. It connects for the first request, and again if a
    /// connection has ended.
    ///
    /// # Errors
    /// Fails if the transport does not accept the URL.
    pub(crate) fn channel(&self, time_max: Duration) -> Result<Channel, tonic::transport::Error> {
        let collector = self.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let collector = collector.clone();
            async move { collector.connect().await.map(TokioIo::new) }
        });
        // The transport must not begin its own TLS, which is configured only once: ours is configured for each
        // connection.
        let endpoint = Endpoint::from_static("http://collector")
            .origin(self.url.uri().clone())
            .timeout(time_max)
            .connect_timeout(CONNECT_TIME_MAX)
            .user_agent(concat!("tessera/", env!("CARGO_PKG_VERSION")))?;
        Ok(endpoint.connect_with_connector_lazy(connect))
    }

    /// Whether others can read the headers of requests in transit; `has_headers`: there are headers besides those of
    /// the file.
    pub(crate) fn shows_headers(&self, has_headers: bool) -> bool {
        let has_headers = has_headers || self.headers_file.is_some();
        has_headers && !self.url.is_tls() && !self.url.is_loopback()
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let host = self.url.host().to_owned();
        let stream = TcpStream::connect((host.as_str(), self.url.port())).await?;
        stream.set_nodelay(true)?;
        if !self.url.is_tls() {
            return Ok(Box::new(stream));
        }
        let server = ServerName::try_from(host).map_err(io::Error::other)?;
        let config = outgoing_tls::config(self.ca.as_deref())?;
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TlsConnector::from(Arc::new(config))
            .connect(server, stream)
            .await?;
        Ok(Box::new(stream))
    }

    /// The current headers of a request. It reads a file.
    pub(crate) fn headers(&self) -> io::Result<MetadataMap> {
        match &self.headers_file {
            Some(path) => headers(path),
            None => Ok(MetadataMap::new()),
        }
    }
}

fn headers(path: &Path) -> io::Result<MetadataMap> {
    let problem = |problem: String| {
        let path = path.to_owned();
        io::Error::other(HeadersError { path, problem })
    };
    let text = read_small_text(path).map_err(|error| problem(error.to_string()))?;
    let text = Zeroizing::new(text);
    let mut headers = http::HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let header = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().to_ascii_lowercase().parse().ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) =
            header.ok_or_else(|| problem(format!("line {} is not `name: value`", index + 1)))?;
        headers.append(name, value);
    }
    Ok(MetadataMap::from_headers(headers))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn headers_are_shown_where_they_leave_the_machine_in_plaintext() {
        for (url, is_readable) in [
            ("http://collector.example.org", true),
            ("http://10.0.0.1:4317", true),
            ("http://[2001:db8::1]", true),
            ("https://collector.example.org", false),
            ("http://localhost", false),
            ("http://127.0.0.1", false),
            ("http://[::1]", false),
        ] {
            let mut collector = Collector {
                url: url.parse().unwrap(),
                headers_file: Some("headers".into()),
                ca: None,
            };
            assert_eq!(collector.shows_headers(false), is_readable, "{url}");
            collector.headers_file = None;
            assert!(!collector.shows_headers(false), "{url}");
            assert_eq!(collector.shows_headers(true), is_readable, "{url}");
        }
    }

    #[test]
    fn headers_are_lines_and_what_is_wrong_is_named_by_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        fs::write(
            &path,
            "# of the collector\n\nAuthorization: Bearer x:y\nx-tenant: shop\n",
        )
        .unwrap();
        let read = headers(&path).unwrap();
        assert_eq!(read.get("authorization").unwrap(), "Bearer x:y");
        assert_eq!(read.get("x-tenant").unwrap(), "shop");
        assert!(!format!("{read:?}").contains("x:y"), "{read:?}");
        fs::write(&path, "x-tenant: shop\nsecret-token\n").unwrap();
        let said = headers(&path).unwrap_err().to_string();
        assert!(
            said.contains("line 2") && !said.contains("secret-token"),
            "{said}"
        );
        let missing = headers(&directory.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
