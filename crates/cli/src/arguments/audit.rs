//! What can be typed after `tessera audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tessera_core::{AuditKind, Seconds, Timestamp};

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List records, newest first.
    ///
    /// There is no index by actor or subject: the authority reads all records from the requested time.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only records before this time: an RFC 3339 time, or how long ago.
        #[arg(long, value_name = "TIME")]
        until: Option<When>,
        /// The maximum number of records; 0 for all.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// List the oldest records first.
        #[arg(long)]
        oldest_first: bool,
    },
    /// Follow the audit trail, until interrupted.
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// Start after the record at this position; 0 starts with the first record. Without it, start with the next new
        /// record.
        #[arg(long, value_name = "POSITION")]
        after: Option<u64>,
    },
    /// Write the records of the realm to a file, one line of JSON per record.
    ///
    /// For records of other realms, the file has only digests, so `tessera audit verify FILE` can check each link. It
    /// ends with the newest record at the time the export starts.
    Export {
        /// The file, or `-` for stdout.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Replace FILE if it exists.
        #[arg(long)]
        overwrite: bool,
        /// Start after the record at this position: the last one of an earlier export.
        #[arg(long, default_value_t = 0, value_name = "POSITION")]
        after: u64,
    },
    /// Check that no record was changed, removed or inserted. Exit code 1 if one was.
    ///
    /// Without FILE, the authority checks its own trail, for all realms. With FILE, this command checks an export
    /// itself, without an authority.
    Verify {
        /// An export.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The public key that signs checkpoints (`k4.public.…`), kept from an earlier check. Without it, the key named
        /// in the export is used, which does not prove who signed it.
        #[arg(long, value_name = "KEY", requires = "file")]
        key: Option<String>,
    },
}

/// Which records.
#[derive(Args)]
pub(crate) struct Filter {
    /// Only records after this time: an RFC 3339 time, or how long ago (`2h`, `90d`).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Only these actions; repeat it for several.
    #[arg(long = "action", value_name = "ACTION", value_parser = action)]
    pub(crate) actions: Vec<AuditKind>,
    /// Only refused calls.
    #[arg(long)]
    pub(crate) refused: bool,
    /// Only actions by this client or on it.
    #[arg(long, value_name = "CLIENT", value_parser = super::client)]
    pub(crate) client: Option<String>,
    /// Only actions that used this API key or changed it.
    #[arg(long = "api-key-id", value_name = "ID", value_parser = super::text::filled)]
    pub(crate) key_id: Option<String>,
    /// Only records about this subject.
    #[arg(long, value_name = "SUBJECT", value_parser = super::text::filled)]
    pub(crate) subject: Option<String>,
    /// Only records about this session.
    #[arg(long, value_name = "UUID", value_parser = super::text::filled)]
    pub(crate) session: Option<String>,
    /// Only the record of this decision.
    #[arg(long, value_name = "UUID", value_parser = super::text::filled)]
    pub(crate) decision: Option<String>,
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Ago(Seconds),
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            "neither a time such as 2026-11-27T05:00:00Z nor how long ago, such as 2h or 90d".to_owned()
        })
    }
}

impl When {
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(length) => now.minus(length),
        }
    }
}

fn action(name: &str) -> Result<AuditKind, String> {
    AuditKind::parse(name).ok_or_else(|| {
        let names: Vec<_> = AuditKind::ALL.into_iter().map(AuditKind::as_str).collect();
        format!("is not an action; those are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_point_or_a_length_before_now() {
        let now = Timestamp::from_seconds(1_000_000);
        let before = |text: &str| text.parse::<When>().map(|when| when.before(now).as_seconds());
        assert_eq!(before("2h"), Ok(1_000_000 - 7200));
        assert_eq!(before("1970-01-02T00:00:00Z"), Ok(86_400));
        assert!(before("yesterday").is_err());
    }
}
