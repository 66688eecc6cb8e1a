//! What is wrong with a connection, where the transport says little of it.

use std::{error::Error, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::arguments::Connection;

/// How long a port may take to show what it speaks.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// How HTTP/2 begins, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How a TLS alert begins, which is what a TLS port answers to that.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// What a connection that was closed by the other side is called, in lower case.
const CLOSED: [&str; 5] = [
    "connection closed",
    "channel closed",
    "connection was not ready",
    "broken pipe",
    "reset by peer",
];

/// What the texts of rustls mean; the first that fits.
const MEANINGS: [(&str, &str); 13] = [
    ("TimeoutExpired", "the call took longer than --timeout"),
    (
        "CaUsedAsEndEntity",
        "the authority's certificate is a certificate authority's own, as `openssl req -x509` makes it: give the server \
         one with `basicConstraints=critical,CA:FALSE`",
    ),
    (
        "UnknownIssuer",
        "the authority's certificate is issued by a certificate authority that is not trusted here: --ca or TESSERA_CA \
         must be a PEM file with the one that issued it; without them, those of this system are trusted",
    ),
    (
        "NotValidForName",
        "the authority's certificate is for a different name than that of the address",
    ),
    (
        "NotValidYet",
        "the authority's certificate is not valid yet, or the clock of this machine is behind",
    ),
    (
        "Expired",
        "the authority's certificate has expired, or the clock of this machine is ahead",
    ),
    (
        "extended key usage",
        "the authority's certificate is not one for a server: it needs `serverAuth` among its `extendedKeyUsage`",
    ),
    ("BadEncoding", "the authority's certificate can't be read"),
    (
        "CertificateRequired",
        "the authority wants a client certificate: set --client-cert and --client-key",
    ),
    (
        "InvalidContentType",
        "the port does not speak TLS: use an http:// address, or set [server.tls] at the authority",
    ),
    (
        "HandshakeFailure",
        "the authority refuses the handshake: it may want a client certificate (--client-cert and --client-key)",
    ),
    (
        "ProtocolVersion",
        "the authority and this command support no common TLS version",
    ),
    (
        "received fatal alert",
        "the authority does not accept the client certificate",
    ),
];

/// What a transport says, and what that means.
pub(crate) fn explained(error: &dyn Error) -> String {
    meaning(error).map_or_else(|| last_cause(error).to_string(), str::to_owned)
}

/// What the error of a transport means, if that is known: then there is no more to say.
pub(crate) fn meaning(error: &dyn Error) -> Option<&'static str> {
    let (mut texts, mut cause) = (error.to_string(), error);
    // The debug form names the kind, which the text of some errors leaves out.
    while let Some(next) = cause.source() {
        texts = format!("{texts} {next} {next:?}");
        cause = next;
    }
    let known = MEANINGS.iter().find(|(mark, _)| texts.contains(mark));
    known.map(|(_, meaning)| *meaning)
}

fn last_cause<'a>(mut error: &'a (dyn Error + 'a)) -> &'a (dyn Error + 'a) {
    while let Some(next) = error.source() {
        error = next;
    }
    error
}

impl Connection {
    /// What is wrong where calls fail with `error`, as far as that can be told.
    pub(crate) async fn diagnosis(&self, error: &str) -> Option<String> {
        for address in self.addresses().as_slice() {
            let diagnosis = self.diagnosis_at(address, error).await;
            if diagnosis.is_some() {
                return diagnosis;
            }
        }
        None
    }

    /// The same for one address.
    pub(super) async fn diagnosis_at(&self, address: &str, error: &str) -> Option<String> {
        match address.strip_prefix("http://") {
            Some(rest) => speaks_tls(rest).await,
            None if !address.starts_with("https://") => None,
            // With TLS 1.3 a client is through before the server looks at its certificate, and the alert of the
            // server may be lost with the connection.
            None if is_closed(error) => Some(match self.client_cert {
                None => format!(
                    "the authority closed the connection ({error}): it may want a client certificate \
                     (--client-cert and --client-key)"
                ),
                Some(_) => format!(
                    "the authority closed the connection ({error}): it may not accept the client certificate"
                ),
            }),
            None => None,
        }
    }
}

/// Whether an error is of a connection that was closed by the other side. Each layer writes it its own way.
fn is_closed(error: &str) -> bool {
    let error = error.to_lowercase();
    CLOSED.iter().any(|text| error.contains(text))
}

/// Whether a port that was taken for plaintext speaks TLS.
async fn speaks_tls(rest: &str) -> Option<String> {
    let place = rest.split(['/', '?']).next()?;
    let port = place.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let place = match port {
        Some(Ok(_)) => place.to_owned(),
        _ => format!("{place}:80"),
    };
    let answer = timeout(PROBE_TIME_MAX, first_bytes(&place)).await.ok()?.ok()?;
    (answer == TLS_ALERT).then(|| format!("the port speaks TLS: use https://{rest} as the address"))
}

async fn first_bytes(place: &str) -> std::io::Result<[u8; 2]> {
    let mut stream = TcpStream::connect(place).await?;
    stream.write_all(PREFACE).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
