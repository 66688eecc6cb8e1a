//! Whatever happens to the store in memory and to the one on disk, they answer the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod fixture;

use std::{path::Path, sync::Arc};

use fixture::{at, audit_record, event, family, realm, session_revoked, subject_revoked, with_subject};
use proptest::prelude::*;
use tempfile::TempDir;
use tessera_core::{
    Binding, ClientName, EventBody, Family, RequestId, RevokeReason, Seconds, Sequence, Subject,
};
use tessera_store::{
    FamilyIndex, MemoryStore, PageRequest, RequestKey, RequestRecord, SledOptions, SledStore, Store,
    StoreError, StoreExt, Transaction,
};

type Shared = Arc<dyn Store>;

#[derive(Clone, Copy, Debug)]
enum Act {
    Begin {
        family: u32,
        subject: u8,
    },
    Refresh {
        family: u32,
        second: i64,
    },
    Revoke {
        family: u32,
        second: i64,
    },
    Rename {
        family: u32,
        subject: u8,
    },
    EndSubject {
        subject: u8,
        until: i64,
        families_until: i64,
    },
    EndBinding {
        until: i64,
        families_until: i64,
    },
    EndSession {
        family: u32,
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
    Sweep { horizon: i64, audit_before: i64 },
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let (family, subject, second) = (1..12_u32, 0..4_u8, 0..400_i64);
    prop_oneof![
        3 => (family.clone(), subject.clone()).prop_map(|(family, subject)| Act::Begin { family, subject }),
        3 => (family.clone(), second.clone()).prop_map(|(family, second)| Act::Refresh { family, second }),
        1 => (family.clone(), second.clone()).prop_map(|(family, second)| Act::Revoke { family, second }),
        1 => (family.clone(), subject.clone()).prop_map(|(family, subject)| Act::Rename { family, subject }),
        1 => (subject, second.clone(), second.clone())
            .prop_map(|(subject, until, more)| Act::EndSubject { subject, until, families_until: until + more }),
        1 => (second.clone(), second.clone())
            .prop_map(|(until, more)| Act::EndBinding { until, families_until: until + more }),
        1 => (family, second.clone()).prop_map(|(family, until)| Act::EndSession { family, until }),
        1 => (0..5_u8, second.clone()).prop_map(|(number, until)| Act::Request { number, until }),
        1 => second.prop_map(|second| Act::Audit { second }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(act(), 0..6), prop::bool::weighted(0.2))
            .prop_map(|(acts, fails)| Step::Job { acts, fails }),
        2 => (0..500_i64, 0..500_i64).prop_map(|(horizon, audit_before)| Step::Sweep { horizon, audit_before }),
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
            family: family(1).id,
            expires_at: at(until),
        },
    )
}

/// Does it, and answers what a caller would see of it.
fn perform(transaction: &mut dyn Transaction, act: Act) -> Result<String, StoreError> {
    match act {
        Act::Begin {
            family,
            subject: name,
        } => {
            let rev = transaction.last_sequence();
            transaction.put_family(&Family {
                rev,
                ..with_subject(family, &subject(name))
            })?;
        }
        Act::Refresh { family: number, .. }
        | Act::Revoke { family: number, .. }
        | Act::Rename { family: number, .. } => {
            let Some(old) = transaction.family(family(number).id)? else {
                return Ok("unknown".to_owned());
            };
            let revoked = transaction.revokes_family(&old);
            if revoked.is_none() {
                transaction.put_family(&changed(old, act))?;
            }
            return Ok(format!("{revoked:?}"));
        }
        Act::EndSubject {
            subject: name,
            until,
            families_until,
        } => {
            transaction.append(subject_revoked(&subject(name), until, families_until))?;
        }
        Act::EndBinding {
            until,
            families_until,
        } => {
            let binding = Binding::parse("device:7").unwrap();
            transaction.append(event(
                until,
                families_until,
                EventBody::BindingRevoked { binding },
            ))?;
        }
        Act::EndSession {
            family: number,
            until,
        } => {
            transaction.append(session_revoked(&family(number), until))?;
        }
        Act::Request { number, until } => {
            let (key, record) = request(number, until);
            let before = transaction.request(&key)?;
            transaction.put_request(&key, &record)?;
            return Ok(format!("{before:?}"));
        }
        Act::Audit { second } => transaction.audit(&audit_record(second, family(1).id))?,
    }
    Ok(format!("{:?}", transaction.last_sequence()))
}

fn changed(old: Family, act: Act) -> Family {
    match act {
        // Also backwards: a family may die earlier than it seemed.
        Act::Refresh { second, .. } => Family {
            idle_until: at(second).plus(Seconds(5)),
            ..old
        },
        Act::Revoke { second, .. } => old.revoked(RevokeReason::Requested, at(second)),
        Act::Rename { subject: name, .. } => Family {
            subject: Subject::parse(&subject(name)).unwrap(),
            bindings: vec![Binding::parse(&subject(name)).unwrap()],
            ..old
        },
        other => panic!("{other:?} changes no family"),
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
        FamilyIndex::Realm(realm()),
        FamilyIndex::ApiKey(realm(), fixture::api_key_id(1)),
    ];
    for number in 0..4 {
        indexes.push(FamilyIndex::Subject(
            realm(),
            Subject::parse(&subject(number)).unwrap(),
        ));
        indexes.push(FamilyIndex::Binding(
            realm(),
            Binding::parse(&subject(number)).unwrap(),
        ));
    }
    for index in indexes {
        let page = store
            .families(
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
            .map(|family| revocations.revokes_family(family))
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
            Step::Sweep {
                horizon,
                audit_before,
            } => {
                let sweep = (at(horizon), at(audit_before), 10_000);
                let expected = memory.sweep(sweep.0, sweep.1, sweep.2).await.unwrap();
                assert_eq!(expected, sled.sweep(sweep.0, sweep.1, sweep.2).await.unwrap());
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
