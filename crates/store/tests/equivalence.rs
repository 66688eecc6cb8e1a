//! Whatever happens to the store in memory and to the one on disk, they answer the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod fixture;

use std::{path::Path, sync::Arc};

use fixture::{at, audit_record, event, realm, session, session_revoked, subject_revoked, with_subject};
use proptest::prelude::*;
use tempfile::TempDir;
use tessera_core::{
    ClientName, EventBody, Label, RequestId, RevokeReason, Seconds, Sequence, Session, Subject,
};
use tessera_store::{
    MemoryStore, PageRequest, RequestKey, RequestRecord, SessionIndex, SledOptions, SledStore, Store,
    StoreError, StoreExt, Transaction,
};

type Shared = Arc<dyn Store>;

#[derive(Clone, Copy, Debug)]
enum Act {
    Begin {
        session: u32,
        subject: u8,
    },
    Refresh {
        session: u32,
        second: i64,
    },
    Revoke {
        session: u32,
        second: i64,
    },
    Rename {
        session: u32,
        subject: u8,
    },
    EndSubject {
        subject: u8,
        until: i64,
        sessions_until: i64,
    },
    EndLabel {
        until: i64,
        sessions_until: i64,
    },
    EndSession {
        session: u32,
        until: i64,
    },
    Request {
        number: u8,
        until: i64,
    },
    Audit {
        second: i64,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Job { acts: Vec<Act>, fails: bool },
    Purge { horizon: i64, audit_before: i64 },
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let (session, subject, second) = (1..12_u32, 0..4_u8, 0..400_i64);
    prop_oneof![
        3 => (session.clone(), subject.clone()).prop_map(|(session, subject)| Act::Begin { session, subject }),
        3 => (session.clone(), second.clone()).prop_map(|(session, second)| Act::Refresh { session, second }),
        1 => (session.clone(), second.clone()).prop_map(|(session, second)| Act::Revoke { session, second }),
        1 => (session.clone(), subject.clone()).prop_map(|(session, subject)| Act::Rename { session, subject }),
        1 => (subject, second.clone(), second.clone())
            .prop_map(|(subject, until, more)| Act::EndSubject { subject, until, sessions_until: until + more }),
        1 => (second.clone(), second.clone())
            .prop_map(|(until, more)| Act::EndLabel { until, sessions_until: until + more }),
        1 => (session, second.clone()).prop_map(|(session, until)| Act::EndSession { session, until }),
        1 => (0..5_u8, second.clone()).prop_map(|(number, until)| Act::Request { number, until }),
        1 => second.prop_map(|second| Act::Audit { second }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(act(), 0..6), prop::bool::weighted(0.2))
            .prop_map(|(acts, fails)| Step::Job { acts, fails }),
        2 => (0..500_i64, 0..500_i64).prop_map(|(horizon, audit_before)| Step::Purge { horizon, audit_before }),
        1 => Just(Step::Reopen),
    ]
}

fn subject(number: u8) -> String {
    format!("user:{}", "a".repeat(1 + usize::from(number)))
}

fn request(number: u8, until: i64) -> (RequestKey, RequestRecord) {
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
            expires_at: at(until),
        },
    )
}

/// Does it, and answers what a caller would see of it.
fn perform(transaction: &mut dyn Transaction, act: Act) -> Result<String, StoreError> {
    match act {
        Act::Begin {
            session,
            subject: name,
        } => {
            let rev = transaction.last_sequence();
            transaction.put_session(&Session {
                rev,
                ..with_subject(session, &subject(name))
            })?;
        }
        Act::Refresh { session: number, .. }
        | Act::Revoke { session: number, .. }
        | Act::Rename { session: number, .. } => {
            let Some(old) = transaction.session(session(number).id)? else {
                return Ok("unknown".to_owned());
            };
            let revoked = transaction.revokes_session(&old);
            if revoked.is_none() {
                transaction.put_session(&changed(old, act))?;
            }
            return Ok(format!("{revoked:?}"));
        }
        Act::EndSubject {
            subject: name,
            until,
            sessions_until,
        } => {
            transaction.append(subject_revoked(&subject(name), until, sessions_until))?;
        }
        Act::EndLabel {
            until,
            sessions_until,
        } => {
            let label = Label::parse("device:7").unwrap();
            transaction.append(event(until, sessions_until, EventBody::LabelRevoked { label }))?;
        }
        Act::EndSession {
            session: number,
            until,
        } => {
            transaction.append(session_revoked(&session(number), until))?;
        }
        Act::Request { number, until } => {
            let (key, record) = request(number, until);
            let before = transaction.request(&key)?;
            transaction.put_request(&key, &record)?;
            return Ok(format!("{before:?}"));
        }
        Act::Audit { second } => transaction.audit(&audit_record(second, session(1).id))?,
    }
    Ok(format!("{:?}", transaction.last_sequence()))
}

fn changed(old: Session, act: Act) -> Session {
    match act {
        // Also backwards: a session may die earlier than it seemed.
        Act::Refresh { second, .. } => Session {
            idle_until: at(second).plus(Seconds(5)),
            ..old
        },
        Act::Revoke { second, .. } => old.revoked(RevokeReason::Requested, at(second)),
        Act::Rename { subject: name, .. } => Session {
            subject: Subject::parse(&subject(name)).unwrap(),
            labels: vec![Label::parse(&subject(name)).unwrap()],
            ..old
        },
        other => panic!("{other:?} changes no session"),
    }
}

async fn job(store: &Shared, acts: Vec<Act>, fails: bool) -> String {
    let result = store
        .transact(move |transaction| {
            let mut seen = Vec::new();
            for act in &acts {
                seen.push(perform(transaction, *act)?);
            }
            if fails {
                Err(StoreError::EventsForgotten)
            } else {
                Ok(seen)
            }
        })
        .await;
    format!("{result:?}")
}

/// Everything that can be asked, as text.
async fn answers(store: &Shared) -> String {
    let mut answers = vec![format!("{:?}", *store.committed().borrow())];
    let realm = || realm("production");
    let mut indexes = vec![
        SessionIndex::Realm(realm()),
        SessionIndex::ApiKey(realm(), fixture::api_key_id(1)),
    ];
    for number in 0..4 {
        indexes.push(SessionIndex::Subject(
            realm(),
            Subject::parse(&subject(number)).unwrap(),
        ));
        indexes.push(SessionIndex::Label(
            realm(),
            Label::parse(&subject(number)).unwrap(),
        ));
    }
    for index in indexes {
        let page = store
            .sessions(
                index,
                PageRequest {
                    after: None,
                    limit: 5,
                },
            )
            .await
            .unwrap();
        let revocations = store.revocations().read().unwrap();
        let revoked: Vec<_> = page
            .items
            .iter()
            .map(|session| revocations.revokes_session(session))
            .collect();
        answers.push(format!("{page:?} {revoked:?}"));
    }
    for after in 0..=store.committed().borrow().0 {
        answers.push(format!("{:?}", store.events_after(Sequence(after), 4).await));
    }
    answers.push(format!("{:?}", store.audit_after(0, 100).await));
    for number in 0..5 {
        let (key, _) = request(number, 0);
        let found = store.transact(move |transaction| transaction.request(&key)).await;
        answers.push(format!("{found:?}"));
    }
    answers.join("\n")
}

fn open(path: &Path) -> Shared {
    Arc::new(
        SledStore::open(
            path,
            SledOptions {
                cache_capacity_bytes: 1 << 20,
                ..SledOptions::default()
            },
        )
        .unwrap(),
    )
}

async fn compare(steps: Vec<Step>) {
    let directory = TempDir::new().unwrap();
    let memory: Shared = Arc::new(MemoryStore::new());
    let mut sled = open(directory.path());
    for step in steps {
        match step {
            Step::Job { acts, fails } => {
                assert_eq!(
                    job(&memory, acts.clone(), fails).await,
                    job(&sled, acts, fails).await
                );
            }
            Step::Purge {
                horizon,
                audit_before,
            } => {
                let purge = (at(horizon), at(audit_before), 10_000);
                let expected = memory.purge(purge.0, purge.1, purge.2).await.unwrap();
                assert_eq!(expected, sled.purge(purge.0, purge.1, purge.2).await.unwrap());
            }
            Step::Reopen => {
                sled.close().await.unwrap();
                drop(sled);
                sled = open(directory.path());
            }
        }
        assert_eq!(answers(&memory).await, answers(&sled).await);
    }
    sled.close().await.unwrap();
}

fn check(steps: Vec<Step>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(compare(steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_backends_answer_the_same(steps in prop::collection::vec(step(), 1..25)) {
        check(steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "long"]
    fn both_backends_answer_the_same_in_1000_cases(steps in prop::collection::vec(step(), 1..40)) {
        check(steps);
    }
}
