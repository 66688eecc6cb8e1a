//! After the same steps, the store in memory and another store give the same answers.

use std::sync::Arc;

use proptest::{prelude::*, test_runner::TestRunner};
use tessera_core::{
    ClientName, EventBody, Label, RequestId, RevokeReason, Seconds, Sequence, Session, Subject,
};
use tessera_store::{
    AuditQuery, Changes, Decision, MemoryStore, PageRequest, PurgeBefore, Reads, RequestKey, RequestRecord,
    SessionIndex, Snapshot, Store,
};

use crate::fixture::{
    api_key_id, at, audit_record, event, realm, session, session_revoked, subject_revoked, with_subject,
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
    Unit { acts: Vec<Act>, is_aborted: bool },
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
            .prop_map(|(acts, is_aborted)| Step::Unit { acts, is_aborted }),
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

/// Adds the act to the changes of the unit, and returns what a caller would see of it.
fn perform(state: &Snapshot, changes: &mut Changes, act: Act) -> String {
    match act {
        Act::Begin {
            session,
            subject: name,
        } => changes.sessions.push(Arc::new(Session {
            rev: state.head(),
            ..with_subject(session, &subject(name))
        })),
        Act::Refresh { session: number, .. }
        | Act::Revoke { session: number, .. }
        | Act::Rename { session: number, .. } => {
            let Some(stored) = state.session(session(number).id) else {
                return "unknown".to_owned();
            };
            if stored.ended.is_none() {
                let old = stored.session.as_ref().clone();
                changes.sessions.push(Arc::new(changed(old, act)));
            }
            return format!("{:?}", stored.ended);
        }
        Act::EndSubject {
            subject: name,
            until,
            sessions_until,
        } => changes
            .events
            .push(subject_revoked(&subject(name), until, sessions_until)),
        Act::EndLabel {
            until,
            sessions_until,
        } => {
            let label = Label::parse("device:7").unwrap();
            let revoked = EventBody::LabelRevoked { label };
            changes.events.push(event(until, sessions_until, revoked));
        }
        Act::EndSession {
            session: number,
            until,
        } => changes.events.push(session_revoked(&session(number), until)),
        Act::Request { number, until } => changes.requests.push(request(number, until)),
        Act::Audit { second } => changes.audit.push(audit_record(second, session(1).id)),
    }
    format!("{:?} {:?}", state.head(), state.request())
}

/// The reads of the acts.
fn reads(acts: &[Act]) -> Reads {
    let mut reads = Reads::default();
    for act in acts {
        reads = match act {
            Act::Refresh { session: number, .. }
            | Act::Revoke { session: number, .. }
            | Act::Rename { session: number, .. } => reads.session(session(*number).id),
            Act::Request { number, until } => reads.request(request(*number, *until).0),
            _ => reads,
        };
    }
    reads
}

fn changed(old: Session, act: Act) -> Session {
    match act {
        // Also backwards: a session may end earlier than before.
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

async fn unit(store: &Shared, acts: Vec<Act>, is_aborted: bool) -> String {
    let reads = reads(&acts);
    let decide = move |state: &Snapshot| {
        let mut changes = Changes::default();
        let seen: Vec<_> = acts
            .iter()
            .map(|act| perform(state, &mut changes, *act))
            .collect();
        if is_aborted {
            Decision::Abort(seen)
        } else {
            Decision::Commit(changes, seen)
        }
    };
    format!("{:?}", store.commit(reads, decide).await)
}

/// The answers to all queries, as text.
async fn answers(store: &Shared) -> String {
    let mut answers = vec![format!("{:?}", store.log().committed())];
    let realm = || realm("production");
    let mut indexes = vec![
        SessionIndex::Realm(realm()),
        SessionIndex::Credential(realm(), api_key_id(1).into()),
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
    for index in &indexes {
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
        answers.push(format!("{page:?}"));
    }
    for after in 0..=store.log().committed().0 {
        answers.push(format!("{:?}", store.events(Sequence(after), 4).await));
    }
    answers.push(format!("{:?}", store.audit_page(AuditQuery::after(0, 100)).await));
    for number in 0..5 {
        let (key, _) = request(number, 0);
        let found = store.read(Reads::default().request(key)).await.unwrap();
        answers.push(format!("{:?}", found.request()));
    }
    answers.join("\n")
}

/// Runs the same random steps on the store in memory and on one that `open` opens.
async fn compare(steps: Vec<Step>, open: &(dyn Fn(bool) -> Shared + Sync)) {
    let memory: Shared = Arc::new(MemoryStore::new());
    let mut other = open(true);
    for step in steps {
        match step {
            Step::Unit { acts, is_aborted } => {
                let expected = unit(&memory, acts.clone(), is_aborted).await;
                assert_eq!(expected, unit(&other, acts, is_aborted).await);
            }
            Step::Purge {
                horizon,
                audit_before,
            } => {
                let before = PurgeBefore {
                    horizon: at(horizon),
                    audit: at(audit_before),
                };
                let expected = memory.purge(before, 10_000).await.unwrap();
                assert_eq!(expected, other.purge(before, 10_000).await.unwrap());
            }
            Step::Reopen => {
                other.close().await.unwrap();
                drop(other);
                other = open(false);
            }
        }
        assert_eq!(answers(&memory).await, answers(&other).await);
    }
    other.close().await.unwrap();
}

/// Compares the store in memory with another, for random steps of up to `steps_max`, `cases` times. `open` must return
/// an empty store (true), or the previous one, which was closed meanwhile (false).
pub fn with_memory(cases: u32, steps_max: usize, open: &(dyn Fn(bool) -> Shared + Sync)) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let steps = prop::collection::vec(step(), 1..steps_max);
    let run = |steps| {
        runtime.block_on(compare(steps, open));
        Ok(())
    };
    TestRunner::new(config).run(&steps, run).unwrap();
}
