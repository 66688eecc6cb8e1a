//! Messages of syslog (RFC 5424): a datagram each, or counted in a stream (RFC 6587 §3.4.1).
//!
//! Syslog acknowledges nothing: a datagram counts as delivered once it is sent, a stream once the bytes are taken.

use std::{io, path::Path};

use tessera_core::AuditOutcome;
use tessera_store::AuditEntry;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket, UnixDatagram},
};

use super::format::line;
use crate::config::{SinkFormat, SyslogAddress};

/// The facility "log audit".
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const WARNING: u8 = 4;

/// The address of the syslog server.
pub(super) struct SyslogSink {
    address: SyslogAddress,
    format: SinkFormat,
    host: String,
    stream: Option<TcpStream>,
}

impl SyslogSink {
    pub(super) fn new(address: SyslogAddress, format: SinkFormat) -> Self {
        Self {
            address,
            format,
            host: host_name(),
            stream: None,
        }
    }

    pub(super) async fn deliver(&mut self, entries: &[AuditEntry]) -> io::Result<()> {
        let messages = entries.iter().map(|entry| self.message(entry));
        let messages: Vec<_> = messages.collect::<io::Result<_>>()?;
        match self.address.clone() {
            SyslogAddress::Udp(address) => datagrams(&address, &messages).await,
            SyslogAddress::Unix(path) => unix_datagrams(&path, &messages).await,
            SyslogAddress::Tcp(address) => self.counted(&address, &messages).await,
        }
    }

    fn message(&self, entry: &AuditEntry) -> io::Result<String> {
        let kind = entry.record.action.kind();
        let severity = match kind.outcome() {
            AuditOutcome::Done => NOTICE,
            AuditOutcome::Refused => WARNING,
        };
        Ok(format!(
            "<{}>1 {} {} tessera {} {} - {}",
            FACILITY * 8 + severity,
            entry.record.at.to_rfc3339_millis(),
            self.host,
            std::process::id(),
            kind.as_str(),
            line(entry, self.format)?
        ))
    }

    /// A connection is used until it fails: then it is unknown which of its messages arrived, and all are sent again.
    async fn counted(&mut self, address: &str, messages: &[String]) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) if is_open(&stream) => stream,
            _ => TcpStream::connect(address).await?,
        };
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        self.stream = Some(stream);
        Ok(())
    }
}

/// A listener that has closed its end accepts nothing more; the first write to it would seem to succeed.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

async fn datagrams(address: &str, messages: &[String]) -> io::Result<()> {
    let to = tokio::net::lookup_host(address).await?.next();
    let to = to.ok_or_else(|| io::Error::other("the host has no address"))?;
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    for message in messages {
        socket.send(message.as_bytes()).await?;
    }
    Ok(())
}

async fn unix_datagrams(path: &Path, messages: &[String]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    for message in messages {
        socket.send(message.as_bytes()).await?;
    }
    Ok(())
}

/// The name of this machine in a message: `-` if it has none.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_printable = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_printable(&name) { name } else { "-".to_owned() }
}
