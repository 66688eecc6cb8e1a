//! Records of calls: requests that can be repeated, and the audit trail.

use std::{collections::BTreeMap, sync::Arc};

use tessera_core::{ClientName, RequestId};
use tessera_store::{
    AuditHead, AuditQuery, Changes, Decision, PurgeReport, Reads, RequestKey, RequestRecord, SettingChange,
    Snapshot,
};

use super::state::{Shared, put_audit, set, settings};
use crate::fixture::{at, audit_record, purge_before, realm, session, write};

pub async fn the_position_of_an_audit_sink_is_kept(store: &Shared) {
    assert_eq!(settings(store).await.audit_sinks, BTreeMap::new());
    for (name, position) in [("siem", 5), ("file", 7), ("siem", 9)] {
        set(store, SettingChange::AuditSink(name.to_owned(), position)).await;
    }
    let kept = [("siem".to_owned(), 9), ("file".to_owned(), 7)];
    assert_eq!(settings(store).await.audit_sinks, BTreeMap::from(kept));
}

fn request(number: u8, expires: i64) -> (RequestKey, RequestRecord) {
    let key = RequestKey {
        realm: realm("production"),
        client: ClientName::parse("client:cms").unwrap(),
        request: RequestId::from_bytes([number; 16]),
    };
    (
        key,
        RequestRecord {
            digest: [number; 32],
            session: session(1).id,
            expires_at: at(expires),
        },
    )
}

async fn put_request(store: &Shared, request: (RequestKey, RequestRecord)) {
    let changes = Changes {
        requests: vec![request],
        ..Changes::default()
    };
    write(store, changes).await;
}

async fn remembered(store: &Shared, key: &RequestKey) -> Option<RequestRecord> {
    let reads = Reads::default().request(key.clone());
    let state = store.read(reads.clone()).await.unwrap();
    let decide = |state: &Snapshot| Decision::Abort(state.request().cloned());
    let (decided, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(state.request(), decided.as_ref());
    decided
}

pub async fn requests_are_remembered_and_replaced(store: &Shared) {
    let (key, record) = request(1, 600);
    assert_eq!(remembered(store, &key).await, None);
    put_request(store, (key.clone(), record.clone())).await;
    assert_eq!(remembered(store, &key).await, Some(record.clone()));
    let other = RequestKey {
        client: ClientName::parse("client:app").unwrap(),
        ..key.clone()
    };
    assert_eq!(remembered(store, &other).await, None);
    let replaced = RequestRecord {
        digest: [9; 32],
        ..record
    };
    put_request(store, (key.clone(), replaced.clone())).await;
    assert_eq!(remembered(store, &key).await, Some(replaced));
}

pub async fn audit_records_are_in_the_commit_of_what_they_record(store: &Shared) {
    let one = session(1);
    write(
        store,
        Changes {
            sessions: vec![Arc::new(one.clone())],
            audit: (1..=3).map(|second| audit_record(second, one.id)).collect(),
            ..Changes::default()
        },
    )
    .await;
    let all = store.audit(0, 10).await.unwrap();
    assert_eq!(
        all,
        [1, 2, 3].map(|second| (second as u64, audit_record(second, one.id)))
    );
    assert_eq!(store.audit(1, 1).await.unwrap(), all[1..2]);
    assert!(store.audit(3, 10).await.unwrap().is_empty());
    assert!(store.audit(u64::MAX, 10).await.unwrap().is_empty());
}

pub async fn each_audit_record_is_linked_to_those_before_it(store: &Shared) {
    let mut head = store.log().audit_head();
    assert_eq!(*head.borrow(), AuditHead::EMPTY);
    for second in 1..=5 {
        put_audit(store, second).await;
        assert!(head.has_changed().unwrap(), "whoever waits is woken");
        head.mark_unchanged();
    }
    let page = store.audit_page(AuditQuery::after(0, 10)).await.unwrap();
    let mut expected = AuditHead::EMPTY;
    for entry in &page.entries {
        let (next, encoded) = expected.append(&entry.record).unwrap();
        assert_eq!(
            (entry.position, entry.previous, entry.link(), &entry.encoded),
            (next.position, expected.link, next.link, &encoded)
        );
        expected = next;
    }
    assert_eq!((*head.borrow(), page.through), (expected, 5));
}

pub async fn a_part_of_the_audit_trail_is_looked_at(store: &Shared) {
    // The clock is set back in between.
    for second in [10, 20, 30, 15, 40] {
        put_audit(store, second).await;
    }
    let all = AuditQuery::after(0, 100);
    let found = async |query: AuditQuery| {
        let page = store.audit_page(query).await.unwrap();
        let positions = page.entries.iter().map(|entry| entry.position);
        (positions.collect::<Vec<_>>(), page.through)
    };
    assert_eq!(
        found(AuditQuery {
            from: at(15),
            until: at(30),
            ..all
        })
        .await,
        (vec![2, 3, 4], 5)
    );
    assert_eq!(
        found(AuditQuery {
            after: 1,
            through: 3,
            ..all
        })
        .await,
        (vec![2, 3], 3)
    );
    assert_eq!(
        found(AuditQuery {
            limit: 2,
            from: at(20),
            ..all
        })
        .await,
        (vec![2], 2)
    );
    assert_eq!(
        found(AuditQuery {
            after: 2,
            limit: 0,
            ..all
        })
        .await,
        (vec![], 2)
    );
    assert_eq!(found(AuditQuery { after: 9, ..all }).await, (vec![], 5));
    assert_eq!(found(AuditQuery { from: at(41), ..all }).await, (vec![], 5));
}

pub async fn a_purge_removes_requests_and_audit_records(store: &Shared) {
    let (first, second) = (request(1, 100), request(2, 200));
    put_request(store, first.clone()).await;
    put_request(store, second.clone()).await;
    // With a new expiry time, it is kept until that.
    put_request(store, request(1, 150)).await;
    for second in [10, 20, 30] {
        put_audit(store, second).await;
    }
    let report = purge_before(store, at(120), at(20), 1000).await;
    assert_eq!(
        report,
        PurgeReport {
            records: 1,
            ..PurgeReport::default()
        }
    );
    assert!(remembered(store, &first.0).await.is_some());
    let report = purge_before(store, at(151), at(31), 1000).await;
    assert_eq!(
        report,
        PurgeReport {
            records: 3,
            ..PurgeReport::default()
        }
    );
    assert_eq!(remembered(store, &first.0).await, None);
    assert_eq!(remembered(store, &second.0).await, Some(second.1));
    assert!(store.audit(0, 10).await.unwrap().is_empty());
    put_audit(store, 40).await;
    assert_eq!(store.audit(0, 10).await.unwrap()[0].0, 4);
}
