//! The certificate of `[server.tls]`.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tessera_core::Timestamp;

use super::register;

/// The state of `[server.tls]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsSeen {
    /// When the certificate expires, if that is known.
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether its files have changed and can't be used.
    pub(crate) is_last_change_refused: bool,
}

/// The metrics of `[server.tls]`.
pub(super) struct TlsMetrics {
    not_after: Gauge<i64>,
    is_refused: Gauge<i64>,
}

impl TlsMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            not_after: register::new(
                ours,
                "tls_certificate_not_after_seconds",
                "When the certificate of [server.tls] expires, as Unix time",
            ),
            is_refused: register::new(
                ours,
                "tls_last_change_refused",
                "1 where the files of [server.tls] have changed and can't be used",
            ),
        }
    }

    pub(super) fn set(&self, seen: &TlsSeen) {
        if let Some(at) = seen.expires_at {
            self.not_after.set(at.as_seconds());
        }
        self.is_refused.set(i64::from(seen.is_last_change_refused));
    }
}
