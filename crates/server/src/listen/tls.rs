//! TLS on the public socket.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::pem::{PemError, PemFile};

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// Clients must present a certificate of this authority; none: they need none.
    pub client_ca: Option<PathBuf>,
}

/// TLS 1.2 and 1.3 with a certificate, for HTTP/2 and HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// What clients will not like of the certificate.
    notes: Vec<String>,
}

/// The files for TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is no PEM file of the kind it should be.
    #[error(transparent)]
    File(#[from] PemError),
    /// The certificate and the key are not of each other.
    #[error(
        "the private key of [server.tls] is not that of its certificate, which must be the first in its file"
    )]
    OtherKey,
    /// The certificate or the key is of an unknown kind.
    #[error("the certificate and the private key of [server.tls] can't be used: {0}")]
    Identity(rustls::Error),
    /// `client_ca` has no certificate that can be used.
    #[error("client_ca of [server.tls] can't be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => Self::OtherKey,
            error => Self::Identity(error),
        }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &config.client_ca {
            Some(path) => builder.with_client_cert_verifier(clients_of(path, Arc::clone(&provider))?),
            None => builder.with_no_client_auth(),
        };
        let key = PemFile::read(&config.private_key)?.private_key()?;
        let chain = PemFile::read(&config.certificate)?.certificates()?;
        let mut tls = builder.with_single_cert(chain.clone(), key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(tls),
            notes: notes(&chain, &provider),
        })
    }

    /// Why clients may refuse the certificate.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Looks at the certificate as a client does that trusts the last of the chain.
fn notes(chain: &[CertificateDer<'static>], provider: &CryptoProvider) -> Vec<String> {
    let Some(problem) = problem(chain, provider) else {
        return Vec::new();
    };
    // What is behind `Other` has no type of its own.
    let problem = format!("{problem:?}");
    let note = if problem.contains("CaUsedAsEndEntity") {
        "the certificate of [server.tls] is a certificate authority's own, as `openssl req -x509` makes it: many clients \
         refuse it. Make one with `-addext basicConstraints=critical,CA:FALSE`, or let the authority issue one"
    } else if problem.contains("Expired") {
        "the certificate of [server.tls] has expired: clients refuse it"
    } else if problem.contains("NotValidYet") {
        "the certificate of [server.tls] is not valid yet: clients refuse it"
    } else {
        return Vec::new();
    };
    vec![note.to_owned()]
}

fn problem(chain: &[CertificateDer<'static>], provider: &CryptoProvider) -> Option<rustls::Error> {
    let (first, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain.last().cloned());
    let certificate = match ParsedCertificate::try_from(first) {
        Ok(certificate) => certificate,
        Err(error) => return Some(error),
    };
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &roots, rest, UnixTime::now(), algorithms).err()
}

fn clients_of(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in PemFile::read(path)?.certificates()? {
        roots.add(certificate)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}
