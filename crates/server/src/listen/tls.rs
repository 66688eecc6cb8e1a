//! TLS on the public socket.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tessera_core::Timestamp;
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
    /// The certificate, and the intermediate certificates up to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// Clients must present a certificate of this certificate authority; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// TLS 1.2 and 1.3 with a certificate, for HTTP/2 and HTTP/1.1. All clones share it, and it can be replaced while the
/// server runs.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsConfig,
    in_use: ArcSwap<InUse>,
    is_last_change_refused: AtomicBool,
}

/// The state that handshakes use.
#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    /// The digest of the files' content.
    digest: [u8; 32],
    expires_at: Option<Timestamp>,
    /// Reasons why clients may refuse the certificate.
    notes: Vec<String>,
}

/// The files, read.
struct Files {
    certificate: PemFile,
    private_key: PemFile,
    client_ca: Option<PemFile>,
}

/// The files for TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not a PEM file of the expected kind.
    #[error(transparent)]
    File(#[from] PemError),
    /// The certificate and the key do not match.
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
        let in_use = Files::read(config)?.accept()?;
        Ok(Self(Arc::new(Shared {
            files: config.clone(),
            in_use: ArcSwap::from_pointee(in_use),
            is_last_change_refused: AtomicBool::new(false),
        })))
    }

    /// Reads the files again. Handshakes that begin from now on use their content; if that can't be used, they use the
    /// previous one. Open connections continue. Returns whether the content in use changed.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let reloaded = self.try_reload();
        let shared = &self.0;
        shared
            .is_last_change_refused
            .store(reloaded.is_err(), Ordering::Relaxed);
        reloaded
    }

    fn try_reload(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.0.files)?;
        if files.digest() == self.0.in_use.load().digest {
            return Ok(false);
        }
        self.0.in_use.store(Arc::new(files.accept()?));
        Ok(true)
    }

    /// Why clients may refuse the certificate.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.0.in_use.load().notes.clone()
    }

    /// When the certificate expires; `None` if it has no readable expiry.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.in_use.load().expires_at
    }

    /// Whether the files contain, since the last [`reload`](Self::reload), something that can't be used.
    #[must_use]
    pub fn is_last_change_refused(&self) -> bool {
        self.0.is_last_change_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.in_use.load().config)
    }
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, PemError> {
        Ok(Self {
            certificate: PemFile::read(&config.certificate)?,
            private_key: PemFile::read(&config.private_key)?,
            client_ca: config.client_ca.as_deref().map(PemFile::read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let files = [
            Some(&self.certificate),
            Some(&self.private_key),
            self.client_ca.as_ref(),
        ];
        let mut digest = Sha256::new();
        for file in files.into_iter().flatten() {
            digest.update(Sha256::digest(file.bytes()));
        }
        digest.finalize().into()
    }

    fn accept(&self) -> Result<InUse, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            Some(file) => builder.with_client_cert_verifier(clients_of(file, Arc::clone(&provider))?),
            None => builder.with_no_client_auth(),
        };
        let key = self.private_key.private_key()?;
        let chain = self.certificate.certificates()?;
        let mut config = builder.with_single_cert(chain.clone(), key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(InUse {
            config: Arc::new(config),
            digest: self.digest(),
            expires_at: chain.first().and_then(expiry),
            notes: notes(&chain, &provider),
        })
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Timestamp::from_seconds(
        certificate.validity().not_after.timestamp(),
    ))
}

/// Checks the certificate like a client that trusts the last of the chain.
fn notes(chain: &[CertificateDer<'static>], provider: &CryptoProvider) -> Vec<String> {
    let of_content = chain.first().map(of_content).unwrap_or_default();
    let of_check = problem(chain, provider).and_then(|problem| of_check(&problem));
    of_check
        .into_iter()
        .chain(of_content)
        .map(str::to_owned)
        .collect()
}

fn of_check(problem: &rustls::Error) -> Option<&'static str> {
    // The value in `Other` has no type of its own.
    let problem = format!("{problem:?}");
    if problem.contains("CaUsedAsEndEntity") {
        Some(
            "the certificate of [server.tls] is a certificate authority's own, as `openssl req -x509` makes it: many \
             clients refuse it. Make one with `-addext basicConstraints=critical,CA:FALSE`, or let the authority issue one",
        )
    } else if problem.contains("Expired") {
        Some("the certificate of [server.tls] has expired: clients refuse it")
    } else if problem.contains("NotValidYet") {
        Some("the certificate of [server.tls] is not valid yet: clients refuse it")
    } else {
        None
    }
}

/// What is wrong with a certificate for every client, whomever it trusts and by whatever name it comes.
fn of_content(certificate: &CertificateDer<'_>) -> Vec<&'static str> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    let usage = certificate.extended_key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        notes.push(
            "the certificate of [server.tls] is not for a server: clients refuse it. It needs `serverAuth` among its \
             `extendedKeyUsage`",
        );
    }
    if !matches!(certificate.subject_alternative_name(), Ok(Some(_))) {
        notes.push(
            "the certificate of [server.tls] has no `subjectAltName`: clients refuse it. Make one with `-addext \
             subjectAltName=DNS:auth.example.org`; the common name alone does not count (RFC 9525)",
        );
    }
    notes
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

fn clients_of(
    file: &PemFile,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in file.certificates()? {
        roots.add(certificate)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}
