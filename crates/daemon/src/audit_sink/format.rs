//! The format of a record.

use std::io;

use tessera_authority::AuditLine;
use tessera_store::AuditEntry;

use super::ocsf;
use crate::config::SinkFormat;

/// One record as one line, without its end.
pub(super) fn line(entry: &AuditEntry, format: SinkFormat) -> io::Result<String> {
    let line = AuditLine::of(entry);
    match format {
        SinkFormat::Json => serde_json::to_string(&line),
        SinkFormat::Ocsf => serde_json::to_string(&ocsf::event(entry, &line)),
    }
    .map_err(io::Error::other)
}

/// Records as lines.
pub(super) fn lines(entries: &[AuditEntry], format: SinkFormat) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in entries {
        lines.extend_from_slice(line(entry, format)?.as_bytes());
        lines.push(b'\n');
    }
    Ok(lines)
}
