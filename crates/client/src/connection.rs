//! Where the authority is, and with which API key to call it.

use std::{fmt, time::Duration};

use tessera_token::ApiKeySecret;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// A channel that sends the API key with every call.
pub(crate) type Authorized = InterceptedService<Channel, Credential>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of an authority, and the API key to call it with.
#[derive(Clone)]
pub struct Connection {
    address: String,
    api_key: ApiKeySecret,
    ca_pem: Option<Vec<u8>>,
}

/// The authority can't be reached as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Not an address.
    #[error("`{address}` is not an address such as https://auth.example.org:7600: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An `https://` address without the certificate authority to trust.
    #[error("an https:// address needs the certificate authority to trust, as PEM")]
    NoCertificateAuthority,
    /// A name or a bound that the authority would refuse.
    #[error("{0}")]
    Option(String),
}

impl Connection {
    /// An authority at `address` (`https://…`, or `http://…` without encryption), called with `api_key`.
    #[must_use]
    pub fn new(address: impl Into<String>, api_key: ApiKeySecret) -> Self {
        Self {
            address: address.into(),
            api_key,
            ca_pem: None,
        }
    }

    /// Trusts this certificate authority, in PEM; an `https://` address needs it.
    #[must_use]
    pub fn certificate_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// The address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Checks the address.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ConnectionError> {
        let wrong = |error: tonic::transport::Error| ConnectionError::Address {
            address: self.address.clone(),
            problem: error.to_string(),
        };
        let endpoint = Endpoint::from_shared(self.address.clone())
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        if !self.address.starts_with("https://") {
            if !is_this_machine(endpoint.uri()) {
                tracing::warn!(
                    address = self.address,
                    "the API key goes to another machine without encryption: use https://"
                );
            }
            return Ok(endpoint);
        }
        let Some(pem) = &self.ca_pem else {
            return Err(ConnectionError::NoCertificateAuthority);
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint.tls_config(tls).map_err(wrong)
    }

    /// What puts the API key into a request.
    pub(crate) fn credential(&self) -> Result<Credential, ConnectionError> {
        let mut header: MetadataValue<Ascii> = format!("Bearer {}", self.api_key.expose())
            .parse()
            .map_err(|_| ConnectionError::Option("the API key can't be sent".to_owned()))?;
        header.set_sensitive(true);
        Ok(Credential(header))
    }
}

/// Whether an address is one of this machine's own.
fn is_this_machine(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("api_key", &self.api_key)
            .finish_non_exhaustive()
    }
}

/// The `authorization` header.
#[derive(Clone)]
pub(crate) struct Credential(MetadataValue<Ascii>);

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
