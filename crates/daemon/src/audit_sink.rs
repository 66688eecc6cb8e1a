//! Delivery of audit records to other systems.
//!
//! Each sink has a separate task, which reads the trail from its own position, as watchers read the log. Only that
//! position is kept for a sink, no call waits for a sink, and a sink that hangs delays nothing else. A batch that can't
//! be delivered is retried until it is; the position is kept once the sink has the batch. So each record arrives at
//! least once, in order. If the authority has several nodes, the oldest of those that have a sink delivers to it.

mod file;
mod format;
mod http;
mod ocsf;
mod otlp;
mod syslog;

use std::{io, sync::Arc, time::Duration};

use tessera_authority::{Authority, Unavailable};
use tessera_store::{AuditEntry, StoreError};
use tokio::time::Instant;

use self::{file::FileSink, http::HttpSink, otlp::OtlpSink, syslog::SyslogSink};
use crate::{
    collector::Collector,
    config::{AuditConfig, SinkConfig, SinkName, TelemetryConfig},
    telemetry,
};

/// Records of one batch.
const BATCH: usize = 256;
/// How long one batch may take. If a sink takes longer, the batch is sent again.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How often a sink's position is kept if there is more to deliver: records after the kept position are delivered again
/// after a crash.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after a failure: at first, and at most.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Delivers to all sinks for as long as it is polled.
pub(crate) async fn keep(authority: Arc<Authority>, config: AuditConfig, telemetry: TelemetryConfig) {
    let mut sinks = tokio::task::JoinSet::new();
    for (name, config) in config.sinks {
        let sink = Sink::new(config, &telemetry);
        sinks.spawn(Delivery::new(Arc::clone(&authority), name, sink).run());
    }
    while sinks.join_next().await.is_some() {}
    // No sink is configured, or none is left while the process ends.
    std::future::pending::<()>().await;
}

/// The destination of records.
enum Sink {
    File(FileSink),
    Syslog(SyslogSink),
    Http(HttpSink),
    Otlp(OtlpSink),
}

impl Sink {
    fn new(config: SinkConfig, telemetry: &TelemetryConfig) -> Self {
        match config {
            SinkConfig::File { path, format } => Self::File(FileSink::new(path, format)),
            SinkConfig::Syslog { address, format } => Self::Syslog(SyslogSink::new(address, format)),
            SinkConfig::Http {
                url,
                token_file,
                format,
            } => Self::Http(HttpSink::new(url, token_file, format)),
            SinkConfig::Otlp {
                endpoint,
                headers_file,
                ca,
                format,
            } => {
                let collector = Collector {
                    url: endpoint,
                    headers_file,
                    ca,
                };
                Self::Otlp(OtlpSink::new(
                    collector,
                    TIME_MAX,
                    format,
                    &telemetry::sender(telemetry),
                ))
            }
        }
    }

    async fn deliver(&mut self, entries: &[AuditEntry]) -> io::Result<()> {
        match self {
            Self::File(file) => file.deliver(entries).await,
            Self::Syslog(syslog) => syslog.deliver(entries).await,
            Self::Http(http) => http.deliver(entries).await,
            Self::Otlp(otlp) => otlp.deliver(entries).await,
        }
    }

    /// How many records the receiver has rejected permanently since the last call.
    fn take_rejected(&mut self) -> u64 {
        match self {
            Self::File(_) | Self::Syslog(_) | Self::Http(_) => 0,
            Self::Otlp(otlp) => otlp.take_rejected(),
        }
    }

    /// Whether others can read in transit what only the receiver may know.
    fn shows_secrets(&self) -> bool {
        match self {
            Self::File(_) | Self::Syslog(_) => false,
            Self::Http(http) => http.shows_token(),
            Self::Otlp(otlp) => otlp.shows_headers(),
        }
    }
}

struct Delivery {
    authority: Arc<Authority>,
    name: SinkName,
    sink: Sink,
    /// Why the last batch was not delivered, as the log has it.
    problem: Option<String>,
    /// Whether some of the last batch were rejected.
    is_rejecting: bool,
}

impl Delivery {
    fn new(authority: Arc<Authority>, name: SinkName, sink: Sink) -> Self {
        Self {
            authority,
            name,
            sink,
            problem: None,
            is_rejecting: false,
        }
    }

    async fn run(mut self) {
        if self.sink.shows_secrets() {
            tracing::warn!(
                sink = self.name.as_str(),
                "the token or headers for the sink can be read on the way, and the records, too: its URL is not `https`"
            );
        }
        self.authority.audit_sinks().begin(self.name.as_str());
        let mut head = self.authority.audit_sinks().head();
        let mut kept_at = Instant::now();
        let Some(mut position) = self.turn().await else {
            return;
        };
        loop {
            if !self.is_its_turn() {
                let Some(next) = self.turn().await else { return };
                position = next;
            }
            let last = head.borrow_and_update().position;
            if position >= last {
                if head.changed().await.is_err() {
                    return;
                }
                continue;
            }
            position = self.next(position).await;
            if position >= last || kept_at.elapsed() >= KEEP_INTERVAL {
                self.keep(position).await;
                kept_at = Instant::now();
            }
        }
    }

    /// Whether this node delivers to the sink.
    fn is_its_turn(&self) -> bool {
        self.authority.audit().delivers_to(self.name.as_str())
    }

    /// Waits until this node delivers to the sink, and returns the position up to which the sink has everything; `None`
    /// once the store is closed.
    async fn turn(&self) -> Option<u64> {
        let name = self.name.as_str();
        loop {
            match self.authority.audit().turn_to_deliver_to(name).await {
                Ok(position) => return Some(position),
                Err(Unavailable::Store(StoreError::Closed)) => return None,
                Err(error) => {
                    tracing::debug!(sink = name, %error, "how far the sink is can't be read");
                    tokio::time::sleep(WAIT_FIRST).await;
                }
            }
        }
    }

    /// Delivers the next records, and returns the new position; the same position if another node delivers now.
    async fn next(&mut self, position: u64) -> u64 {
        let mut wait = WAIT_FIRST;
        loop {
            let result = self.batch(position).await;
            self.note_rejected();
            match result {
                Ok(delivered) => {
                    self.delivered(delivered);
                    return delivered;
                }
                Err(problem) => self.failed(problem, position),
            }
            if !self.is_its_turn() {
                return position;
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(WAIT_MAX);
        }
    }

    async fn batch(&mut self, position: u64) -> Result<u64, String> {
        let page = self.authority.audit_sinks().records_after(position, BATCH).await;
        let page = page.map_err(|error| error.to_string())?;
        if let Some(first) = page
            .entries
            .first()
            .filter(|first| first.position > position.saturating_add(1))
        {
            tracing::warn!(
                sink = self.name.as_str(),
                after = position,
                before = first.position,
                "audit records were too old to be kept before they were delivered"
            );
        }
        if !page.entries.is_empty() {
            let delivered = tokio::time::timeout(TIME_MAX, self.sink.deliver(&page.entries)).await;
            delivered
                .map_err(|_| format!("no answer within {} s", TIME_MAX.as_secs()))?
                .map_err(|error| error.to_string())?;
        }
        Ok(page.through)
    }

    /// Logs it once, until a batch is accepted completely; the metric counts each.
    fn note_rejected(&mut self) {
        let records = self.sink.take_rejected();
        if records > 0 {
            self.authority.audit_sinks().rejected(self.name.as_str(), records);
            if !self.is_rejecting {
                tracing::warn!(
                    sink = self.name.as_str(),
                    records,
                    "the sink rejects audit records, which it is not sent again; its own log says why"
                );
            }
        }
        self.is_rejecting = records > 0;
    }

    fn delivered(&mut self, position: u64) {
        if self.problem.take().is_some() {
            tracing::info!(
                sink = self.name.as_str(),
                position,
                "audit records are delivered again"
            );
        }
        self.authority
            .audit_sinks()
            .delivered(self.name.as_str(), position);
    }

    /// Keeps the position of the sink.
    async fn keep(&self, position: u64) {
        let kept = self
            .authority
            .audit_sinks()
            .keep_position(self.name.as_str(), position);
        if let Err(error) = kept.await {
            tracing::warn!(sink = self.name.as_str(), %error, "how far the sink is can't be kept");
        }
    }

    /// Logs it once, until the problem changes or is over.
    fn failed(&mut self, problem: String, position: u64) {
        self.authority.audit_sinks().not_delivered(self.name.as_str());
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(
                sink = self.name.as_str(),
                after = position,
                problem,
                "audit records can't be delivered; they are kept, and tried again"
            );
            self.problem = Some(problem);
        }
    }
}

#[cfg(test)]
mod tests;
