//! What several checks ask of a store, and write to it.

use std::sync::Arc;

use tessera_core::{ClientName, SessionId, Timestamp};
use tessera_store::{
    Changes, ClientState, Decision, PageRequest, PurgeReport, Reads, SessionIndex, SettingChange, Settings,
    Snapshot, Store,
};

use crate::fixture::{at, audit_record, purge_before, realm, session, write};

pub(super) type Shared = Arc<dyn Store>;

pub(super) async fn set(store: &Shared, setting: SettingChange) {
    let changes = Changes {
        settings: vec![setting],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub(super) async fn settings(store: &Shared) -> Settings {
    let state = store.read(Reads::default().settings()).await.unwrap();
    state.settings.unwrap()
}

pub(super) async fn list(store: &Shared, index: SessionIndex) -> Vec<SessionId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .sessions(&index, PageRequest { after, limit: 2 })
            .await
            .unwrap();
        assert!(page.items.len() <= 2);
        ids.extend(page.items.iter().map(|stored| stored.session.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
        assert_eq!(after, ids.last().copied());
    }
}

pub(super) async fn purge(store: &Shared, second: i64) -> PurgeReport {
    purge_before(store, at(second), Timestamp::EPOCH, 1000).await
}

pub(super) async fn put_audit(store: &Shared, second: i64) {
    let changes = Changes {
        audit: vec![audit_record(second, session(1).id)],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub(super) async fn client_state(store: &Shared, of: &str, name: &str) -> ClientState {
    let (realm, client) = (realm(of), ClientName::parse(name).unwrap());
    let reads = Reads::default().client(realm.clone(), client.clone());
    let read = store.read(reads.clone()).await.unwrap().client(&realm, &client);
    let decide = move |state: &Snapshot| Decision::Abort(state.client(&realm, &client));
    let (decided, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(read, decided);
    decided
}
