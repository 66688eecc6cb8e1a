use sled::Db;
use tessera_core::LogId;
use tessera_store::{Log, RequestKey, RequestRecord, SessionIndex, Times, backend::LogStart};
use tessera_store_conformance::fixture::{at, audit_record, realm, rotated, session, with_subject};

use super::*;
use crate::{api_keys::ApiKeys, lists, rows::Meta, state::State};

const CALLS: u32 = 200;

fn state() -> State {
    State {
        meta: Meta::new(LogId::from_bytes([1; 16])),
        times: Times::default(),
        policy: None,
    }
}

/// Commits these changes as one group, and returns the table of each row that it wrote, and the state after it.
fn commit(db: &Db, state: State, changes: impl IntoIterator<Item = Changes>) -> (Vec<u8>, State) {
    let log = Log::new(LogStart::empty(LogId::from_bytes([1; 16])));
    let api_keys = ApiKeys::default();
    let number = state.meta.group + 1;
    let mut group = Group::new(db, &log, &api_keys, state);
    for changes in changes {
        group.apply(changes).unwrap();
    }
    let finished = group.finish(number).unwrap();
    let tables = finished.rows.keys().map(|key| key[0]).collect();
    finished.rows.apply_to(db);
    (tables, finished.state)
}

fn issue(number: u32) -> Changes {
    let session = with_subject(number, &format!("user:{number}"));
    Changes {
        audit: vec![audit_record(7, session.id)],
        sessions: vec![Arc::new(session)],
        ..Changes::default()
    }
}

fn database() -> Db {
    sled::Config::new().temporary(true).open().unwrap()
}

#[test]
fn a_group_of_issues_writes_two_rows_each_and_few_beside() {
    let db = database();
    let (tables, _) = commit(&db, state(), (0..CALLS).map(issue));
    let of = |table: rows::Table| tables.iter().filter(|byte| **byte == table as u8).count();
    assert_eq!(of(rows::Table::Session), 200);
    assert_eq!(of(rows::Table::SessionBySubject), 200);
    let rest = tables.len() - 400;
    // Sessions of the fixture expire a second apart.
    let expiry = of(rows::Table::SessionExpiry);
    assert!(rest - expiry < 40, "{} rows beside", rest - expiry);
    for index in [
        SessionIndex::Realm(realm("production")),
        SessionIndex::Client(realm("production"), session(1).client),
    ] {
        let listed = lists::ids_after(&db, &rows::list_of(&index), None);
        let expected: Vec<_> = (0..CALLS).map(|number| session(number).id).collect();
        assert_eq!(listed.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    }
}

#[test]
fn a_group_of_refreshes_writes_a_row_each_and_few_beside() {
    let db = database();
    let (_, state) = commit(&db, state(), (0..CALLS).map(issue));
    let refreshes = (0..CALLS).map(|number| {
        let session = rotated(&with_subject(number, &format!("user:{number}")), at(400));
        Changes {
            audit: vec![audit_record(400, session.id)],
            sessions: vec![Arc::new(session)],
            ..Changes::default()
        }
    });
    let (tables, _) = commit(&db, state, refreshes);
    assert!(tables.len() < 220, "{} rows", tables.len());
}

#[test]
fn what_expires_in_one_second_is_one_row() {
    let db = database();
    let together = (0..CALLS).map(|number| {
        let session = Session {
            idle_until: at(100).plus_millis(i64::from(number)),
            ..session(number)
        };
        Changes {
            sessions: vec![Arc::new(session)],
            ..Changes::default()
        }
    });
    let (tables, _) = commit(&db, state(), together);
    let expiry = tables
        .iter()
        .filter(|byte| **byte == rows::Table::SessionExpiry as u8);
    // 200 ids are 200 ms apart.
    assert_eq!(expiry.count(), 4);
}

#[test]
fn requests_that_expire_in_one_second_are_few_rows() {
    let db = database();
    let requests = (0..CALLS).map(|number| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let key = RequestKey {
            realm: realm("production"),
            client: session(1).client,
            request: tessera_core::RequestId::from_bytes(id),
        };
        let record = RequestRecord {
            digest: [1; 32],
            session: session(number).id,
            expires_at: at(600).plus_millis(i64::from(number)),
        };
        Changes {
            requests: vec![(key, record)],
            ..Changes::default()
        }
    });
    let (tables, _) = commit(&db, state(), requests);
    let of = |table: rows::Table| tables.iter().filter(|byte| **byte == table as u8).count();
    assert_eq!(
        (of(rows::Table::Request), of(rows::Table::RequestExpiry)),
        (200, 2)
    );
}
