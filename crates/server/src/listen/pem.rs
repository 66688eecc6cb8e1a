//! PEM files for TLS, and descriptions of what is wrong with one.
//!
//! No error contains anything of a file's content: it may be a private key.

use std::{fmt, path::Path};

use tessera_core::read_small;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use zeroize::Zeroizing;

/// A file that should have certificates or a private key.
pub struct PemFile {
    name: String,
    bytes: Zeroizing<Vec<u8>>,
}

/// A file can't be used for TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` can't be used for TLS: {problem}")]
pub struct PemError {
    name: String,
    problem: String,
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PemFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if it can't be read.
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let name = path.display().to_string();
        match read_small(path) {
            Ok(bytes) => Ok(Self {
                name,
                bytes: Zeroizing::new(bytes),
            }),
            Err(error) => Err(PemError {
                name,
                problem: format!("it can't be read: {error}"),
            }),
        }
    }

    /// Its content.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its certificates, at least one.
    ///
    /// # Errors
    /// The error says what the file contains instead, and how to make a PEM file of it.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(self.error(self.without_certificate())),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    /// Its private key.
    ///
    /// # Errors
    /// The error says what the file contains instead, and how to make a PEM file of it.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        if self.has("ENCRYPTED") {
            return Err(self.error(format!(
                "the private key is encrypted, and a server can't type its passphrase: decrypt it with \
                 `openssl pkey -in {} -out decrypted.pem`, and keep that file readable for its owner only",
                self.name
            )));
        }
        match PrivateKeyDer::from_pem_slice(&self.bytes) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => Err(self.error(self.without_key())),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    fn without_certificate(&self) -> String {
        let name = &self.name;
        match self.der() {
            Some(Der::Pkcs12) => pkcs12(name),
            Some(Der::Other) => format!(
                "it is DER and not PEM: convert it with `openssl x509 -inform DER -in {name} -out certificate.pem`"
            ),
            None if self.has("CERTIFICATE REQUEST-----") => {
                "it is a request for a certificate, and not the certificate that was made of it".to_owned()
            }
            None if self.has("PRIVATE KEY-----") => {
                "it has a private key where a certificate belongs".to_owned()
            }
            None => "it has no certificate in PEM (a line with `BEGIN CERTIFICATE`)".to_owned(),
        }
    }

    fn without_key(&self) -> String {
        let name = &self.name;
        match self.der() {
            Some(Der::Pkcs12) => pkcs12(name),
            Some(Der::Other) => format!(
                "it is DER and not PEM: convert it with `openssl pkey -inform DER -in {name} -out key.pem`"
            ),
            None if self.has("CERTIFICATE-----") => {
                "it has a certificate where a private key belongs".to_owned()
            }
            None if self.has("PUBLIC KEY-----") => {
                "it has a public key where a private key belongs".to_owned()
            }
            None => "it has no private key in PEM (a line with `BEGIN PRIVATE KEY`)".to_owned(),
        }
    }

    /// Error texts contain parts of the file's content, so only their kind is reported.
    fn damaged(&self, error: &pem::Error) -> PemError {
        let problem = match error {
            pem::Error::MissingSectionEnd { .. } => "it is cut off: a line with `END` is missing",
            pem::Error::Base64Decode(_) => "it is damaged: what is between the markers is not Base64",
            _ => "it is not a PEM file that can be read",
        };
        self.error(problem.to_owned())
    }

    fn error(&self, problem: String) -> PemError {
        PemError {
            name: self.name.clone(),
            problem,
        }
    }

    fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The kind of DER file, if it begins like one: a sequence with a length of two bytes.
    fn der(&self) -> Option<Der> {
        match self.bytes.as_slice() {
            // Version 3, which a PKCS #12 file begins with.
            [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => Some(Der::Pkcs12),
            [0x30, 0x81 | 0x82, ..] => Some(Der::Other),
            // A key on an elliptic curve or of Ed25519 is shorter than 128 bytes.
            [0x30, length, rest @ ..] if rest.len() == usize::from(*length) => Some(Der::Other),
            _ => None,
        }
    }
}

/// The kind of DER file.
enum Der {
    Pkcs12,
    Other,
}

fn pkcs12(name: &str) -> String {
    format!(
        "it is PKCS #12 and not PEM: convert it with `openssl pkcs12 -in {name} -nokeys -out certificate.pem` and \
         `openssl pkcs12 -in {name} -nocerts -nodes -out key.pem`"
    )
}
