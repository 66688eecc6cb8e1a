//! API keys, clients and signing keys.

use std::sync::Arc;

use tessera_core::{ApiKey, ClientName, KeyId, KeyStatus, Seconds, Sequence, SigningKey};
use tessera_store::{Changes, ClientChange, Decision, PageRequest, Reads, Snapshot};

use super::state::{Shared, client_state, settings};
use crate::fixture::{api_key, api_key_id, at, realm, session, session_revoked, write};

async fn put_api_key(store: &Shared, key: ApiKey) {
    let changes = Changes {
        api_keys: vec![key],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub async fn api_keys_are_listed_by_realm(store: &Shared) {
    for key in [
        api_key(3, "production"),
        api_key(1, "production"),
        api_key(2, "sandbox"),
    ] {
        put_api_key(store, key).await;
    }
    let revoked = ApiKey {
        revoked_at: Some(at(1)),
        ..api_key(1, "production")
    };
    let reads = Reads::default().api_key(api_key_id(1));
    let decide = |state: &Snapshot| Decision::Abort(state.api_key(&api_key_id(1)).cloned());
    let (before, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(before, Some(api_key(1, "production")));
    // Read before the change and after it: a backend with a cache must not return the earlier state again.
    let read = store.api_key(&api_key_id(1)).await.unwrap();
    assert_eq!(read.as_deref(), before.as_ref());
    put_api_key(store, revoked.clone()).await;
    assert_eq!(
        store.api_key(&api_key_id(1)).await.unwrap(),
        Some(Arc::new(revoked.clone()))
    );
    let page = async |realm_name, after, limit| {
        store
            .api_keys(&realm(realm_name), PageRequest { after, limit })
            .await
            .unwrap()
    };
    let first = page("production", None, 1).await;
    assert_eq!((first.items, first.next), (vec![revoked], Some(api_key_id(1))));
    let second = page("production", first.next, 1).await;
    assert_eq!(
        (second.items, second.next),
        (vec![api_key(3, "production")], None)
    );
    assert_eq!(page("sandbox", None, 10).await.items, [api_key(2, "sandbox")]);
    assert!(page("none", None, 10).await.items.is_empty());
}

pub async fn api_keys_are_found_by_their_maker(store: &Shared) {
    let made = |number, maker| ApiKey {
        made_with: Some(api_key_id(maker)),
        ..api_key(number, "production")
    };
    for key in [api_key(1, "production"), made(2, 1), made(3, 1), made(4, 2)] {
        put_api_key(store, key).await;
    }
    let found = async || {
        let reads = Reads::default().made_with([1, 2, 3].map(api_key_id));
        let read = store.read(reads.clone()).await.unwrap();
        let decide = |state: &Snapshot| Decision::Abort(state.made.clone());
        let (decided, _) = store.commit(reads, decide).await.unwrap();
        assert_eq!(read.made, decided);
        assert!(read.made_with(&api_key_id(4)).is_none());
        [1, 2, 3].map(|maker| {
            let made = read.made_with(&api_key_id(maker)).unwrap();
            made.iter().map(|key| key.id).collect::<Vec<_>>()
        })
    };
    assert_eq!(
        found().await,
        [vec![api_key_id(2), api_key_id(3)], vec![api_key_id(4)], vec![]]
    );
    let removed = Changes {
        removed_api_keys: vec![made(2, 1)],
        ..Changes::default()
    };
    write(store, removed).await;
    assert_eq!(found().await, [vec![api_key_id(3)], vec![api_key_id(4)], vec![]]);
}

pub async fn api_keys_are_removed(store: &Shared) {
    for number in [1, 2] {
        let key = api_key(number, "production");
        put_api_key(store, key).await;
    }
    write(
        store,
        Changes {
            removed_api_keys: vec![api_key(1, "production")],
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(store.api_key(&api_key_id(1)).await.unwrap(), None);
    let page = PageRequest {
        after: None,
        limit: 10,
    };
    let left = store.api_keys(&realm("production"), page).await.unwrap();
    assert_eq!(left.items, [api_key(2, "production")]);
}

pub async fn clients_are_disabled_and_enabled(store: &Shared) {
    let client = |name: &str| ClientName::parse(name).unwrap();
    for (name, is_disabled) in [("client:app", true), ("client:shop", true), ("client:app", false)] {
        let change = ClientChange {
            realm: realm("production"),
            client: client(name),
            is_disabled,
        };
        write(
            store,
            Changes {
                clients: vec![change],
                ..Changes::default()
            },
        )
        .await;
        assert_eq!(
            client_state(store, "production", name).await.is_disabled,
            is_disabled
        );
    }
    let left = settings(store).await.disabled_clients;
    assert_eq!(left, [(realm("production"), client("client:shop"))]);
    assert!(client_state(store, "production", "client:shop").await.is_disabled);
    assert!(!client_state(store, "sandbox", "client:shop").await.is_disabled);
    assert!(!client_state(store, "production", "client:app").await.is_disabled);
}

fn signing_key(name: &str, second: i64) -> SigningKey {
    SigningKey {
        id: KeyId::parse(&format!("k4.pid.{}", name.repeat(44))).unwrap(),
        realm: realm("production"),
        public: "k4.public.x".to_owned(),
        sealed_secret: "sealed".to_owned(),
        sealed_with: "k4.lid.x".to_owned(),
        sealed_at: at(second),
        status: KeyStatus::Published,
        published_at: at(second),
        not_before: at(second),
        not_after: None,
        token_ttl_max: Seconds::DAY,
    }
}

pub async fn signing_keys_are_listed_oldest_first(store: &Shared) {
    let key = signing_key;
    for key in [key("b", 1), key("a", 3), key("c", 2)] {
        put_signing_key(store, key).await;
    }
    let active = SigningKey {
        status: KeyStatus::Active,
        ..key("c", 2)
    };
    put_signing_key(store, active.clone()).await;
    assert_eq!(
        store.signing_keys().await.unwrap(),
        [key("b", 1), active.clone(), key("a", 3)]
    );
    let removed = Changes {
        removed_signing_keys: vec![active.id],
        ..Changes::default()
    };
    write(store, removed).await;
    assert_eq!(store.signing_keys().await.unwrap(), [key("b", 1), key("a", 3)]);
}

pub async fn a_decision_reads_the_signing_keys_that_units_before_it_wrote(store: &Shared) {
    for key in [signing_key("a", 1), signing_key("b", 2)] {
        put_signing_key(store, key).await;
    }
    let active = SigningKey {
        status: KeyStatus::Active,
        ..signing_key("b", 2)
    };
    let changes = Changes {
        signing_keys: vec![active.clone(), signing_key("c", 3)],
        removed_signing_keys: vec![signing_key("a", 1).id],
        events: vec![session_revoked(&session(1), 100)],
        ..Changes::default()
    };
    let change = move |_: &Snapshot| Decision::Commit(changes.clone(), ());
    // The position shows which of both was decided first; they may be in one group.
    let read = |state: &Snapshot| Decision::Abort((state.head(), state.signing_keys.clone()));
    let reads = || Reads::default().signing_keys();
    let (_, found) = tokio::join!(
        store.commit(Reads::default(), change),
        store.commit(reads(), read)
    );
    let ((head, found), _) = found.unwrap();
    let after = [active, signing_key("c", 3)];
    if head == Sequence(0) {
        assert_eq!(found, [signing_key("a", 1), signing_key("b", 2)]);
    } else {
        assert_eq!(found, after);
    }
    assert_eq!(store.read(reads()).await.unwrap().signing_keys, after);
}

async fn put_signing_key(store: &Shared, key: SigningKey) {
    let changes = Changes {
        signing_keys: vec![key],
        ..Changes::default()
    };
    write(store, changes).await;
}
