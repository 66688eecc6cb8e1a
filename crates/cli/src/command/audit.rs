//! `tessera audit …`.

mod export;
mod record;
mod verify;

use tessera_authority::AuditLine;
use tessera_core::{AuditKind, Clock, SystemClock, Timestamp};
use tessera_proto::v1::{
    self, AuditFilter, AuditOrder, AuditOutcome, ListAuditRecordsRequest, TailAuditRecordsRequest,
    tail_audit_records_response::Message,
};

use crate::{
    arguments::{Audit, Connection, Filter, Output, When},
    command::{audit::record::entry, shutdown},
    failure::Failure,
    output::{Reader, columns, stream_line},
    terminal::visible,
};

pub(crate) async fn run(command: Audit, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        Audit::List {
            filter,
            until,
            limit,
            oldest_first,
        } => {
            let filter = wire_filter(filter, until)?;
            let order = if oldest_first {
                AuditOrder::OldestFirst
            } else {
                AuditOrder::NewestFirst
            };
            list(filter, order, limit, connection, output).await
        }
        Audit::Tail { filter, after } => tail(wire_filter(filter, None)?, after, connection, output).await,
        Audit::Export {
            file,
            overwrite,
            after,
        } => export::run(&file, overwrite, after, connection, output).await,
        Audit::Verify { file: None, .. } => verify::of_authority(connection, output).await,
        Audit::Verify {
            file: Some(file),
            key,
        } => verify::of_file(&file, key.as_deref(), output),
    }
}

fn wire_filter(filter: Filter, until: Option<When>) -> Result<AuditFilter, Failure> {
    let now = SystemClock.now();
    let time = |when: When| wire_time(when.before(now));
    let outcome = if filter.refused {
        AuditOutcome::Refused
    } else {
        AuditOutcome::Unspecified
    };
    let actions = filter.actions.iter().map(|kind| action(*kind));
    Ok(AuditFilter {
        since: filter.since.map(time),
        until: until.map(time),
        actions: actions.collect::<Result<_, _>>()?,
        outcome: outcome.into(),
        client: filter.client.unwrap_or_default(),
        api_key_id: filter.key_id.unwrap_or_default(),
        subject: filter.subject.unwrap_or_default(),
        session_id: filter.session.unwrap_or_default(),
        decision_id: filter.decision.unwrap_or_default(),
    })
}

fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    let millis = i32::try_from(at.as_millis().rem_euclid(1000)).unwrap_or(0);
    prost_types::Timestamp {
        seconds: at.as_seconds(),
        nanos: millis * 1_000_000,
    }
}

/// The names on the wire are those of the kinds.
fn action(kind: AuditKind) -> Result<i32, Failure> {
    let name = format!("AUDIT_ACTION_{}", kind.as_str().to_uppercase());
    let action = v1::AuditAction::from_str_name(&name);
    action
        .map(Into::into)
        .ok_or_else(|| Failure::cannot_run(format!("`{}` can't be requested", kind.as_str())))
}

fn json_line(line: &AuditLine) -> Result<String, Failure> {
    serde_json::to_string(line).map_err(Failure::cannot_run)
}

async fn list(
    filter: AuditFilter,
    order: AuditOrder,
    limit: usize,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let mut client = connection.audits().await?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (mut lines, mut page_token) = (Vec::new(), String::new());
    loop {
        let wanted = limit.saturating_sub(lines.len()).min(500);
        let request = ListAuditRecordsRequest {
            filter: Some(filter.clone()),
            order: order.into(),
            page_size: u32::try_from(wanted).unwrap_or(500),
            page_token,
        };
        let page = client.list_audit_records(request).await?.into_inner();
        for record in page.records {
            lines.push(AuditLine::of(&entry(record)?));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() || lines.len() >= limit {
            break;
        }
    }
    let more = !page_token.is_empty();
    let document = serde_json::json!({ "records": lines, "more": more });
    output.print(&document, || shown(&lines, more))
}

fn shown(lines: &[AuditLine], more: bool) -> String {
    if lines.is_empty() {
        return "no records".to_owned();
    }
    let rows: Vec<_> = lines.iter().map(row).collect();
    let mut text = columns(["POSITION", "TIME", "ACTION", "WHO", "FROM", "WHAT"], &rows);
    if more {
        text.push_str("there are more: choose which with --limit, --since and --until\n");
    }
    text
}

fn row(line: &AuditLine) -> [String; 6] {
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    [
        line.position.to_string(),
        line.time.clone(),
        line.action.clone(),
        who(line),
        or_dash(&line.actor.address),
        what(line),
    ]
}

fn who(line: &AuditLine) -> String {
    match &line.actor {
        actor if actor.operator => "(operator)".to_owned(),
        actor if actor.client.is_empty() => "stranger".to_owned(),
        actor => format!("{} {}", actor.client, actor.api_key_id),
    }
}

/// The facts of a record, each with its name.
fn what(line: &AuditLine) -> String {
    let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let repeated = line.times.filter(|times| *times > 1);
    let facts = [
        ("target", line.target.clone()),
        ("subject", line.subject.clone()),
        ("session", line.session_id.clone()),
        ("scopes", line.scopes.join(" ")),
        ("denied", line.denied_scopes.join(" ")),
        ("client", line.client.clone()),
        ("key", line.api_key_id.clone()),
        ("successor", line.successor_id.clone()),
        ("kid", line.kid.clone()),
        ("call", line.call.clone()),
        ("required", line.required.clone()),
        ("times", count(repeated)),
        ("ended", count(line.ended_sessions)),
        ("narrowed", count(line.narrowed_sessions)),
        ("policy", line.policy_revision.chars().take(12).collect()),
        ("decision", line.decision_id.clone()),
        ("position", count(line.log_position)),
        ("reason", line.reason.clone()),
    ];
    let of_target = |name: &str| {
        !line.target.is_empty() && matches!(name, "subject" | "session" | "client" | "key" | "kid")
    };
    let told = facts
        .iter()
        .filter(|(name, value)| !value.is_empty() && !of_target(name));
    let told: Vec<_> = told.map(|(name, value)| format!("{name}={value}")).collect();
    told.join("  ")
}

async fn tail(
    filter: AuditFilter,
    after: Option<u64>,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let interrupted = shutdown::requested()?;
    let request = TailAuditRecordsRequest {
        filter: Some(filter),
        after_position: after,
        stop_at_end: false,
        with_digests: false,
    };
    let mut client = connection.audit_streams().await?;
    let mut stream = client.tail_audit_records(request).await?.into_inner();
    tokio::pin!(interrupted);
    loop {
        let message = tokio::select! {
            () = &mut interrupted => return Ok(()),
            message = stream.message() => message?,
        };
        let Some(message) = message else { return Ok(()) };
        let Some(Message::Record(record)) = message.message else {
            continue;
        };
        let line = AuditLine::of(&entry(record)?);
        let text = if output.json {
            json_line(&line)?
        } else {
            let [position, time, action, who, from, what] = row(&line);
            visible(&format!(
                "{position:>8}  {time}  {action:<20}  {who}  {from}  {what}"
            ))
            .into_owned()
        };
        if stream_line(&text)? == Reader::Gone {
            return Ok(());
        }
    }
}
