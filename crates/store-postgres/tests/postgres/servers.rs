//! Three servers, one of which is the primary and waits until another one has its writes: failures of them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::server::Server;

/// Three servers. The first one that is not a standby is the primary.
pub(crate) struct Servers {
    of: BTreeMap<&'static str, Server>,
    primary: &'static str,
    hosts: String,
}

impl Servers {
    pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

    pub(crate) fn start() -> Self {
        let primary = Server::start("");
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (a, b, c)'");
        let mut servers = Self {
            of: BTreeMap::from([("a", primary)]),
            primary: "a",
            hosts: String::new(),
        };
        for name in ["b", "c"] {
            let standby = servers.primary().standby(name);
            servers.of.insert(name, standby);
        }
        servers.primary().sql("SELECT pg_reload_conf()");
        servers
    }

    pub(crate) fn primary(&self) -> &Server {
        &self.of[self.primary]
    }

    pub(crate) fn standbys(&self) -> impl Iterator<Item = &Server> {
        let others = self.of.iter().filter(|(name, _)| **name != self.primary);
        others.map(|(_, server)| server)
    }

    /// How nodes find the primary. Servers that are made later have other sockets, to which these names lead.
    pub(crate) fn url(&mut self, names: &std::path::Path) -> String {
        for (name, server) in &self.of {
            link(server, &names.join(name));
        }
        let hosts: Vec<_> = Self::NAMES
            .iter()
            .map(|name| names.join(name).display().to_string())
            .collect();
        self.hosts = hosts.join(",");
        format!("host={} user=postgres dbname=postgres", self.hosts)
    }

    /// The name of the primary, one of [`Self::NAMES`].
    pub(crate) fn primary_name(&self) -> &'static str {
        self.primary
    }

    /// The primary is lost with its disk. The standby with the most data replaces it, and a new standby is made.
    pub(crate) fn fail_over(&mut self, names: &std::path::Path) {
        self.primary().signal("KILL");
        drop(self.replace_primary(names));
    }

    /// The same, but the old primary, which is returned, still runs.
    pub(crate) fn replace_primary(&mut self, names: &std::path::Path) -> Server {
        let lost = self.primary;
        let old = self.of.remove(lost).expect("the primary");
        let received = |server: &Server| -> u64 {
            // The received position goes back to the start of its segment for a moment when a standby follows a new
            // primary.
            let found = server.sql(
                "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint",
            );
            found.parse().unwrap_or_default()
        };
        let next = self.of.iter().max_by_key(|(_, server)| received(server));
        let next = *next.expect("a standby").0;
        self.of[next].promote();
        self.primary = next;
        for (name, server) in &self.of {
            if *name != next {
                server.sql(&format!(
                    "ALTER SYSTEM SET primary_conninfo = '{} application_name={name}'",
                    self.primary().url()
                ));
                server.sql("SELECT pg_reload_conf()");
            }
        }
        let again = self.primary().standby(lost);
        link(&again, &names.join(lost));
        self.of.insert(lost, again);
        old
    }

    /// The primary has no standbys any more, so it can't commit.
    pub(crate) async fn cut_off_primary(&self) {
        for server in self.standbys() {
            server.sql("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
            server.sql("SELECT pg_reload_conf()");
        }
        while self.primary().sql("SELECT count(*) FROM pg_stat_replication") != "0" {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The disturbances of the servers between two failovers.
    pub(crate) async fn disturb(&self, turn: u32) {
        match turn % 4 {
            0 => drop(self.primary().sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tessera' AND random() < 0.3",
            )),
            1 => {
                for _ in 0..20 {
                    self
                        .primary()
                        .sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
                    sleep(Duration::from_millis(20)).await;
                }
            }
            2 => {
                self.primary().signal("STOP");
                sleep(Duration::from_millis(500)).await;
                self.primary().signal("CONT");
            }
            _ => {
                // The primary is cut off from its standbys, and lost with commits that they do not have: `COMMIT`
                // reported success.
                self.cut_off_primary().await;
                sleep(Duration::from_millis(300)).await;
                for _ in 0..5 {
                    self
                        .primary()
                        .sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Makes a name in a directory a link to a server.
fn link(server: &Server, name: &std::path::Path) {
    let _ = std::fs::remove_file(name);
    std::os::unix::fs::symlink(server.socket().parent().unwrap(), name).unwrap();
}
