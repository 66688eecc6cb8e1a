//! The servers that a connection string names. Each is tried separately: a server that is frozen or unreachable must
//! not block the connection to the primary.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{Host, TargetSessionAttrs},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one server may take, if there is another one.
const ONE_MAX: Duration = Duration::from_millis(1500);
/// How long the last server may take.
const LAST_MAX: Duration = Duration::from_secs(5);

/// Servers, one of which is the primary.
pub(crate) struct Servers {
    each: Vec<Config>,
    /// The server that is tried first.
    first: AtomicUsize,
}

type Connected = (
    Client,
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
);

impl Servers {
    /// The servers that `config` names, with the limits of a connection.
    pub(crate) fn of(config: &Config) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        let is_clear = |named: usize| named < 2 || named == count;
        let are_clear = is_clear(config.get_hosts().len())
            && is_clear(config.get_hostaddrs().len())
            && is_clear(config.get_ports().len());
        let mut each = if count < 2 || !are_clear {
            // The library reports what is wrong with it.
            vec![config.clone()]
        } else {
            (0..count).map(|server| only(config, server)).collect()
        };
        each.iter_mut().for_each(limit);
        Self {
            each,
            first: AtomicUsize::default(),
        }
    }

    /// How long trying all of them may take.
    pub(crate) fn time_max(&self) -> Duration {
        let others = u32::try_from(self.each.len().saturating_sub(1)).unwrap_or(u32::MAX);
        LAST_MAX.saturating_add(ONE_MAX.saturating_mul(others))
    }

    /// Connects to the first server that takes writes. A caller that has no time to try all of them begins with another
    /// one the next time.
    pub(crate) async fn connect(&self, tls: &MakeRustlsConnect) -> Result<Connected, Error> {
        let mut server = self.first.load(Ordering::SeqCst);
        let mut others = self.each.len().saturating_sub(1);
        loop {
            let Some(config) = self.each.get(server) else {
                // There is at least one server: otherwise the library reports that there is none.
                return Config::new().connect(tls.clone()).await;
            };
            let connecting = config.connect(tls.clone());
            if others == 0 {
                let connected = connecting.await;
                return connected.inspect_err(|_| self.pass_over(server));
            }
            if let Ok(Ok(connected)) = timeout(ONE_MAX, connecting).await {
                return Ok(connected);
            }
            self.pass_over(server);
            server = self.after(server);
            others = others.saturating_sub(1);
        }
    }

    /// Begins with another server the next time.
    pub(crate) fn try_another(&self) {
        self.pass_over(self.first.load(Ordering::SeqCst));
    }

    /// Skips a server, unless another connection has skipped it already.
    fn pass_over(&self, server: usize) {
        let next = self.after(server);
        let _ = self
            .first
            .compare_exchange(server, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn after(&self, server: usize) -> usize {
        server
            .saturating_add(1)
            .checked_rem(self.each.len())
            .unwrap_or_default()
    }
}

/// One of the named servers, with all other settings.
fn only(config: &Config, server: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(server) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(server) {
        one.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(server).or(ports.first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    one
}

/// How long a connection may be silent, regardless of the connection string.
fn limit(config: &mut Config) {
    config
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(LAST_MAX)
        .tcp_user_timeout(LAST_MAX)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name("tessera");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Servers {
        Servers::of(&url.parse().unwrap())
    }

    #[test]
    fn each_server_is_one_with_all_that_is_said_of_all() {
        let servers = of(
            "postgresql://ann:canary@db1:6000,db2:6001/tessera?sslmode=require&options=-c%20work_mem%3D1MB&channel_binding=require",
        );
        let whole: Config = "host=db2 port=6001 user=ann password=canary dbname=tessera sslmode=require \
            options='-c work_mem=1MB' channel_binding=require"
            .parse()
            .unwrap();
        let mut expected = whole;
        limit(&mut expected);
        assert_eq!(servers.each.len(), 2);
        assert_eq!(servers.each[1], expected);
        let same_port = of("host=db1,/run/postgresql,db3 hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 port=6000");
        for server in &same_port.each {
            let named = (server.get_hosts().len(), server.get_hostaddrs().len());
            assert_eq!((named, server.get_ports()), ((1, 1), &[6000][..]));
        }
        assert_eq!(
            of("host=db1,db2,db3 port=1,2").each.len(),
            1,
            "the library refuses it"
        );
        assert_eq!(of("host=db1").time_max(), LAST_MAX);
    }

    #[test]
    fn one_that_fails_is_tried_last_the_next_time() {
        let servers = of("host=db1,db2,db3");
        let first = || servers.first.load(Ordering::SeqCst);
        servers.try_another();
        assert_eq!(first(), 1);
        servers.pass_over(0);
        assert_eq!(first(), 1, "it was passed over already");
        servers.pass_over(1);
        servers.pass_over(2);
        assert_eq!(first(), 0);
    }
}
