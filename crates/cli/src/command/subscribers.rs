//! `tessera subscribers …`.

use serde_json::{Value, json};
use tessera_proto::v1::{EvictSubscriberRequest, ListSubscribersRequest, Subscriber};

use crate::{
    arguments::{Connection, Output, Subscribers},
    failure::Failure,
    output::columns,
    terminal::visible,
};

pub(crate) async fn run(
    command: Subscribers,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let mut client = connection.revocations().await?;
    match command {
        Subscribers::List => {
            let listed = client.list_subscribers(ListSubscribersRequest {}).await?;
            let listed = listed.into_inner().subscribers;
            let document = json!({ "subscribers": listed.iter().map(described).collect::<Vec<_>>() });
            output.print(&document, || table(&listed))
        }
        Subscribers::Evict {
            client: of,
            name,
            consent,
        } => {
            let of = of.strip_prefix("client:").unwrap_or(&of).to_owned();
            consent.ask(&format!(
                "This disconnects `{}` of client:{}. It can't reconnect as a required verifier for ten \
                 minutes: revocations do not wait for it.",
                visible(&name),
                visible(&of)
            ))?;
            let request = EvictSubscriberRequest { client: of, name };
            let streams = client.evict_subscriber(request).await?.into_inner().streams;
            output.print(&json!({ "streams": streams }), || {
                format!("evicted; streams that were open: {streams}")
            })
        }
    }
}

fn described(subscriber: &Subscriber) -> Value {
    json!({
        "client": subscriber.client,
        "name": subscriber.name,
        "events_behind": subscriber.events_behind,
        "silent_for_seconds": seconds(subscriber.silent_for.as_ref()),
        "staleness_bound_seconds": seconds(subscriber.staleness_bound.as_ref()),
        "connected": subscriber.connected,
        "failed_closed": subscriber.failed_closed,
        "node": subscriber.node,
    })
}

fn table(subscribers: &[Subscriber]) -> String {
    if subscribers.is_empty() {
        return "no required subscribers".to_owned();
    }
    if subscribers.iter().all(|subscriber| subscriber.node.is_empty()) {
        let rows: Vec<_> = subscribers.iter().map(row).collect();
        return columns(["CLIENT", "NAME", "BEHIND", "SILENT", "BOUND", "STATE"], &rows);
    }
    let rows = subscribers.iter().map(|subscriber| {
        let [client, name, behind, silent, bound, state] = row(subscriber);
        [
            client,
            name,
            visible(&subscriber.node).into_owned(),
            behind,
            silent,
            bound,
            state,
        ]
    });
    let rows: Vec<_> = rows.collect();
    columns(
        ["CLIENT", "NAME", "NODE", "BEHIND", "SILENT", "BOUND", "STATE"],
        &rows,
    )
}

fn row(subscriber: &Subscriber) -> [String; 6] {
    let state = match (subscriber.connected, subscriber.failed_closed) {
        (true, false) => "connected",
        (true, true) => "connected, refuses by itself",
        (false, false) => "gone, waited for",
        (false, true) => "gone, refuses by itself",
    };
    [
        subscriber.client.clone(),
        subscriber.name.clone(),
        subscriber.events_behind.to_string(),
        format!("{:.1}s", seconds(subscriber.silent_for.as_ref())),
        format!("{:.1}s", seconds(subscriber.staleness_bound.as_ref())),
        state.to_owned(),
    ]
}

fn seconds(length: Option<&prost_types::Duration>) -> f64 {
    let length = length.copied().unwrap_or_default();
    std::time::Duration::try_from(length).map_or(0.0, |length| length.as_secs_f64())
}
