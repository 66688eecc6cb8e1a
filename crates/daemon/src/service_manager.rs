//! Notifications to the service manager of the system, by datagrams as sd_notify(3) describes them: for systemd, and
//! others that set `NOTIFY_SOCKET`.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::net::{SocketAddr, UnixDatagram},
    process,
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The socket of the service manager. Without one, nothing is sent.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager(Option<Arc<Listening>>);

#[derive(Debug)]
struct Listening {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The service manager that started this process, if one did that expects notifications.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let watchdog = watchdog(env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"));
        match Listening::at(&name, watchdog) {
            Ok(listening) => Self(Some(Arc::new(listening))),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET can't be used: the service manager is not told when the authority serves");
                Self::default()
            }
        }
    }

    /// Reports that it serves, and why it may not serve as expected.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports a reload of changed files; [`ServiceManager::ready`] ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Reports that it stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Shows that tasks run, twice as often as required, until it is dropped.
    pub(crate) async fn keep_watchdog(self) {
        let Some(interval) = self.0.as_ref().and_then(|listening| listening.watchdog) else {
            return;
        };
        let mut ticks = tokio::time::interval(interval / 2);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        let Some(listening) = &self.0 else { return };
        let sent = listening
            .socket
            .send_to_addr(state.as_bytes(), &listening.address);
        if let Err(error) = sent {
            tracing::warn!(%error, state, "the service manager can't be told");
        }
    }
}

impl Listening {
    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = address(name)?;
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read delays nothing.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address,
            watchdog,
        })
    }
}

/// A path, or, after an `@`, the name of an abstract socket.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_encoded_bytes() {
        [b'@', name @ ..] => of_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a path nor the name of an abstract socket",
        )),
    }
}

#[cfg(target_os = "linux")]
fn of_abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn of_abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system has no abstract sockets",
    ))
}

/// How often the service manager expects a sign that tasks run; `None` if it does not, or expects it from another
/// process.
fn watchdog(interval: Option<OsString>, asked: Option<OsString>) -> Option<Duration> {
    let is_asked = match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => asked.to_str()?.parse() == Ok(process::id()),
        None => true,
    };
    let microseconds: u64 = interval?.to_str()?.parse().ok()?;
    (is_asked && microseconds > 1).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listening: Listening) -> ServiceManager {
        ServiceManager(Some(Arc::new(listening)))
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn each_state_is_a_datagram_at_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = of(Listening::at(path.as_os_str(), None).unwrap());
        manager.ready("serving");
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving");
        manager.reloading();
        let reloading = received(&socket);
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=stopping");
        // A service manager that is gone, or does not read, ends and delays nothing.
        drop(socket);
        manager.ready("serving");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_found() {
        let name = format!("tessera-test-{}", process::id());
        let address = of_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let manager = of(Listening::at(OsStr::new(&format!("@{name}")), None).unwrap());
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=stopping");
        assert!(Listening::at(OsStr::new("vsock:2:1234"), None).is_err());
        assert!(Listening::at(OsStr::new("notify"), None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_told_twice_in_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listening = Listening::at(path.as_os_str(), Some(Duration::from_secs(30)));
        let keeping = tokio::spawn(of(listening.unwrap()).keep_watchdog());
        tokio::time::sleep(Duration::from_secs(61)).await;
        keeping.abort();
        for _ in 0..5 {
            assert_eq!(received(&socket), "WATCHDOG=1");
        }
        assert!(socket.recv(&mut [0; 8]).is_err(), "no more than that");
    }

    #[test]
    fn the_watchdog_is_this_process_s() {
        let text = |text: &str| Some(OsString::from(text));
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(text("1000000"), None), second);
        assert_eq!(watchdog(text("1000000"), text("")), second);
        assert_eq!(
            watchdog(text("1000000"), text(&process::id().to_string())),
            second
        );
        for (interval, asked) in [
            (None, None),
            (text("0"), None),
            (text("soon"), None),
            (text("1000000"), text("1")),
            (text("1000000"), text("x")),
        ] {
            assert_eq!(
                watchdog(interval.clone(), asked.clone()),
                None,
                "{interval:?} {asked:?}"
            );
        }
    }
}
