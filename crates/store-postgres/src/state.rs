//! The state of the authority after the last group: the newest row of `commit_group`.

use tessera_core::{LogId, PolicyRevision, Sequence, Timestamp};
use tessera_store::{
    AuditHead, AuditLink, StoreError, Times,
    backend::{decode, encode},
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connect::Query;

/// What exists once, besides the rows of sessions, keys, events and records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of the group that wrote it.
    pub(crate) number: u64,
    /// The id of that group.
    pub(crate) id: Uuid,
    /// The last event of the log.
    pub(crate) last: Sequence,
    /// The last event that was removed.
    pub(crate) floor: Sequence,
    /// The last record of the audit trail.
    pub(crate) audit: AuditHead,
    /// The first record of the audit trail that is kept.
    pub(crate) audit_first: u64,
    /// Up to which time the store is purged.
    pub(crate) purged: Option<Timestamp>,
    /// The policy in force.
    pub(crate) policy: Option<PolicyRevision>,
    /// The stored times.
    pub(crate) times: Times,
}

/// The state that was read, and what shows whether it follows the state of a node.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) log: LogId,
    /// The id of the group with the requested number, if it is kept.
    pub(crate) known: Option<Uuid>,
    /// The last heartbeat of this node that the server has.
    pub(crate) beat: u64,
}

const READ: &str = "SELECT g.number, g.id, g.seq, g.floor, g.audit_position, g.audit_link, g.audit_first, g.purged, \
    g.policy, g.times, m.log_id, (SELECT k.id FROM commit_group k WHERE k.number = $1), \
    (SELECT n.beat FROM node n WHERE n.id = $2) \
    FROM commit_group g CROSS JOIN meta m ORDER BY g.number DESC LIMIT 1";

const INSERT: &str = "INSERT INTO commit_group \
    (number, id, node, seq, floor, audit_position, audit_link, audit_first, purged, policy, times) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

impl State {
    /// The state of an empty database.
    pub(crate) fn empty() -> Self {
        Self {
            number: 0,
            id: Uuid::nil(),
            last: Sequence(0),
            floor: Sequence(0),
            audit: AuditHead::EMPTY,
            audit_first: 1,
            purged: None,
            policy: None,
            times: Times::default(),
        }
    }

    /// Reads the newest state, the id of the group `known`, and the last heartbeat of `node`.
    pub(crate) fn read(known: u64, node: Uuid) -> Query {
        Query::new(READ).value(number(known)).value(node)
    }

    /// Writes it as a group of `node`.
    pub(crate) fn insert(&self, node: Uuid) -> Result<Query, StoreError> {
        Ok(Query::new(INSERT)
            .value(number(self.number))
            .value(self.id)
            .value(node)
            .value(number(self.last.0))
            .value(number(self.floor.0))
            .value(number(self.audit.position))
            .value(self.audit.link.0.to_vec())
            .value(number(self.audit_first))
            .value(self.purged.map(Timestamp::as_millis))
            .value(self.policy.map(|policy| policy.to_string()))
            .value(encode(&self.times)?))
    }
}

impl Found {
    pub(crate) fn of(rows: &[Row]) -> Result<Self, StoreError> {
        let [row] = rows else {
            return Err(damaged("`commit_group` or `meta` has no row"));
        };
        let link: Vec<u8> = get(row, 5)?;
        let link = <[u8; 32]>::try_from(link).map_err(|_| damaged("`audit_link` is not of 32 bytes"))?;
        let policy: Option<String> = get(row, 8)?;
        let policy = policy.map(|policy| PolicyRevision::parse(&policy)).transpose();
        let purged: Option<i64> = get(row, 7)?;
        let times: Vec<u8> = get(row, 9)?;
        let log: Uuid = get(row, 10)?;
        let beat: Option<i64> = get(row, 12)?;
        let state = State {
            number: unsigned(get(row, 0)?)?,
            id: get(row, 1)?,
            last: Sequence(unsigned(get(row, 2)?)?),
            floor: Sequence(unsigned(get(row, 3)?)?),
            audit: AuditHead {
                position: unsigned(get(row, 4)?)?,
                link: AuditLink(link),
            },
            audit_first: unsigned(get(row, 6)?)?,
            purged: purged.map(Timestamp::from_millis),
            policy: policy.map_err(|_| damaged("`policy` is no revision"))?,
            times: decode("the times", &times)?,
        };
        Ok(Self {
            state,
            log: LogId::from_bytes(*log.as_bytes()),
            known: get(row, 11)?,
            beat: unsigned(beat.unwrap_or_default())?,
        })
    }
}

/// A column, with its type in the schema.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Damaged {
        detail: format!("a column is not what the schema says: {error}"),
    })
}

/// Positions and numbers count up from 1, and never reach the maximum of a column.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| damaged("a number is negative"))
}

pub(crate) fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged {
        detail: detail.to_owned(),
    }
}
