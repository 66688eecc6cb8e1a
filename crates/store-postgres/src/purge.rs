//! Removing expired data, in steps short enough that writers hardly wait for them.

use std::collections::BTreeMap;

use tessera_core::{Seconds, Sequence, Timestamp};
use tessera_store::{
    PurgeBefore, PurgeReport, StoreError,
    backend::{FAR, LEFT_MAX},
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connect::{Connection, Query, all, pipeline},
    node::Node,
    partition,
    schema::random_id,
    state::{State, get, number, unsigned},
    statements::{UNCOUNT, UNLABEL, day_of},
    transaction::{COMMIT, Outcome, opened, opening, outcome},
};

/// How many rows one step removes at most.
const STEP: usize = 500;
/// How many groups are kept: a node that was frozen for that long can still find out what it missed.
const GROUPS_KEPT: u64 = 1_000_000;

const SESSIONS: &str = "SELECT id, realm, client FROM session \
    WHERE removable_day <= $1 AND removable_at < $2 ORDER BY removable_day LIMIT $3";
const EVENTS: &str = "SELECT seq, relevant_until FROM event ORDER BY seq LIMIT $1";
const REQUESTS: &str =
    "SELECT realm, client, id FROM request WHERE expires_at < $1 ORDER BY expires_at LIMIT $2";
const AUDIT: &str = "SELECT position, at FROM audit WHERE position >= (SELECT audit_first FROM commit_group \
    ORDER BY number DESC LIMIT 1) ORDER BY position LIMIT $1";
const POLICIES: &str = "SELECT revision FROM policy WHERE replaced_at < $1 ORDER BY revision LIMIT $2";

const REMOVE_SESSIONS: &str = "DELETE FROM session WHERE id = ANY($1)";
const REMOVE_EVENTS: &str = "DELETE FROM event WHERE seq = ANY($1)";
const REMOVE_CUTOFFS: &str = "DELETE FROM cutoff WHERE until < $1";
const REMOVE_REQUESTS: &str = "DELETE FROM request r USING unnest($1::text[], $2::text[], $3::uuid[]) \
    AS n (realm, client, id) WHERE r.realm = n.realm AND r.client = n.client AND r.id = n.id";
const REMOVE_POLICIES: &str = "DELETE FROM policy WHERE revision = ANY($1)";
const REMOVE_AUDIT: &str = "DELETE FROM audit WHERE position >= $1 AND position < $2";

/// Removes up to `limit` rows, on a separate connection: a caller that gives up rolls its transaction back.
pub(crate) async fn purge(node: &Node, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
    node.ensure_open()?;
    let connection = node.connector.open().await?;
    let mut total = PurgeReport::default();
    let mut left = limit;
    loop {
        let step = step(node, &connection, before, left.min(STEP)).await?;
        total.sessions += step.sessions;
        total.events += step.events;
        total.records += step.records;
        total.more = step.more;
        left = left.saturating_sub(STEP);
        if !step.more || left == 0 {
            break;
        }
    }
    node.forget_expired(before.horizon);
    let state = node.state();
    let old = [
        (partition::AUDIT, state.audit_first),
        (partition::COMMIT_GROUP, state.number.saturating_sub(GROUPS_KEPT)),
    ];
    for (table, first) in old {
        // A reader uses it: the next purge comes soon.
        if let Err(failure) = partition::drop_before(&connection.client, table, first).await {
            tracing::debug!(%failure, "an old partition is still there");
        }
    }
    Ok(total)
}

/// What one step removes.
#[derive(Default)]
struct Dead {
    sessions: Vec<(Uuid, String, String)>,
    events: Vec<i64>,
    requests: Vec<(String, String, Uuid)>,
    /// The first record that stays.
    audit_first: Option<u64>,
    policies: Vec<String>,
    report: PurgeReport,
}

async fn step(
    node: &Node,
    connection: &Connection,
    before: PurgeBefore,
    limit: usize,
) -> Result<PurgeReport, StoreError> {
    connection.take_warning();
    let known = node.before();
    let mut trip = opening(node, &known.state);
    trip.extend(candidates(before, limit));
    let (found, events, rows) = opened(all(&connection.client, trip).await?)?;
    node.apply(&known, &found, events)?;
    let dead = Dead::among(&rows, before, limit)?;
    let report = dead.report;
    let mut state = found.state;
    let old_first = state.audit_first;
    if !dead.advance(&mut state, before.horizon) {
        all(&connection.client, vec![Query::new(COMMIT)]).await?;
        return Ok(report);
    }
    state.number = state.number.saturating_add(1);
    state.id = random_id()?;
    let mut trip = dead.removals(&state, old_first, before.horizon);
    trip.push(state.insert(node.id)?);
    trip.push(Query::new(COMMIT));
    let results = pipeline(&connection.client, trip).await?;
    match outcome(results, connection.take_warning()) {
        Outcome::Committed => {
            node.note_durable(state.number);
            node.apply_own(&state, Vec::new())?;
            Ok(report)
        }
        Outcome::RolledBack(failure) | Outcome::InDoubt(failure) => Err(failure.into()),
    }
}

/// The statements that find expired rows: for each kind, one more than may be removed.
fn candidates(before: PurgeBefore, limit: usize) -> Vec<Query> {
    let horizon = before.horizon.as_millis();
    let some = number(limit.saturating_add(1) as u64);
    let left = number(LEFT_MAX as u64);
    vec![
        Query::new(SESSIONS)
            .value(day_of(horizon))
            .value(horizon)
            .value(some),
        Query::new(EVENTS).value(some.saturating_add(left)),
        Query::new(REQUESTS).value(horizon).value(some),
        Query::new(AUDIT).value(some),
        Query::new(POLICIES).value(before.audit.as_millis()).value(some),
    ]
}

impl Dead {
    fn among(rows: &[Vec<Row>], before: PurgeBefore, limit: usize) -> Result<Self, StoreError> {
        let [sessions, events, requests, audit, policies] = rows else {
            return Err(crate::state::damaged(
                "a purge was answered otherwise than it asked",
            ));
        };
        let mut dead = Self::default();
        let mut budget = Budget {
            left: limit,
            more: false,
        };
        for row in sessions.iter().take_while(|_| budget.take()) {
            dead.sessions.push((get(row, 0)?, get(row, 1)?, get(row, 2)?));
        }
        dead.take_events(events, before.horizon, &mut budget)?;
        for row in requests.iter().take_while(|_| budget.take()) {
            dead.requests.push((get(row, 0)?, get(row, 1)?, get(row, 2)?));
        }
        let mut records = 0;
        for row in audit {
            if get::<i64>(row, 1)? >= before.audit.as_millis() || !budget.take() {
                break;
            }
            dead.audit_first = Some(unsigned(get(row, 0)?)?.saturating_add(1));
            records += 1;
        }
        for row in policies.iter().take_while(|_| budget.take()) {
            dead.policies.push(get(row, 0)?);
        }
        dead.report = PurgeReport {
            sessions: dead.sessions.len(),
            events: dead.events.len(),
            records: records + dead.requests.len() + dead.policies.len(),
            more: budget.more,
        };
        Ok(dead)
    }

    /// Takes only the oldest events, so that the rest has no gap. An event that matters for days to come does not block
    /// those after it.
    fn take_events(
        &mut self,
        rows: &[Row],
        horizon: Timestamp,
        budget: &mut Budget,
    ) -> Result<(), StoreError> {
        let mut left_behind = 0;
        for row in rows {
            let relevant_until = Timestamp::from_millis(get(row, 1)?);
            if relevant_until >= horizon.plus(FAR) && left_behind < LEFT_MAX {
                left_behind += 1;
                continue;
            }
            if relevant_until >= horizon || !budget.take() {
                break;
            }
            self.events.push(get(row, 0)?);
        }
        Ok(())
    }

    /// Notes in the state what is removed, and up to which time the store is purged: with each removal, and once an
    /// hour if nothing was removed. Returns whether there is anything to write.
    fn advance(&self, state: &mut State, horizon: Timestamp) -> bool {
        let horizon = horizon.max(state.purged.unwrap_or(Timestamp::EPOCH));
        let is_far = state
            .purged
            .is_none_or(|purged| horizon >= purged.plus(Seconds::HOUR));
        let has_removed = self.report.sessions + self.report.events + self.report.records > 0;
        if !is_far && !has_removed {
            return false;
        }
        state.purged = Some(horizon);
        if let Some(last) = self.events.last() {
            let last = Sequence(u64::try_from(*last).unwrap_or_default());
            state.floor = state.floor.max(last);
        }
        state.audit_first = state.audit_first.max(self.audit_first.unwrap_or_default());
        true
    }

    fn removals(self, state: &State, old_first: u64, horizon: Timestamp) -> Vec<Query> {
        let mut trip = vec![Query::new(REMOVE_CUTOFFS).value(horizon.as_millis())];
        if !self.sessions.is_empty() {
            let ids: Vec<_> = self.sessions.iter().map(|(id, ..)| *id).collect();
            let mut counts = BTreeMap::<_, i64>::new();
            for (_, realm, client) in self.sessions {
                *counts.entry((realm, client)).or_default() += 1;
            }
            let (owners, fewer): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
            let (realms, clients): (Vec<_>, Vec<_>) = owners.into_iter().unzip();
            trip.push(Query::new(UNLABEL).value(ids.clone()));
            trip.push(Query::new(REMOVE_SESSIONS).value(ids));
            trip.push(Query::new(UNCOUNT).value(realms).value(clients).value(fewer));
        }
        if !self.events.is_empty() {
            trip.push(Query::new(REMOVE_EVENTS).value(self.events));
        }
        if !self.requests.is_empty() {
            let (mut realms, mut clients, mut ids) = (Vec::new(), Vec::new(), Vec::new());
            for (realm, client, id) in self.requests {
                realms.push(realm);
                clients.push(client);
                ids.push(id);
            }
            trip.push(
                Query::new(REMOVE_REQUESTS)
                    .value(realms)
                    .value(clients)
                    .value(ids),
            );
        }
        if !self.policies.is_empty() {
            trip.push(Query::new(REMOVE_POLICIES).value(self.policies));
        }
        // Records of older partitions are dropped with them; the partition that is written to is never dropped.
        let from = old_first.max(partition::AUDIT.begin_of(state.audit.position));
        if from < state.audit_first {
            let remove = Query::new(REMOVE_AUDIT).value(number(from));
            trip.push(remove.value(number(state.audit_first)));
        }
        trip
    }
}

/// How many rows may still be removed.
struct Budget {
    left: usize,
    /// Whether the limit ended the purge.
    more: bool,
}

impl Budget {
    fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.more = true;
                false
            }
        }
    }
}
