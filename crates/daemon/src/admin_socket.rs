//! Querying a running authority on its admin socket.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde_json::Value;

/// How long the authority may take to answer, if the caller has no reason for less.
pub const ADMIN_TIME_MAX: Duration = Duration::from_secs(5);
/// No answer is longer.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The address of an admin socket: `http://HOST:PORT`.
///
/// # Errors
/// Fails if it is not such an address, or if its host has no address.
pub fn admin_address(url: &str) -> io::Result<SocketAddr> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let mut addresses = host.to_socket_addrs()?;
    addresses
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

/// The body of the admin socket's answer, which comes within `time`.
///
/// # Errors
/// Fails if there is no answer, or one with a status other than 200.
pub fn ask_admin(address: SocketAddr, path: &str, time: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, time)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("it answers something else"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let said = body.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("it answers {status}: {said}")));
    }
    Ok(body.to_owned())
}

/// The document in the admin socket's answer.
///
/// # Errors
/// As [`ask_admin`], and if the answer is not JSON.
pub fn ask_admin_for_json(address: SocketAddr, path: &str, time: Duration) -> io::Result<Value> {
    let body = ask_admin(address, path, time)?;
    serde_json::from_str(&body).map_err(|_| io::Error::other("it answers something else"))
}
