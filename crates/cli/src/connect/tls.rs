//! The trusted roots of a connection, and its client certificate.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use tessera_server::PemFile;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{arguments::Connection, failure::Failure};

impl Connection {
    /// An endpoint with TLS according to the options and variables.
    pub(super) fn encrypted(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let mut tls = match given(self.ca.as_ref()) {
            Some(path) => {
                let file = PemFile::read(path).map_err(Failure::cannot_run)?;
                file.certificates().map_err(Failure::cannot_run)?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file.bytes()))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some(identity) = self.identity()? {
            tls = tls.identity(identity);
        }
        endpoint.tls_config(tls).map_err(|error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Failure::cannot_run(match why.contains("native certs") {
                true => "this system has no certificate authorities to trust: install them (`ca-certificates`), or set \
                         TESSERA_CA to a PEM file with the authority's"
                    .to_owned(),
                false if why.contains("KeyMismatch") => {
                    "the private key in --client-key does not belong to the certificate in --client-cert".to_owned()
                }
                false => format!("the certificates for TLS can't be used: {why}"),
            })
        })
    }

    fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (given(self.client_cert.as_ref()), given(self.client_key.as_ref())) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (
                    PemFile::read(certificate).map_err(Failure::cannot_run)?,
                    PemFile::read(key).map_err(Failure::cannot_run)?,
                );
                certificate.certificates().map_err(Failure::cannot_run)?;
                key.private_key().map_err(Failure::cannot_run)?;
                Ok(Some(Identity::from_pem(certificate.bytes(), key.bytes())))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Failure::cannot_run(
                "a client certificate needs its private key: set --client-key or TESSERA_CLIENT_KEY",
            )),
            (None, Some(_)) => Err(Failure::cannot_run(
                "a client's private key needs its certificate: set --client-cert or TESSERA_CLIENT_CERT",
            )),
        }
    }
}

/// An empty variable counts as not set.
fn given(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path)
        .filter(|path| !path.as_os_str().is_empty())
}
