//! Backups over the wire: which callers may make one, one at a time, and the messages to callers.

use std::sync::Arc;

use tessera_backup::content::{Item, Items};
use tessera_core::AuditAction;
use tessera_proto::v1::{Backup, CreateBackupRequest, CreateBackupResponse, create_backup_response::Part};
use tessera_store::{BackupRecord, MemoryStore, Store};
use tessera_testkit::{
    soon,
    world::{Client, Fragile, World, reason},
};
use tonic::{Status, Streaming};

async fn begin(client: &Client) -> Result<Streaming<CreateBackupResponse>, Status> {
    let begun = client.backups().create_backup(CreateBackupRequest {}).await;
    begun.map(tonic::Response::into_inner)
}

/// The rest of a backup: its items, and the final message.
async fn rest(mut parts: Streaming<CreateBackupResponse>) -> Result<(Vec<Item>, Option<Backup>), Status> {
    let (mut items, mut reading, mut backup) = (Vec::new(), Items::default(), None);
    while let Some(part) = parts.message().await? {
        assert!(backup.is_none(), "something is behind the last part");
        match part.part.unwrap() {
            Part::Content(content) => items.extend(reading.add(&content.data).unwrap()),
            Part::Backup(made) => {
                reading.finish().unwrap();
                backup = Some(made);
            }
        }
    }
    Ok((items, backup))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_all_realms_and_is_told_of() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::on(Arc::clone(&store)).await;
    let (app, admin) = world.app_and_admin().await;
    let trial = world.client("sandbox", "app").await;
    app.issue_for("user:ann").await;
    trial.issue_for("user:bob").await;
    let (items, backup) = rest(begin(&admin).await.unwrap()).await.unwrap();
    let backup = backup.unwrap();
    let Some(Item::Head(head)) = items.first() else {
        panic!("no head")
    };
    assert_eq!(head.server_keys, backup.server_key_ids);
    assert_eq!(head.realms.len(), 2);
    let sessions = items.iter().filter_map(|item| match item {
        Item::Record(BackupRecord::Session(session)) => Some(session.realm.to_string()),
        _ => None,
    });
    let mut realms: Vec<_> = sessions.collect();
    realms.sort();
    assert_eq!(realms, ["production", "sandbox"]);
    assert_eq!(backup.sequence, world.authority.position().sequence.0);
    assert_eq!(backup.log_id, store.log().id().to_string());

    let last = world.authority.backups().backup_state();
    assert_eq!((last.is_running, last.failed), (false, 0));
    assert_eq!(last.last.unwrap().position.0, backup.sequence);
    let audit = store.audit(0, 1000).await.unwrap();
    let (position, record) = audit.last().unwrap();
    assert_eq!(
        *position,
        backup.audit_position + 1,
        "the record of it is not in it"
    );
    assert!(
        matches!(record.action, AuditAction::BackedUp { position } if position.0 == backup.sequence),
        "{record:?}"
    );
}

#[tokio::test]
async fn it_takes_a_permission_in_a_realm_that_speaks_for_all() {
    let world = World::start().await;
    for (realm, client) in [("production", "app"), ("sandbox", "app"), ("sandbox", "admin")] {
        let refused = begin(&world.client(realm, client).await).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "PermissionDenied / CALL_NOT_ALLOWED",
            "{realm} {client}"
        );
    }
    assert_eq!(world.authority.backups().backup_state().failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_made_at_a_time_and_who_leaves_ends_it() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let admin = world.client("production", "admin").await;
    let (waits, release) = store.hold_next();
    let first = begin(&admin).await.unwrap();
    soon("the audit record of the first", waits).await.unwrap();
    assert!(world.authority.backups().backup_state().is_running);
    let refused = begin(&admin).await.unwrap_err();
    assert_eq!(reason(&refused), "ResourceExhausted / BACKUP_RUNNING");
    assert!(refused.message().contains("one is made at a time"), "{refused}");
    release.send(()).unwrap();
    let (_, backup) = rest(first).await.unwrap();
    assert!(backup.is_some());

    let left = begin(&admin).await.unwrap();
    drop(left);
    let next = soon("another can be made", async {
        loop {
            match begin(&admin).await {
                Ok(parts) => return parts,
                Err(refused) => assert_eq!(reason(&refused), "ResourceExhausted / BACKUP_RUNNING"),
            }
        }
    });
    assert!(rest(next.await).await.unwrap().1.is_some());
}

/// A backup is unusable if the audit trail can't record that it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_cannot_be_recorded_is_not_made() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let admin = world.client("production", "admin").await;
    let (waits, release) = store.hold_next();
    let parts = begin(&admin).await.unwrap();
    soon("the audit record", waits).await.unwrap();
    store.break_now();
    release.send(()).unwrap();
    let failed = rest(parts).await.unwrap_err();
    assert_eq!(reason(&failed), "Unavailable / STORE_UNAVAILABLE");
    assert_eq!(world.authority.backups().backup_state().failed, 1);
    assert_eq!(world.authority.backups().backup_state().last, None);
}
