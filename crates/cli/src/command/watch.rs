//! `tessera watch`: the revocation log, one line per event.

use std::borrow::Cow;

use tessera_proto::v1::{
    EventKind, RevocationEvent, WatchFilter, WatchRequest, WatchResponse, WatchStart, watch_request,
    watch_response::Message, watch_start::From,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    arguments::{Connection, Output, Watch},
    command::shutdown,
    failure::Failure,
    json,
    output::{Reader, stream_line},
    terminal::visible,
};

pub(crate) async fn run(arguments: Watch, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let interrupted = shutdown::requested()?;
    let kinds = arguments
        .kinds
        .iter()
        .map(|kind| event_kind(kind))
        .collect::<Result<_, _>>()?;
    let from = match arguments.from.as_str() {
        "snapshot" => From::Snapshot(true),
        "latest" => From::Latest(true),
        "earliest" => From::Earliest(true),
        cursor => From::Cursor(cursor.to_owned()),
    };
    let start = WatchStart {
        from: Some(from),
        filter: Some(WatchFilter {
            audiences: arguments.audiences,
            clients: Vec::new(),
            kinds,
        }),
        subscriber: "tessera-watch".to_owned(),
        required: false,
        staleness_bound: None,
    };
    // The sender is kept: the stream stays open until the command ends.
    let (sender, requests) = mpsc::channel(1);
    let first = WatchRequest {
        message: Some(watch_request::Message::Start(start)),
    };
    sender.send(first).await.map_err(Failure::cannot_run)?;
    tokio::pin!(interrupted);
    let begun = async {
        let mut client = connection.revocations().await?;
        let answered = client.watch(ReceiverStream::new(requests)).await?;
        Ok::<_, Failure>(answered.into_inner())
    };
    let mut stream = tokio::select! {
        () = &mut interrupted => return Ok(()),
        begun = begun => begun?,
    };
    let mut last = None;
    loop {
        let message = tokio::select! {
            () = &mut interrupted => return Ok(()),
            message = stream.message() => message,
        };
        let Some(message) = message.map_err(|status| cut_off(status, last.as_deref()))? else {
            return Ok(());
        };
        last = cursor(&message).or(last);
        if print(&message, arguments.checkpoints, output)? == Reader::Gone {
            return Ok(());
        }
    }
}

/// The position from which the log can be followed after this message.
fn cursor(response: &WatchResponse) -> Option<String> {
    match response.message.as_ref()? {
        Message::Event(event) => Some(event.cursor.clone()),
        Message::SnapshotEnd(end) => Some(end.cursor.clone()),
        Message::Checkpoint(checkpoint) => Some(checkpoint.through.clone()),
        Message::SnapshotBegin(_) | Message::SnapshotItem(_) => None,
    }
}

/// A stream that broke, with what goes on where it was.
fn cut_off(status: Status, last: Option<&str>) -> Failure {
    let failure = Failure::from(status);
    match last {
        Some(cursor) => failure.after(&format!(
            "`tessera watch --from {cursor}` continues after what was printed"
        )),
        None => failure,
    }
}

fn print(response: &WatchResponse, with_checkpoints: bool, output: &Output) -> Result<Reader, Failure> {
    if matches!(response.message, Some(Message::Checkpoint(_))) && !with_checkpoints {
        return Ok(Reader::Present);
    }
    let Some(document) = json::watch_response(response) else {
        return Ok(Reader::Present);
    };
    if output.json {
        return stream_line(&document.to_string());
    }
    match response.message.as_ref() {
        Some(Message::Event(event) | Message::SnapshotItem(event)) => {
            let target = json::target(event).map_or_else(String::new, |(name, value)| {
                format!(
                    "{name} {}",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                )
            });
            let time = json::time(event.occurred_at.as_ref()).unwrap_or_default();
            stream_line(&format!(
                "{:>6}  {time}  {:<18} {target}  {}",
                event.sequence,
                json::kind(event),
                said(event)
            ))
        }
        Some(Message::SnapshotBegin(begin)) => {
            stream_line(&format!("live revocations up to {}:", begin.through_sequence))
        }
        Some(Message::SnapshotEnd(end)) => stream_line(&format!("{} in all; from now on:", end.items)),
        Some(Message::Checkpoint(checkpoint)) => {
            stream_line(&format!("{:>6}  checkpoint", checkpoint.through_sequence))
        }
        None => Ok(Reader::Present),
    }
}

/// The reason, or the lost scopes.
fn said(event: &RevocationEvent) -> Cow<'_, str> {
    if event.lost_scopes.is_empty() {
        visible(&event.reason)
    } else {
        format!("lost {}", event.lost_scopes.join(" ")).into()
    }
}

fn event_kind(name: &str) -> Result<i32, Failure> {
    let kind = EventKind::from_str_name(&format!("EVENT_KIND_{}", name.to_uppercase()));
    match kind {
        Some(kind) if kind != EventKind::Unspecified => Ok(kind.into()),
        _ => Err(Failure::cannot_run(format!(
            "`{name}` is not a kind of event, such as `session_revoked`"
        ))),
    }
}
