//! `tessera subscribers …`.

use serde_json::{Value, json};
use tessera_proto::v1::{EvictSubscriberRequest, ListSubscribersRequest, Subscriber};

use crate::{
    arguments::{Connection, Output, Subscribers},
    failure::Failure,
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
        Subscribers::Evict { client: of, name } => {
            let of = of.strip_prefix("client:").unwrap_or(&of).to_owned();
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
    })
}

fn table(subscribers: &[Subscriber]) -> String {
    if subscribers.is_empty() {
        return "no required subscribers".to_owned();
    }
    let mut text = format!(
        "{:<24} {:<24} {:>8} {:>8} {:>8}  STATE",
        "CLIENT", "NAME", "BEHIND", "SILENT", "BOUND"
    );
    for subscriber in subscribers {
        let state = match (subscriber.connected, subscriber.failed_closed) {
            (true, false) => "connected",
            (true, true) => "connected, refuses by itself",
            (false, false) => "gone, waited for",
            (false, true) => "gone, refuses by itself",
        };
        text += &format!(
            "\n{:<24} {:<24} {:>8} {:>7.1}s {:>7.1}s  {state}",
            subscriber.client,
            subscriber.name,
            subscriber.events_behind,
            seconds(subscriber.silent_for.as_ref()),
            seconds(subscriber.staleness_bound.as_ref()),
        );
    }
    text
}

fn seconds(length: Option<&prost_types::Duration>) -> f64 {
    let length = length.copied().unwrap_or_default();
    std::time::Duration::try_from(length).map_or(0.0, |length| length.as_secs_f64())
}
