//! TLS on the public socket.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::config::TlsConfig;

/// TLS 1.2 and 1.3 with a certificate, for HTTP/2 and HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Tls(pub(crate) Arc<ServerConfig>);

/// The files for TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is no PEM file of the kind it should be.
    #[error("`{path}` can't be used for TLS: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: pem::Error,
    },
    /// The certificate and the key do not belong together, or are of an unknown kind.
    #[error("the certificate and the private key of [server.tls] can't be used: {0}")]
    Identity(#[from] rustls::Error),
    /// `client_ca` has no certificate that can be used.
    #[error("client_ca of [server.tls] can't be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
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
            Some(path) => builder.with_client_cert_verifier(clients_of(path, provider)?),
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_file(&config.private_key);
        let key = key.map_err(|source| file(&config.private_key, source))?;
        let mut tls = builder.with_single_cert(certificates(&config.certificate)?, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(tls)))
    }
}

fn clients_of(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| file(path, source))
}

fn file(path: &Path, source: pem::Error) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        source,
    }
}
