//! The background tasks of a node: it follows what other nodes commit, proves that it is current, and makes partitions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_store::StoreError;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    beats::FRESH_FOR,
    connect::{Connection, all, silent},
    error::Failure,
    node::{Node, events_after, kept},
    partition,
    read::late,
    state::{Found, State},
    transaction::touch,
};

/// How often a node checks what others committed, if it gets no notification.
const POLL: Duration = Duration::from_millis(250);
/// How often a node commits something, so that it knows that its commits succeed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a node checks that there are partitions for the next rows.
const ROOM: Duration = Duration::from_secs(20);
/// Nodes that were not seen for longer than any of their subscribers may keep answering.
const FORGET: &str = "WITH gone AS (DELETE FROM node WHERE seen < clock_timestamp() - interval '1 day' RETURNING id) \
    DELETE FROM staleness_bound b USING gone WHERE b.node = gone.id";

/// A caller that waits until this node has applied everything that was committed at the time of the call.
pub(crate) type Looking = oneshot::Sender<Result<(), StoreError>>;

/// Follows the log until no caller is left. Only one read is in progress at a time: all callers that waited when it
/// began share it.
pub(crate) async fn follow(node: Arc<Node>, mut asked: mpsc::Receiver<Looking>) {
    let mut connection = None;
    let mut tick = interval(POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            looking = asked.recv() => match looking {
                Some(looking) => waiting.push(looking),
                None => return,
            },
            () = node.connector.notified.notified() => {}
            _ = tick.tick() => {}
        }
        while let Ok(looking) = asked.try_recv() {
            waiting.push(looking);
        }
        // Callers are told in time that the state is unknown.
        let looking = timeout(FRESH_FOR, look(&node, &mut connection)).await;
        let looked = looking.unwrap_or_else(|_| Err(late(FRESH_FOR)));
        if let Err(error) = &looked {
            connection = None;
            tracing::debug!(%error, "the log can't be followed");
        }
        for looking in waiting {
            let _ = looking.send(looked.clone());
        }
    }
}

async fn look(node: &Node, connection: &mut Option<Connection>) -> Result<(), StoreError> {
    node.ensure_open()?;
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(listening(node).await?),
    };
    let before = node.before();
    let trip = vec![
        State::read(before.state.number, node.id),
        events_after(before.state.last.0),
    ];
    let answers = all(&connection.client, trip).await?;
    let [state, events] = answers.as_slice() else {
        return Ok(());
    };
    // The events may be newer than the state: later events come with the next read.
    let found = Found::of(state)?;
    let mut events = kept(events)?;
    events.retain(|kept| kept.event.sequence <= found.state.last);
    node.apply(&before, &found, events)?;
    node.ensure_primary(found.beat)?;
    if node.has_unshown_events() {
        // Another node committed them. Only a commit after them shows whether a standby has them.
        heartbeat(node, connection).await?;
    }
    Ok(())
}

/// A connection on which other nodes notify this one of events. If it can't listen, as behind a pooler, frequent
/// polling is enough.
async fn listening(node: &Node) -> Result<Connection, Failure> {
    let connection = node.connector.open().await?;
    let listen = format!("LISTEN {}", node.channel());
    if let Err(error) = connection.client.batch_execute(&listen).await {
        tracing::warn!(%error, "other nodes can't wake this one: it looks every 250 ms");
    }
    Ok(connection)
}

/// Commits a row of this node each second in which it has committed nothing else, until the store is closed.
pub(crate) async fn beat(node: Arc<Node>) {
    let mut connection = None;
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if node.ensure_open().is_err() {
            return;
        }
        // The longest time in which a commit is still useful: a new connection may find another primary.
        let beaten = timeout(FRESH_FOR, beat_once(&node, &mut connection)).await;
        let failure = match beaten {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Away("a heartbeat was not committed in time".to_owned()),
        };
        connection = None;
        // This server may no longer be the primary.
        node.connector.try_another();
        tracing::warn!(%failure, "the database does not commit");
    }
}

async fn beat_once(node: &Node, connection: &mut Option<Connection>) -> Result<(), Failure> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(node.connector.open().await?),
    };
    heartbeat(node, connection).await
}

/// Reports that this node is running, and notes that a commit which began now succeeded.
pub(crate) async fn heartbeat(node: &Node, connection: &Connection) -> Result<(), Failure> {
    connection.take_warning();
    let began = Instant::now();
    if node.beats.are_forgotten(began) {
        return Err(node.was_away().into());
    }
    let state = node.state();
    let beat = node.next_beat();
    let touch = touch(node, state.last, beat);
    all(&connection.client, vec![touch]).await?;
    if connection.take_warning() {
        return Err(Failure::Away("a heartbeat may be on no standby".to_owned()));
    }
    // Commits are replicated in order.
    node.note_durable(state.number);
    node.beats.note(beat, began);
    Ok(())
}

/// Makes partitions before they are needed, and forgets nodes that are gone, until the store is closed.
pub(crate) async fn make_room(node: Arc<Node>) {
    let mut tick = interval(ROOM);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if node.ensure_open().is_err() {
            return;
        }
        // A frozen server must not block this: another server may be the primary by then.
        let made = timeout(ROOM, room(&node)).await;
        if let Err(error) = made.unwrap_or_else(|_| Err(silent(ROOM).into())) {
            tracing::warn!(%error, "no partition was made in advance; a group that needs one makes it");
        }
    }
}

async fn room(node: &Node) -> Result<(), StoreError> {
    let connection = node.connector.open().await?;
    let state = node.state();
    for (table, last) in [
        (partition::COMMIT_GROUP, state.number),
        (partition::AUDIT, state.audit.position),
    ] {
        let through = partition::make_room(&connection.client, table, last).await?;
        node.room.note(table, through);
    }
    let forgotten = connection.client.batch_execute(FORGET).await;
    Ok(forgotten.map_err(Failure::from)?)
}
