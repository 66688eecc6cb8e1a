//! `tessera audit export`: the trail as lines of JSON, which can be checked without an authority.
//!
//! The first line describes the rest: the realm, the positions, and the key that signs checkpoints. The last line is a
//! signature of what is before it, so that an export can't lose a record, or a part at its end.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_authority::{AuditDigest, AuditLine};
use tessera_proto::v1::{self, TailAuditRecordsRequest, tail_audit_records_response::Message};
use tessera_store::AuditLink;

use crate::{
    arguments::{Connection, Output},
    command::audit::record::{entry, link},
    failure::Failure,
    partial::{Partial, may_be_made},
    progress::Progress,
};

/// The format of exports.
pub(super) const FORMAT: u32 = 2;

/// The first line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) tessera_audit_export: u32,
    pub(super) realm: String,
    pub(super) after_position: u64,
    pub(super) through_position: u64,
    pub(super) checkpoint_key: String,
}

/// The last line of an export that has a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) checkpoint: String,
}

/// A record of another realm.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DigestLine {
    position: u64,
    digest: String,
    previous_link: String,
}

impl DigestLine {
    fn of(digest: &v1::AuditDigest) -> Result<Self, Failure> {
        let text = |bytes: &[u8]| {
            let link = link(bytes).map(|link| link.to_string());
            link.ok_or_else(|| Failure::cannot_run("the authority sent a digest of the wrong length"))
        };
        Ok(Self {
            position: digest.position,
            digest: text(&digest.digest)?,
            previous_link: text(&digest.previous_link)?,
        })
    }

    pub(super) fn digest(&self) -> Option<AuditDigest> {
        Some(AuditDigest {
            position: self.position,
            previous: AuditLink::parse(&self.previous_link)?,
            digest: AuditLink::parse(&self.digest)?.0,
        })
    }
}

pub(super) async fn run(
    path: &Path,
    overwrite: bool,
    after: u64,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let request = TailAuditRecordsRequest {
        filter: None,
        after_position: Some(after),
        stop_at_end: true,
        with_digests: true,
    };
    let mut client = connection.audit_streams().await?;
    let mut stream = client.tail_audit_records(request).await?.into_inner();
    let mut to = Target::open(path, overwrite)?;
    let mut progress = Progress::begin();
    let (mut records, mut through) = (0_u64, 0);
    while let Some(message) = stream.message().await? {
        match message.message {
            Some(Message::Begin(begin)) => {
                through = begin.through_position;
                to.line(&Header {
                    tessera_audit_export: FORMAT,
                    realm: begin.realm,
                    after_position: begin.after_position,
                    through_position: through,
                    checkpoint_key: begin.checkpoint_key,
                })?;
            }
            Some(Message::Record(record)) => {
                to.line(&AuditLine::of(&entry(record)?))?;
                records += 1;
                progress.show(|| format!("{records} records of {through} positions"));
            }
            Some(Message::Digest(digest)) => {
                to.line(&DigestLine::of(&digest)?)?;
            }
            Some(Message::End(end)) => to.line(&End {
                checkpoint: end.checkpoint,
            })?,
            None => {}
        }
    }
    drop(progress);
    if !to.finish(path, overwrite)? {
        return Ok(());
    }
    let document = json!({ "file": path, "records": records, "through_position": through });
    output.print(&document, || {
        format!(
            "{records} records up to position {through} are in {}. The next export continues with --after {through}",
            path.display()
        )
    })
}

/// The target of an export: a file that exists only once it is complete, or stdout.
enum Target {
    Stdout(io::BufWriter<io::Stdout>),
    File(io::BufWriter<File>, Partial),
}

impl Target {
    fn open(path: &Path, overwrite: bool) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::BufWriter::new(io::stdout())));
        }
        may_be_made(path, overwrite)?;
        let partial = Partial::beside(path)?;
        Ok(Self::File(io::BufWriter::new(partial.file()?), partial))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(line).map_err(Failure::cannot_run)?;
        match self {
            Self::Stdout(stdout) => writeln!(stdout, "{text}").map_err(|error| unprinted(&error)),
            Self::File(file, partial) => writeln!(file, "{text}").map_err(|error| partial.unwritten(error)),
        }
    }

    /// Whether it is a file, which is complete and durable now.
    fn finish(self, path: &Path, overwrite: bool) -> Result<bool, Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(|error| unprinted(&error))?;
                Ok(false)
            }
            Self::File(mut file, partial) => {
                file.flush().map_err(|error| partial.unwritten(error))?;
                partial.becomes(path, overwrite)?;
                Ok(true)
            }
        }
    }
}

fn unprinted(error: &io::Error) -> Failure {
    Failure::cannot_run(format!("stdout can't be written: {error}"))
}
