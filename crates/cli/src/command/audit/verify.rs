//! `tessera audit verify`: for the authority's own trail, or for an export.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::{Value, json};
use tessera_authority::{AuditLine, TrailCheck, TrailFault, TrailReport};
use tessera_core::RealmName;
use tessera_proto::v1::{VerifyAuditRequest, VerifyAuditResponse};
use tessera_store::StoreError;
use tessera_token::CheckpointPublicKey;

use crate::{
    arguments::{Connection, Output},
    command::audit::export::{DigestLine, End, FORMAT, Header},
    failure::Failure,
    json::time,
    output::table,
    progress::Progress,
    terminal::counted,
};

/// The maximum length of an export's line.
const LINE_MAX: u64 = 4 * 1024 * 1024;

/// Requests that the authority reads its trail.
pub(super) async fn of_authority(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let mut client = connection.audit_streams().await?;
    let mut stream = client.verify_audit(VerifyAuditRequest {}).await?.into_inner();
    let mut progress = Progress::begin();
    let mut last = None;
    while let Some(message) = stream.message().await? {
        progress.show(|| {
            let (last, end) = (message.last_position, message.end_position);
            format!("{} records, at position {last} of {end}", message.records)
        });
        last = Some(message).filter(|message| message.is_done);
    }
    drop(progress);
    let Some(done) = last else {
        return Err(Failure::cannot_run(
            "the authority ended the check without a result",
        ));
    };
    if !done.fault.is_empty() {
        let broken = format!("the audit trail is not what was written: {}", done.fault);
        return Err(Failure::refused(broken).because("AUDIT_TRAIL_BROKEN"));
    }
    output.print(&document(&done), || {
        table(&[
            ("records", done.records.to_string()),
            ("from", at(done.first_position, time(done.first_time.as_ref()))),
            ("to", at(done.last_position, time(done.last_time.as_ref()))),
            (
                "signed",
                signed(
                    done.signed_through,
                    done.signed_checkpoints,
                    done.unknown_checkpoints,
                ),
            ),
            ("key", done.checkpoint_key.clone()),
        ])
    })
}

fn document(done: &VerifyAuditResponse) -> Value {
    json!({
        "records": done.records,
        "first_position": done.first_position,
        "first_time": time(done.first_time.as_ref()),
        "last_position": done.last_position,
        "last_time": time(done.last_time.as_ref()),
        "signed_through": done.signed_through,
        "signed_checkpoints": done.signed_checkpoints,
        "unknown_checkpoints": done.unknown_checkpoints,
        "checkpoint_key": done.checkpoint_key,
    })
}

fn at(position: u64, time: Option<String>) -> String {
    format!("position {position}, {}", time.unwrap_or_else(|| "-".to_owned()))
}

fn signed(through: u64, right: u64, unknown: u64) -> String {
    let covered = match through {
        0 => "nothing yet".to_owned(),
        through => format!("up to position {through}, by {}", counted(right, "checkpoint")),
    };
    match unknown {
        0 => covered,
        unknown => format!("{covered}; {unknown} more are of other keys"),
    }
}

/// Reads an export.
pub(super) fn of_file(path: &Path, key: Option<&str>, output: &Output) -> Result<(), Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::cannot_run(format!("{} can't be read: {error}", path.display())))?;
    let mut lines = Lines {
        reader: BufReader::new(file),
        path,
        number: 0,
    };
    let header = lines.header()?;
    let key =
        CheckpointPublicKey::parse(key.unwrap_or(&header.checkpoint_key)).map_err(Failure::cannot_run)?;
    let report = check(&mut lines, &header, key.clone())?;
    let document = json!({
        "realm": header.realm,
        "records": report.records,
        "digests": report.hidden,
        "first_position": report.first,
        "last_position": report.last,
        "signed_through": report.signed_through,
        "signed_checkpoints": report.signed,
        "unknown_checkpoints": report.unknown,
        "checkpoint_key": key.to_string(),
    });
    output.print(&document, || {
        table(&[
            ("realm", header.realm.clone()),
            (
                "records",
                format!("{}, and {} of other realms", report.records, report.hidden),
            ),
            (
                "from",
                at(
                    report.first,
                    report.first_at.map(tessera_core::Timestamp::to_rfc3339),
                ),
            ),
            (
                "to",
                at(
                    report.last,
                    report.last_at.map(tessera_core::Timestamp::to_rfc3339),
                ),
            ),
            (
                "signed",
                signed(report.signed_through, report.signed, report.unknown),
            ),
            ("key", key.to_string()),
        ])
    })
}

fn check(lines: &mut Lines<'_>, header: &Header, key: CheckpointPublicKey) -> Result<TrailReport, Failure> {
    let realm = RealmName::parse(&header.realm).map_err(|error| lines.fault(error))?;
    let mut check = TrailCheck::new(vec![key]);
    let mut end = None;
    while let Some(line) = lines.next()? {
        if end.is_some() {
            return Err(lines.fault("there are lines after the signature"));
        }
        if let Ok(signed) = serde_json::from_str::<End>(&line) {
            end = Some(signed);
            continue;
        }
        take(&mut check, &line, &realm).map_err(|fault| lines.fault(fault))?;
        let expected = header.after_position.saturating_add(1);
        if check.report().first != expected {
            return Err(lines.fault(format!(
                "the export should begin with record {expected}: records are missing"
            )));
        }
    }
    let last = check.report().last;
    if last != header.through_position && header.through_position > header.after_position {
        let cut_off = Failure::refused(format!(
            "the export was cut off, or added to: it ends with record {} and should end with {}. Export it again",
            last, header.through_position
        ));
        return Err(cut_off.because("AUDIT_EXPORT_INCOMPLETE"));
    }
    if last > 0 {
        let end = end.ok_or_else(|| lines.fault("the signature at the end is missing"))?;
        check
            .take_checkpoint(&end.checkpoint, &realm)
            .map_err(|fault| lines.fault(fault))?;
    }
    check.finish(None).map_err(|fault| lines.fault(fault))
}

/// Takes a line with a record of the realm, or with a digest. Fails with what is wrong with it.
fn take(check: &mut TrailCheck, line: &str, realm: &RealmName) -> Result<(), String> {
    let Ok(record) = serde_json::from_str::<AuditLine>(line) else {
        let digest = serde_json::from_str::<DigestLine>(line).ok();
        let digest = digest.and_then(|line| line.digest());
        let digest = digest.ok_or("this is not a line of an export")?;
        return check.take_digest(&digest).map_err(|fault| fault.to_string());
    };
    let entry = record.entry().map_err(|error| match error {
        StoreError::Damaged { detail } => detail,
        other => other.to_string(),
    })?;
    if entry.record.realm != *realm {
        let position = entry.position;
        return Err(TrailFault::OtherRealm { position }.to_string());
    }
    check.take(&entry).map_err(|fault| fault.to_string())
}

/// The lines of an export, counted.
struct Lines<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    number: u64,
}

impl Lines<'_> {
    fn header(&mut self) -> Result<Header, Failure> {
        let line = self.next()?.unwrap_or_default();
        let header: Option<Header> = serde_json::from_str(&line).ok();
        match header {
            Some(header) if header.tessera_audit_export == FORMAT => Ok(header),
            Some(header) => Err(Failure::cannot_run(format!(
                "{} is an export of format {}, and this command reads format {FORMAT}: update `tessera`",
                self.path.display(),
                header.tessera_audit_export
            ))),
            None => Err(Failure::cannot_run(format!(
                "{} is no export of an audit trail: `tessera audit export` makes one",
                self.path.display()
            ))),
        }
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        use std::io::Read;
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| {
            Failure::cannot_run(format!("{} can't be read: {error}", self.path.display()))
        })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.pop() != Some(b'\n') {
            return Err(self.fault("the line was cut off: export it again"));
        }
        String::from_utf8(line)
            .map(Some)
            .map_err(|_| self.fault("this is not text"))
    }

    fn fault(&self, fault: impl std::fmt::Display) -> Failure {
        let line = format!("{}:{}: {fault}", self.path.display(), self.number);
        let advice = "It is not what the authority exported. Compare it with another copy, or export it again, and find \
                      out who could write to this one";
        Failure::refused(format!("{line}. {advice}")).because("AUDIT_TRAIL_BROKEN")
    }
}
