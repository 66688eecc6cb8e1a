//! Sessions, and the indexes that list them.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use tessera_core::{ApiKey, ClientName, LEEWAY_MAX, Label, RevokeReason, Sequence, Session, Subject};
use tessera_store::{Changes, Decision, PageRequest, PurgeReport, Reads, SessionIndex, Snapshot, StoreError};

use super::state::{Shared, client_state, list, purge};
use crate::fixture::{
    api_key, api_key_id, append, at, events_after, purge_before, put, realm, rotated, sequences, session,
    session_revoked, stored, subject_revoked, with_subject, write,
};

pub async fn a_session_is_joined_with_what_ended_it(store: &Shared) {
    let (ann, bob) = (session(1), with_subject(2, "user:bob"));
    let sandbox = Session {
        credential: api_key_id(2).into(),
        ..session(3)
    };
    for session in [&ann, &bob, &sandbox] {
        put(store, session).await;
    }
    let ended = async |of: &Session| {
        let read = store.session(of.id).await.unwrap().unwrap().ended;
        let id = of.id;
        let decide = move |state: &Snapshot| Decision::Abort(state.session(id).unwrap().ended);
        let (decided, _) = store.commit(Reads::default().session(id), decide).await.unwrap();
        let index = SessionIndex::Credential(of.realm.clone(), of.credential.clone());
        let page = PageRequest {
            after: None,
            limit: 9,
        };
        let listed = store.sessions(&index, page).await.unwrap().items;
        let listed = listed
            .iter()
            .find(|stored| stored.session.id == id)
            .unwrap()
            .ended;
        assert_eq!((read, listed), (decided, decided));
        decided
    };
    assert_eq!(ended(&ann).await, None);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    let revoked = ApiKey {
        revoked_at: Some(at(3)),
        ..api_key(2, "production")
    };
    write(
        store,
        Changes {
            api_keys: vec![api_key(1, "production"), revoked],
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(ended(&ann).await, Some(RevokeReason::Subject));
    assert_eq!(ended(&bob).await, None);
    let other = Session {
        subject: Subject::parse("user:eve").unwrap(),
        ..sandbox
    };
    put(store, &other).await;
    assert_eq!(ended(&other).await, Some(RevokeReason::ApiKey));
}

pub async fn indexes_list_sessions_in_order_and_only_theirs(store: &Shared) {
    let mut sessions: Vec<_> = (1..=5).map(session).collect();
    sessions[1].subject = Subject::parse("user:bob").unwrap();
    sessions[2].client = ClientName::parse("client:app").unwrap();
    sessions[3].realm = realm("sandbox");
    sessions[4].labels = vec![
        Label::parse("device:8").unwrap(),
        Label::parse("device:8").unwrap(),
    ];
    sessions[4].credential = api_key_id(2).into();
    for session in sessions.iter().rev() {
        put(store, session).await;
    }
    let production = || realm("production");
    let expect = async |index, numbers: &[usize]| {
        let ids: Vec<_> = numbers.iter().map(|number| sessions[number - 1].id).collect();
        assert_eq!(list(store, index).await, ids);
    };
    expect(SessionIndex::Realm(production()), &[1, 2, 3, 5]).await;
    expect(SessionIndex::Realm(realm("sandbox")), &[4]).await;
    expect(SessionIndex::Realm(realm("none")), &[]).await;
    expect(
        SessionIndex::Subject(production(), Subject::parse("user:ann").unwrap()),
        &[1, 3, 5],
    )
    .await;
    expect(
        SessionIndex::Subject(production(), Subject::parse("user:bob").unwrap()),
        &[2],
    )
    .await;
    expect(
        SessionIndex::Client(production(), ClientName::parse("client:cms").unwrap()),
        &[1, 2, 5],
    )
    .await;
    expect(
        SessionIndex::Client(realm("sandbox"), ClientName::parse("client:cms").unwrap()),
        &[4],
    )
    .await;
    expect(
        SessionIndex::Label(production(), Label::parse("device:7").unwrap()),
        &[1, 2, 3],
    )
    .await;
    expect(
        SessionIndex::Label(production(), Label::parse("device:8").unwrap()),
        &[5],
    )
    .await;
    expect(
        SessionIndex::Credential(production(), api_key_id(1).into()),
        &[1, 2, 3],
    )
    .await;
    expect(SessionIndex::Credential(production(), api_key_id(2).into()), &[5]).await;
}

/// The sessions that are shown if the visitor breaks off at `last`.
async fn visited(store: &Shared, last: usize) -> Vec<Session> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    let see = move |session: &Session| {
        let mut seen = seen.lock().unwrap();
        seen.push(session.clone());
        if seen.len() == last {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    store.walk_sessions(Box::new(see)).await.unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

pub async fn all_sessions_are_visited_in_order(store: &Shared) {
    assert_eq!(visited(store, usize::MAX).await, []);
    // More than any backend reads at once.
    let mut sessions: Vec<_> = (1..=600).map(session).collect();
    sessions[1].realm = realm("sandbox");
    for session in sessions.iter().rev() {
        put(store, session).await;
    }
    assert_eq!(visited(store, usize::MAX).await, sessions);
}

pub async fn a_visit_ends_where_its_visitor_breaks_off(store: &Shared) {
    let sessions: Vec<_> = (1..=4).map(session).collect();
    for session in &sessions {
        put(store, session).await;
    }
    assert_eq!(visited(store, 2).await, sessions[..2]);
}

pub async fn a_visitor_that_panics_harms_nobody_else(store: &Shared) {
    put(store, &session(1)).await;
    let visit = store.walk_sessions(Box::new(|_| panic!("a flaw of the visitor")));
    assert!(matches!(visit.await, Err(StoreError::Failed { .. })));
    assert!(store.health().takes_writes);
    assert_eq!(visited(store, 1).await, [session(1)]);
}

pub async fn pages_end_where_the_items_end(store: &Shared) {
    let sessions: Vec<_> = (1..=4).map(session).collect();
    for session in &sessions {
        put(store, session).await;
    }
    let page = async |after: Option<usize>, limit| {
        let after = after.map(|number| sessions[number - 1].id);
        let page = store
            .sessions(
                &SessionIndex::Realm(realm("production")),
                PageRequest { after, limit },
            )
            .await
            .unwrap();
        let number = |id| sessions.iter().position(|session| session.id == id).unwrap() + 1;
        (
            page.items
                .iter()
                .map(|stored| number(stored.session.id))
                .collect::<Vec<_>>(),
            page.next.map(number),
        )
    };
    assert_eq!(page(None, 3).await, (vec![1, 2, 3], Some(3)));
    assert_eq!(page(Some(3), 3).await, (vec![4], None));
    assert_eq!(page(None, 4).await, (vec![1, 2, 3, 4], None));
    assert_eq!(page(Some(2), 2).await, (vec![3, 4], None));
    assert_eq!(page(Some(4), 2).await, (vec![], None));
    assert_eq!(page(None, usize::MAX).await, (vec![1, 2, 3, 4], None));
    assert_eq!(page(None, 0).await, (vec![], None));
}

pub async fn an_index_follows_a_session_that_changes(store: &Shared) {
    let before = session(1);
    put(store, &before).await;
    let after = Session {
        labels: vec![Label::parse("device:9").unwrap()],
        ..with_subject(1, "user:eve")
    };
    put(store, &after).await;
    let subject = |name| SessionIndex::Subject(realm("production"), Subject::parse(name).unwrap());
    let label = |name| SessionIndex::Label(realm("production"), Label::parse(name).unwrap());
    for (index, count) in [
        (subject("user:ann"), 0),
        (subject("user:eve"), 1),
        (label("stream:ls_42"), 0),
        (label("device:7"), 0),
        (label("device:9"), 1),
    ] {
        assert_eq!(list(store, index.clone()).await.len(), count, "{index:?}");
    }
}

pub async fn a_name_that_begins_like_another_is_another(store: &Shared) {
    put(store, &with_subject(1, "user:ann")).await;
    put(store, &with_subject(2, "user:anna")).await;
    put(
        store,
        &Session {
            realm: realm("prod"),
            ..with_subject(3, "user:ann")
        },
    )
    .await;
    let count = async |realm_name, subject| {
        let index = SessionIndex::Subject(realm(realm_name), Subject::parse(subject).unwrap());
        list(store, index).await.len()
    };
    assert_eq!(count("production", "user:ann").await, 1);
    assert_eq!(count("production", "user:anna").await, 1);
    assert_eq!(count("prod", "user:ann").await, 1);
    assert_eq!(count("production", "user:an").await, 0);
    assert_eq!(list(store, SessionIndex::Realm(realm("prod"))).await.len(), 1);
}

pub async fn concurrent_updates_of_a_session_are_one_after_the_other(store: &Shared) {
    const CALLERS: u64 = 50;
    let one = session(1);
    put(store, &one).await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (store, id) = (Arc::clone(store), one.id);
        callers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            // All tasks offer each generation; exactly one may take it.
            for generation in 1..=5 {
                let take = move |state: &Snapshot| {
                    let session = &state.session(id).unwrap().session;
                    if session.generation() != generation {
                        return Decision::Abort(false);
                    }
                    let changes = Changes {
                        sessions: vec![Arc::new(rotated(session, at(1)))],
                        events: vec![session_revoked(session, 9)],
                        ..Changes::default()
                    };
                    Decision::Commit(changes, true)
                };
                let taken = store.commit(Reads::default().session(id), take).await;
                if taken.unwrap().0 {
                    won.push(generation);
                }
            }
            won
        }));
    }
    let mut won = Vec::new();
    for caller in callers {
        won.extend(caller.await.unwrap());
    }
    won.sort_unstable();
    assert_eq!(won, [1, 2, 3, 4, 5]);
    assert_eq!(stored(store, one.id).await.unwrap().generation(), 6);
    assert_eq!(
        sequences(&events_after(store, Sequence(0)).await.unwrap()),
        [1, 2, 3, 4, 5]
    );
}

/// A purge at the time when no verifier accepts any longer what ended before `second`.
async fn purge_after_leeway(store: &Shared, second: i64) -> PurgeReport {
    purge(store, second + i64::from(LEEWAY_MAX.0)).await
}

pub async fn the_sessions_of_a_client_are_counted(store: &Shared) {
    async fn count(store: &Shared) -> u64 {
        client_state(store, "production", "client:cms").await.sessions
    }
    async fn count_of(store: &Shared, realm: &str) -> u64 {
        let realm = realm.parse().unwrap();
        let read = store.session_count(&realm).await.unwrap();
        let named = Reads::default().realm(realm.clone());
        let decide = move |state: &Snapshot| Decision::Abort(state.session_count(&realm));
        assert_eq!(store.commit(named, decide).await.unwrap().0, read);
        read
    }
    assert_eq!(count(store).await, 0);
    let (one, two) = (session(1), session(2));
    let sessions = [one.clone(), two, rotated(&one, at(5))].map(Arc::new);
    write(
        store,
        Changes {
            sessions: sessions.into(),
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(count(store).await, 2);
    let other = Session {
        client: "client:other".parse::<ClientName>().unwrap(),
        ..session(3)
    };
    put(store, &other).await;
    assert_eq!(count(store).await, 2, "another client's does not count");
    assert_eq!(count_of(store, "production").await, 3, "in the realm it does");
    assert_eq!(count_of(store, "prod").await, 0);
    assert_eq!(count_of(store, "sandbox").await, 0);
    put(store, &rotated(&session(1), at(9))).await;
    put(store, &session(2).revoked(RevokeReason::Requested, at(50))).await;
    assert_eq!(count(store).await, 2, "ended ones count until they are removed");
    while purge_before(store, at(130), at(0), 1).await.more {}
    assert_eq!(count(store).await, 1);
    while purge_before(store, at(5000), at(0), 1).await.more {}
    assert_eq!(count(store).await, 0);
}

pub async fn a_purge_removes_sessions_that_are_dead_and_no_others(store: &Shared) {
    // Idle until second 101, a tombstone until 111; the revoked one until 60. Each is kept for the leeway longer.
    let (idle, ended) = (session(1), session(2).revoked(RevokeReason::Requested, at(50)));
    put(store, &idle).await;
    put(store, &session(2)).await;
    put(store, &ended).await;
    assert_eq!(purge_after_leeway(store, 60).await, PurgeReport::default());
    assert_eq!(
        purge_after_leeway(store, 61).await,
        PurgeReport {
            sessions: 1,
            ..PurgeReport::default()
        }
    );
    assert_eq!(store.session(ended.id).await.unwrap(), None);
    assert_eq!(
        list(store, SessionIndex::Realm(realm("production"))).await,
        [idle.id]
    );
    assert_eq!(purge_after_leeway(store, 111).await.sessions, 0);
    assert_eq!(purge_after_leeway(store, 112).await.sessions, 1);
    for index in [
        SessionIndex::Realm(realm("production")),
        SessionIndex::Label(realm("production"), idle.labels[0].clone()),
        SessionIndex::Credential(realm("production"), idle.credential.clone()),
    ] {
        assert!(list(store, index).await.is_empty());
    }
    assert_eq!(purge(store, 9999).await, PurgeReport::default());
}

pub async fn a_purge_follows_a_session_that_was_refreshed(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    let refreshed = rotated(&one, at(90));
    put(store, &refreshed).await;
    // Alive until 190, a tombstone until 200 and the leeway, although it would have been removed after 111.
    assert_eq!(purge_after_leeway(store, 150).await.sessions, 0);
    assert_eq!(stored(store, one.id).await, Some(refreshed.clone()));
    assert_eq!(purge_after_leeway(store, 200).await.sessions, 0);
    // After a revocation, it is removed earlier than the last purge expected.
    put(store, &refreshed.revoked(RevokeReason::Reuse, at(160))).await;
    assert_eq!(purge_after_leeway(store, 170).await.sessions, 0);
    assert_eq!(purge_after_leeway(store, 171).await.sessions, 1);
}
