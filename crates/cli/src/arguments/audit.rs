//! What can be typed after `tessera audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tessera_core::{AuditKind, Seconds, Timestamp};

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List records, the newest first.
    ///
    /// There is no index by actor or subject: the authority reads all records of the requested time.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only until then: a time as RFC 3339 has it, or how long ago.
        #[arg(long, value_name = "TIME")]
        until: Option<When>,
        /// How many records at most; 0: all.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// The oldest first.
        #[arg(long)]
        oldest_first: bool,
    },
    /// Follow the trail as it grows, until interrupted.
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// Begin after the record at this position, with 0 for the first; without it, with the next one.
        #[arg(long, value_name = "POSITION")]
        after: Option<u64>,
    },
    /// Write the records of the realm to a file, a line of JSON each.
    ///
    /// Records of other realms are digests in it, so `tessera audit verify FILE` can check each link. It ends with the
    /// record that is the last when it begins.
    Export {
        /// The file, or `-` for stdout.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Replace FILE if it is there.
        #[arg(long)]
        overwrite: bool,
        /// Begin after the record at this position: the last of an earlier export.
        #[arg(long, default_value_t = 0, value_name = "POSITION")]
        after: u64,
    },
    /// Check that no record was changed, removed or inserted. Exit code 1 if one was.
    ///
    /// Without FILE, the authority checks its own trail, of all realms. With FILE, an export is checked here, without
    /// an authority.
    Verify {
        /// An export.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The public key that signs checkpoints (`k4.public.…`), kept from an earlier check. Without it, the key that
        /// the export names is believed.
        #[arg(long, value_name = "KEY", requires = "file")]
        key: Option<String>,
    },
}

/// Which records.
#[derive(Args)]
pub(crate) struct Filter {
    /// Only from then on: a time as RFC 3339 has it, or how long ago (`2h`, `90d`).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Only these actions; repeat it for several.
    #[arg(long = "action", value_name = "ACTION", value_parser = action)]
    pub(crate) actions: Vec<AuditKind>,
    /// Only refused calls.
    #[arg(long)]
    pub(crate) refused: bool,
    /// Only actions of this client, or to it.
    #[arg(long, value_name = "CLIENT", value_parser = super::client)]
    pub(crate) client: Option<String>,
    /// Only actions with this API key, or to it.
    #[arg(long = "api-key-id", value_name = "ID", value_parser = super::filled)]
    pub(crate) key_id: Option<String>,
    /// Only about this subject.
    #[arg(long, value_name = "SUBJECT", value_parser = super::filled)]
    pub(crate) subject: Option<String>,
    /// Only about this session.
    #[arg(long, value_name = "UUID", value_parser = super::filled)]
    pub(crate) session: Option<String>,
    /// Only the record of this decision.
    #[arg(long, value_name = "UUID", value_parser = super::filled)]
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
