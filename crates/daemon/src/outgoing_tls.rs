//! TLS to others: which servers this process trusts as a client.

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, OnceLock},
};

use tessera_core::read_small;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// TLS is not available.
#[derive(Debug, thiserror::Error)]
#[error("TLS can't be used: {0}")]
struct TlsError(String);

/// Trusts the certificate authorities in the file `ca`, in their current state; `None`: those of the system, which are
/// read once.
pub(crate) fn config(ca: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    static OF_THE_SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(ca) = ca {
        return trusting(of_file(ca)?);
    }
    if let Some(config) = OF_THE_SYSTEM.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(error(&"this machine trusts no certificate authority"));
    }
    let config = trusting(roots)?;
    Ok(Arc::clone(OF_THE_SYSTEM.get_or_init(|| config)))
}

/// Whether data that is sent to this host in plaintext stays on this machine. The host has no brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn of_file(path: &Path) -> io::Result<RootCertStore> {
    let unusable = |problem: String| error(&format!("`{}`: {problem}", path.display()));
    let text = read_small(path).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| unusable("it is not a PEM file".to_owned()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it has no certificate".to_owned()));
    }
    Ok(roots)
}

fn trusting(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| error(&problem))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn error(problem: &impl ToString) -> io::Error {
    io::Error::other(TlsError(problem.to_string()))
}
