//! Records as log records of OpenTelemetry (OTLP over gRPC). An answer means that the receiver has all of them except
//! those that it rejects. These are counted and not sent again: it would reject them again.

use std::{error::Error as _, io, mem, time::Duration};

use opentelemetry_proto::{
    tonic::{
        collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
        resource::v1::Resource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use prost::Message;
use tessera_core::AuditOutcome;
use tessera_store::AuditEntry;
use tonic::{Extensions, Request, Status, transport::Channel};

use super::format::line;
use crate::{collector::Collector, config::SinkFormat};

/// Bytes of one request. Receivers refuse more than 4 MiB; the rest is for the parts of a request besides its records.
const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The overhead of a record in a request, at most: the tag, and its length.
const RECORD_BYTES: usize = 1 + 10;

/// The receiver, and its position.
pub(super) struct OtlpSink {
    collector: Collector,
    resource: Resource,
    format: SinkFormat,
    /// Kept while the receiver answers; made again after a failure, as the connection may be what hangs.
    channel: Option<Channel>,
    time_max: Duration,
    /// The receiver has everything up to here: a batch that failed in the middle continues from this position.
    through: u64,
    /// Records that the receiver rejected and that are not reported yet.
    rejected: u64,
}

/// A request was not accepted. The receiver's text is not repeated, since it may be confidential.
#[derive(Debug, thiserror::Error)]
enum OtlpError {
    /// Its answer was not OK.
    #[error("the receiver answered {0:?}: {0}")]
    Status(tonic::Code),
    /// There was no answer.
    #[error("no answer: {0}")]
    Transport(String),
}

impl OtlpSink {
    pub(super) fn new(
        collector: Collector,
        time_max: Duration,
        format: SinkFormat,
        resource: &opentelemetry_sdk::Resource,
    ) -> Self {
        Self {
            collector,
            resource: Resource {
                attributes: ResourceAttributesWithSchema::from(resource).attributes.0,
                ..Resource::default()
            },
            format,
            channel: None,
            time_max,
            through: 0,
            rejected: 0,
        }
    }

    pub(super) async fn deliver(&mut self, entries: &[AuditEntry]) -> io::Result<()> {
        let through = self.through;
        let mut records = Vec::new();
        let (mut bytes, mut last) = (0, through);
        for entry in entries.iter().filter(|entry| entry.position > through) {
            let record = record(entry, self.format)?;
            let length = record.encoded_len().saturating_add(RECORD_BYTES);
            if !records.is_empty() && bytes + length > REQUEST_BYTES_MAX {
                self.send(mem::take(&mut records), last).await?;
                bytes = 0;
            }
            bytes += length;
            last = entry.position;
            records.push(record);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.send(records, last).await
    }

    /// Whether others can read the headers in transit.
    pub(super) fn shows_headers(&self) -> bool {
        self.collector.shows_headers(false)
    }

    /// How many records were rejected since the last call.
    pub(super) fn take_rejected(&mut self) -> u64 {
        mem::take(&mut self.rejected)
    }

    /// Sends records, the last of which is at this position.
    async fn send(&mut self, records: Vec<LogRecord>, last: u64) -> io::Result<()> {
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let request = self.request(records).await?;
        // It is kept again once there is an answer, but not if the wait for one was given up.
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.collector.channel(self.time_max).map_err(io::Error::other)?,
        };
        let answer = LogsServiceClient::new(channel.clone()).export(request).await;
        let answer = answer.map_err(|status| problem(&status))?.into_inner();
        self.channel = Some(channel);
        self.through = last;
        let rejected = answer
            .partial_success
            .map_or(0, |partial| partial.rejected_log_records);
        let rejected = u64::try_from(rejected).unwrap_or(0).min(count);
        self.rejected = self.rejected.saturating_add(rejected);
        Ok(())
    }

    async fn request(&self, log_records: Vec<LogRecord>) -> io::Result<Request<ExportLogsServiceRequest>> {
        let collector = self.collector.clone();
        let headers = tokio::task::spawn_blocking(move || collector.headers());
        let headers = headers.await.map_err(io::Error::other)??;
        let scope = InstrumentationScope {
            name: "tessera".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_logs = vec![ScopeLogs {
            scope: Some(scope),
            log_records,
            ..ScopeLogs::default()
        }];
        let resource_logs = vec![ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs,
            ..ResourceLogs::default()
        }];
        let request = ExportLogsServiceRequest { resource_logs };
        Ok(Request::from_parts(headers, Extensions::default(), request))
    }
}

/// Why there was no answer, in our words; for an answer, its code.
fn problem(status: &Status) -> io::Error {
    let Some(mut cause) = status.source() else {
        return io::Error::other(OtlpError::Status(status.code()));
    };
    // The innermost error says what happened; the outer ones only that it failed.
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    io::Error::other(OtlpError::Transport(cause.to_string()))
}

/// One record.
fn record(entry: &AuditEntry, format: SinkFormat) -> io::Result<LogRecord> {
    let kind = entry.record.action.kind();
    let (severity, severity_text) = match kind.outcome() {
        AuditOutcome::Done => (SeverityNumber::Info, "INFO"),
        AuditOutcome::Refused => (SeverityNumber::Warn, "WARN"),
    };
    let milliseconds = u64::try_from(entry.record.at.as_millis()).unwrap_or(0);
    let nanoseconds = milliseconds.saturating_mul(1_000_000);
    let position = i64::try_from(entry.position).unwrap_or(i64::MAX);
    Ok(LogRecord {
        time_unix_nano: nanoseconds,
        observed_time_unix_nano: nanoseconds,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        event_name: format!("tessera.audit.{}", kind.as_str()),
        body: Some(text(line(entry, format)?)),
        attributes: vec![
            attribute(
                "tessera.audit.position",
                AnyValue {
                    value: Some(any_value::Value::IntValue(position)),
                },
            ),
            attribute("tessera.realm", text(entry.record.realm.to_string())),
        ],
        ..LogRecord::default()
    })
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text)),
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}
