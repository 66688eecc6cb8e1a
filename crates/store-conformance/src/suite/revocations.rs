//! What ends many sessions at once, and how long that is known.

use tessera_core::{Event, EventBody, RevokeReason, Sequence, Session};
use tessera_store::{Decision, Reads, Snapshot, StoreError};

use super::state::{Shared, purge, put_audit};
use crate::fixture::{
    append, at, event, events_after, put, realm, session, session_revoked, subject_revoked, with_subject,
};

fn revoked(store: &Shared, session: &Session) -> Option<RevokeReason> {
    store.log().revocations().read().revokes_session(session)
}

pub async fn revocations_are_folded_in(store: &Shared) {
    let (ann, bob) = (session(1), with_subject(2, "user:bob"));
    assert_eq!(revoked(store, &ann), None);
    let place = append(store, &subject_revoked("user:ann", 50, 500)).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    assert_eq!(revoked(store, &bob), None);
    assert_eq!(
        revoked(
            store,
            &Session {
                rev: place,
                ..ann.clone()
            }
        ),
        None
    );
    assert_eq!(
        revoked(
            store,
            &Session {
                realm: realm("sandbox"),
                ..ann.clone()
            }
        ),
        None
    );
    append(
        store,
        &event(
            50,
            500,
            EventBody::ClientRevoked {
                client: ann.client.clone(),
            },
        ),
    )
    .await;
    assert_eq!(revoked(store, &bob), Some(RevokeReason::Client));
    append(store, &event(50, 500, EventBody::RealmRevoked)).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Realm));
    append(store, &session_revoked(&ann, 50)).await;
    let revocations = store.log().revocations().read();
    assert_eq!(revocations.len(), 4);
    assert_eq!(revocations.through(), Sequence(4));
}

pub async fn a_cutoff_is_known_to_the_next_unit(store: &Shared) {
    let ann = session(1);
    put(store, &ann).await;
    let known = async || {
        let decide = |state: &Snapshot| Decision::Abort(state.session(session(1).id).unwrap().ended);
        let known = store
            .commit(Reads::default().session(session(1).id), decide)
            .await;
        known.unwrap().0
    };
    assert_eq!(known().await, None);
    let label = ann.labels[1].clone();
    append(store, &event(50, 500, EventBody::LabelRevoked { label })).await;
    assert_eq!(known().await, Some(RevokeReason::Label));
}

pub async fn a_cutoff_outlives_its_event(store: &Shared) {
    let ann = session(1);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    assert_eq!(purge(store, 51).await.events, 1);
    assert!(matches!(
        store.events(Sequence(0), 1).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 500).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 501).await;
    assert_eq!(revoked(store, &ann), None);
}

pub async fn a_later_cutoff_never_shortens_an_earlier_one(store: &Shared) {
    let ann = session(1);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    append(store, &subject_revoked("user:ann", 60, 100)).await;
    purge(store, 499).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 501).await;
    assert_eq!(revoked(store, &ann), None);
}

pub async fn a_revocation_outlives_a_token_that_was_issued_by_a_clock_ahead(store: &Shared) {
    let two_hours = 2 * 3600;
    put_audit(store, two_hours).await;
    // The clock is correct again. What is revoked now ends tokens that live two hours longer.
    append(store, &subject_revoked("user:ann", 100, 200)).await;
    append(store, &session_revoked(&session(1), 100)).await;
    let until = |event: &Event| event.relevant_until;
    let events = events_after(store, Sequence(0)).await.unwrap();
    assert!(events.iter().all(|event| until(event) == at(100 + two_hours)));
    assert_eq!(purge(store, 1000).await.events, 0);
    let revoked = |store: &Shared| {
        let revocations = store.log().revocations().read();
        revocations.revokes_session(&session(1)).is_some()
    };
    assert_eq!(purge(store, 100 + two_hours).await.events, 0);
    assert!(revoked(store));
    assert_eq!(purge(store, 101 + two_hours).await.events, 2);
    assert!(revoked(store), "its session lives longer");
    purge(store, 201 + two_hours).await;
    assert!(!revoked(store));
}
