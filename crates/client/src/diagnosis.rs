//! Why a service can't reach its authority, if the transport does not say it clearly.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const MAX: Duration = Duration::from_secs(1);
/// The start of HTTP/2, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The start of a TLS alert, with which a TLS port answers that.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// The host and port of an address without encryption.
#[derive(Clone, Debug)]
pub(crate) struct Plaintext {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Plaintext {
    /// What is wrong with it, for the operators of the service; `None` if that is not clear.
    pub(crate) async fn diagnosis(&self) -> Option<&'static str> {
        let answer = timeout(MAX, self.first_bytes()).await.ok()?.ok()?;
        (answer == TLS_ALERT).then_some("the port speaks TLS: use an https:// address")
    }

    async fn first_bytes(&self) -> std::io::Result<[u8; 2]> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.write_all(PREFACE).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}
