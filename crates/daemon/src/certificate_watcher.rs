//! The certificate watcher keeps the certificate of TLS handshakes in step with its files: it checks them regularly,
//! and on SIGHUP. No notification is needed when certificates are renewed.

use std::time::Duration;

use tessera_core::Timestamp;
use tessera_server::{Tls, TlsError};
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};

/// How often the files are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Reloads the files until it is dropped.
pub(crate) async fn keep(tls: Tls, mut hangup: Option<Signal>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = CertificateWatcher {
        tls,
        refused: None,
        is_told: false,
    };
    loop {
        let is_asked = tokio::select! {
            () = hung_up(&mut hangup) => true,
            _ = looks.tick() => false,
        };
        watcher.look(is_asked).await;
    }
}

/// Ready at the next SIGHUP.
pub(crate) async fn hung_up(hangup: &mut Option<Signal>) {
    if let Some(signal) = hangup
        && signal.recv().await.is_some()
    {
        return;
    }
    // The signal is not available any longer.
    std::future::pending::<()>().await;
}

struct CertificateWatcher {
    tls: Tls,
    /// Why the files were refused at the last check.
    refused: Option<String>,
    /// Whether it was logged.
    is_told: bool,
}

impl CertificateWatcher {
    async fn look(&mut self, is_asked: bool) {
        let tls = self.tls.clone();
        // It fails only while the process ends.
        let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else {
            return;
        };
        match reloaded {
            Ok(true) => self.replaced(),
            Ok(false) => self.same(is_asked),
            Err(error) => self.refused(&error, is_asked),
        }
    }

    fn replaced(&mut self) {
        (self.refused, self.is_told) = (None, false);
        let expires_at = self.tls.expires_at().map(Timestamp::to_rfc3339);
        tracing::info!(expires_at, "the certificate of [server.tls] is replaced");
        for note in self.tls.notes() {
            tracing::warn!("{note}");
        }
    }

    fn same(&mut self, is_asked: bool) {
        if self.is_told || is_asked {
            tracing::info!("the files of [server.tls] have what is in use");
        }
        (self.refused, self.is_told) = (None, false);
    }

    /// A certificate and its key are often replaced one after the other, so the first refusal is not logged yet.
    fn refused(&mut self, error: &TlsError, is_asked: bool) {
        let refused = error.to_string();
        let is_same = self.refused.as_ref() == Some(&refused);
        if is_asked || (is_same && !self.is_told) {
            tracing::error!(error = %refused, "the files of [server.tls] can't be used: what they had before stays in use");
            self.is_told = true;
        }
        if !is_same {
            self.is_told = is_asked;
        }
        self.refused = Some(refused);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use tempfile::TempDir;
    use tessera_server::{Tls, TlsConfig};

    use super::CertificateWatcher;

    fn write(directory: &TempDir, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) {
        fs::write(directory.path().join("server.crt"), certificate.cert.pem()).unwrap();
        let key = certificate.signing_key.serialize_pem();
        fs::write(directory.path().join("server.pem"), key).unwrap();
    }

    fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    fn watcher(directory: &TempDir) -> CertificateWatcher {
        let tls = Tls::read(&TlsConfig {
            certificate: directory.path().join("server.crt"),
            private_key: directory.path().join("server.pem"),
            client_ca: None,
        });
        CertificateWatcher {
            tls: tls.unwrap(),
            refused: None,
            is_told: false,
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_told_once_and_changes_nothing() {
        let directory = TempDir::new().unwrap();
        let (first, second) = (certificate(), certificate());
        write(&directory, &first);
        let mut watcher = watcher(&directory);
        watcher.look(false).await;
        assert!(watcher.refused.is_none() && !watcher.tls.is_last_change_refused());
        // One file of two has been replaced so far.
        fs::write(directory.path().join("server.crt"), second.cert.pem()).unwrap();
        watcher.look(false).await;
        assert!(watcher.tls.is_last_change_refused() && !watcher.is_told);
        watcher.look(false).await;
        assert!(watcher.is_told, "it stays so");
        let refused = watcher.refused.clone().unwrap();
        assert!(refused.contains("is not that of its certificate"), "{refused}");
        let key = second.signing_key.serialize_pem();
        fs::write(directory.path().join("server.pem"), key).unwrap();
        watcher.look(false).await;
        assert!(watcher.refused.is_none() && !watcher.is_told && !watcher.tls.is_last_change_refused());
        // A missing file is refused, and reported at once if the check was requested.
        fs::remove_file(directory.path().join("server.pem")).unwrap();
        watcher.look(true).await;
        assert!(watcher.is_told && watcher.refused.clone().unwrap().contains("can't be read"));
        write(&directory, &second);
        watcher.look(false).await;
        assert!(watcher.refused.is_none() && !watcher.tls.is_last_change_refused());
    }
}
