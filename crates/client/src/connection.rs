//! The address of the authority, and the API key for calling it.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use tessera_token::ApiKeySecret;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{addresses::Addresses, diagnosis::Plaintext};

/// A channel that sends the API key with every call.
pub(crate) type Authorized = InterceptedService<Channel, Credential>;

/// The longest time for connecting.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of an authority, or the addresses of its nodes, and the API key for calling it.
///
/// If there are several, a verifier follows one, and calls go to one. If that one does not answer, can't be reached or
/// says UNAVAILABLE, they continue at the next. They are tried in random order, so that many clients spread over the
/// nodes. Clones, and everything that is made from them, share which address worked last.
#[derive(Clone)]
pub struct Connection {
    addresses: Addresses,
    api_key: ApiKeySecret,
    ca_pem: Option<Vec<u8>>,
    /// The certificate of this service, and its key, as PEM.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    headers: Option<AddHeaders>,
}

/// Adds headers to a request.
type AddHeaders = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// The connection to one address.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    /// Its host and port, if it is without encryption.
    pub(crate) plaintext: Option<Plaintext>,
}

/// The authority can't be reached as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Not an address.
    #[error("`{address}` is not an address such as https://auth.example.org:7600: {problem}")]
    Address {
        /// The given text.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate or a key that can't be used. The message contains nothing of a key.
    #[error("{0}")]
    Certificate(String),
    /// A name or a bound that the authority would refuse.
    #[error("{0}")]
    Option(String),
}

impl Connection {
    /// An authority at `address` (`https://…`, or `http://…` without encryption), called with `api_key`. Several
    /// addresses can have commas between them, as in a variable of the environment.
    #[must_use]
    pub fn new(address: impl Into<String>, api_key: ApiKeySecret) -> Self {
        Self::to_any_of([address.into()], api_key)
    }

    /// An authority whose nodes are at these addresses, 16 at most: all with encryption, or all without.
    #[must_use]
    pub fn to_any_of<A: Into<String>>(addresses: impl IntoIterator<Item = A>, api_key: ApiKeySecret) -> Self {
        Self {
            addresses: Addresses::new(addresses),
            api_key,
            ca_pem: None,
            identity: None,
            headers: None,
        }
    }

    /// Tries the addresses in the given order, instead of a random one: for example, if one of them is near.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.addresses = self.addresses.in_order();
        self
    }

    /// Trusts this certificate authority, in PEM, instead of those that this system trusts.
    #[must_use]
    pub fn certificate_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Presents this certificate, in PEM, to an authority that requires one of its clients; with its key.
    #[must_use]
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((pem.into(), key_pem.into()));
        self
    }

    /// Calls `add` for each request that has the API key, and for each of its attempts, in the task of its caller: for
    /// example, to add the `traceparent` of the current span, so that the authority's spans belong to the caller's trace.
    /// With OpenTelemetry that is `|headers| propagator.inject(&mut HeaderInjector(headers))`. It replaces an earlier
    /// one. `authorization` always has the API key.
    ///
    /// ```
    /// use tessera_client::{ApiKey, Connection};
    ///
    /// let key = ApiKey::parse(&std::env::var("TESSERA_API_KEY").unwrap_or_default());
    /// let connection = key.map(|key| {
    ///     Connection::new("https://auth.example.org:7600", key).headers(|headers| {
    ///         headers.insert("x-request-id", http::HeaderValue::from_static("nightly-report"));
    ///     })
    /// });
    /// ```
    #[must_use]
    pub fn headers(mut self, add: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Self {
        self.headers = Some(Arc::new(add));
        self
    }

    /// The addresses.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The connection to each address, in the order of [`Addresses`], where connecting may take `connect_timeout`;
    /// checks all.
    pub(crate) fn nodes(&self, connect_timeout: Duration) -> Result<Vec<Node>, ConnectionError> {
        self.addresses
            .check()
            .map_err(|error| ConnectionError::Option(error.to_string()))?;
        self.addresses
            .iter()
            .map(|address| self.node(address, connect_timeout))
            .collect()
    }

    fn node(&self, address: &str, connect_timeout: Duration) -> Result<Node, ConnectionError> {
        let wrong = |error: tonic::transport::Error| ConnectionError::Address {
            address: address.to_owned(),
            problem: error.to_string(),
        };
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(wrong)?
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let plaintext = plaintext(address);
        if address.starts_with("https://") {
            let endpoint = endpoint
                .tls_config(self.tls()?)
                .map_err(|error| unusable(&error))?;
            return Ok(Node { endpoint, plaintext });
        }
        if self.ca_pem.is_some() || self.identity.is_some() {
            return Err(ConnectionError::Certificate(format!(
                "`{address}` has no encryption, so certificates are of no use: use https://"
            )));
        }
        if !is_this_machine(endpoint.uri()) {
            tracing::warn!(
                address,
                "the API key goes to another machine without encryption: use https://"
            );
        }
        Ok(Node { endpoint, plaintext })
    }

    fn tls(&self) -> Result<ClientTlsConfig, ConnectionError> {
        let mut tls = match &self.ca_pem {
            Some(pem) => {
                check_certificate(pem, "the certificate authority")?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((pem, key_pem)) = &self.identity {
            check_certificate(pem, "the client certificate")?;
            check_key(key_pem)?;
            tls = tls.identity(Identity::from_pem(pem, key_pem));
        }
        Ok(tls)
    }

    /// Adds the API key to a request.
    pub(crate) fn credential(&self) -> Result<Credential, ConnectionError> {
        let mut header: MetadataValue<Ascii> = format!("Bearer {}", self.api_key.expose())
            .parse()
            .map_err(|_| ConnectionError::Option("the API key can't be sent".to_owned()))?;
        header.set_sensitive(true);
        Ok(Credential {
            header,
            add_headers: self.headers.clone(),
        })
    }
}

/// The host and port of an address, if it is without encryption.
fn plaintext(address: &str) -> Option<Plaintext> {
    let uri: http::Uri = address.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(80);
    (uri.scheme_str() == Some("http")).then_some(Plaintext { host, port })
}

fn unusable(error: &tonic::transport::Error) -> ConnectionError {
    let why = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    ConnectionError::Certificate(format!("the certificates can't be used: {why}"))
}

fn check_certificate(pem: &[u8], what: &str) -> Result<(), ConnectionError> {
    match has_block(pem, "CERTIFICATE-----") {
        true => Ok(()),
        false => Err(ConnectionError::Certificate(format!(
            "{what} is not a PEM certificate (`-----BEGIN CERTIFICATE-----`)"
        ))),
    }
}

fn check_key(pem: &[u8]) -> Result<(), ConnectionError> {
    if has_block(pem, "ENCRYPTED") {
        return Err(ConnectionError::Certificate(
            "the client key is encrypted: decrypt it first, for example with \
             `openssl pkey -in key.pem -out decrypted.pem`"
                .to_owned(),
        ));
    }
    match has_block(pem, "PRIVATE KEY-----") {
        true => Ok(()),
        false => Err(ConnectionError::Certificate(
            "the client key is not a PEM private key (`-----BEGIN PRIVATE KEY-----`)".to_owned(),
        )),
    }
}

fn has_block(pem: &[u8], label: &str) -> bool {
    String::from_utf8_lossy(pem).contains(label)
}

/// Whether an address belongs to this machine.
fn is_this_machine(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("addresses", &format_args!("{}", self.addresses))
            .field("api_key", &self.api_key)
            .finish_non_exhaustive()
    }
}

/// The `authorization` header, after those that the service adds.
#[derive(Clone)]
pub(crate) struct Credential {
    header: MetadataValue<Ascii>,
    add_headers: Option<AddHeaders>,
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(add_headers) = &self.add_headers {
            add_headers(request.metadata_mut().as_mut());
        }
        request
            .metadata_mut()
            .insert("authorization", self.header.clone());
        Ok(request)
    }
}
