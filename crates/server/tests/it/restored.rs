//! A data directory that is restored from a copy, as docs/operations.md says, and incorrectly.

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;
use tessera_authority::{Restoring, end_everything};
use tessera_core::{
    Clock, Cursor, KeyStatus, OnPolicyLoss, Realm, RealmKind, RealmLimits, Seconds, SystemClock, Timestamp,
};
use tessera_proto::v1::{
    IssueRequest, WatchRequest, WatchStart, revoke_request::Target, watch_request::Message, watch_start::From,
};
use tessera_store::Store;
use tessera_store_sled::{SledOptions, SledStore};
use tessera_testkit::{
    soon,
    world::{Client, Setup, World, access_token, realm, reason, refresh_token},
};
use tessera_token::{ServerKey, ServerKeys};
use tokio_stream::StreamExt;
use tonic::Status;

/// A live directory, and a copy without its last day.
struct Lost {
    _directory: TempDir,
    copy: std::path::PathBuf,
    server_key: String,
    /// Keys that the copy also has.
    app: String,
    admin: String,
    /// Issued on that day.
    access: String,
    refresh: String,
    /// The position of a verifier when the disk was lost.
    cursor: String,
    /// Issued before the copy was made.
    access_before: String,
    /// A session of a realm that the configuration does not name after the restore.
    sandbox: (String, String),
}

impl Lost {
    async fn a_day() -> Self {
        let directory = TempDir::new().unwrap();
        let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
        let server_key = ServerKey::generate().unwrap().to_paserk().to_string();
        let before = Opened::at(&live, &server_key).await;
        let app = before.world.client("production", "app").await;
        let admin = before.world.client("production", "admin").await;
        let access_before = access_token(app.issue_for("user:bob").await.tokens.as_ref());
        let trying = before.world.client("sandbox", "app").await;
        let sandbox = (
            trying.api_key.clone(),
            refresh_token(trying.issue_for("user:bob").await.tokens.as_ref()),
        );
        before.close().await;
        copy_directory(&live, &copy);

        let day = Opened::at(&live, &server_key).await;
        let (app, admin) = (
            day.world.with_key(&app.api_key),
            day.world.with_key(&admin.api_key),
        );
        let mut cursor = String::new();
        for number in 0..5 {
            let target = Target::Subject(format!("user:of-the-day-{number}"));
            cursor = admin.revoke(target).await.unwrap().cursor;
        }
        let issued = app.issue_for("user:ann").await;
        let lost = Self {
            _directory: directory,
            copy,
            server_key,
            app: app.api_key.clone(),
            admin: admin.api_key.clone(),
            access: access_token(issued.tokens.as_ref()),
            refresh: refresh_token(issued.tokens.as_ref()),
            cursor,
            access_before,
            sandbox,
        };
        day.close().await;
        lost
    }

    async fn serve(&self) -> (Opened, Client, Client) {
        let opened = Opened::at(&self.copy, &self.server_key).await;
        let (app, admin) = (
            opened.world.with_key(&self.app),
            opened.world.with_key(&self.admin),
        );
        (opened, app, admin)
    }
}

struct Opened {
    world: World,
    store: Arc<dyn Store>,
}

impl Opened {
    async fn at(path: &Path, server_key: &str) -> Self {
        Self::at_time(path, server_key, Setup::default().begins_at).await
    }

    async fn at_time(path: &Path, server_key: &str, begins_at: Timestamp) -> Self {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(path, SledOptions::default()).unwrap());
        let world = World::with(Setup {
            store: Arc::clone(&store),
            server_key: ServerKey::parse(server_key).unwrap(),
            begins_at,
            ..Setup::default()
        });
        Self {
            world: world.await,
            store,
        }
    }

    /// Ends like a kill: nothing more is written.
    async fn kill(self) {
        self.world.serving.abort();
        self.store.close().await.unwrap();
    }

    async fn close(mut self) {
        self.world.stop();
        soon("the end", &mut self.world.serving).await.unwrap().unwrap();
        // The server may have closed it already.
        drop(self.store.close().await);
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn resume(client: &Client, cursor: &str) -> Status {
    let start = WatchStart {
        from: Some(From::Cursor(cursor.to_owned())),
        ..WatchStart::default()
    };
    let start = WatchRequest {
        message: Some(Message::Start(start)),
    };
    let requests = tokio_stream::iter([start]).chain(tokio_stream::pending());
    let mut stream = client.revocations().watch(requests).await.unwrap().into_inner();
    soon("a refusal", stream.message()).await.unwrap_err()
}

/// Revokes until the log is longer than the lost one.
async fn overtake(admin: &Client) {
    for number in 0..10 {
        let target = Target::Subject(format!("user:of-the-copy-{number}"));
        admin.revoke(target).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_takes_no_token_that_was_issued_after_it_was_made() {
    let lost = Lost::a_day().await;
    let (opened, app, admin) = lost.serve().await;
    assert!(!app.introspect(&lost.access).await.active);
    // A forged cursor proves nothing.
    let forged = Cursor {
        tag: tessera_core::CursorTag([7; 16]),
        ..Cursor::parse(&lost.cursor).unwrap()
    };
    let resumed = resume(&admin, &forged.to_string()).await;
    assert_eq!(reason(&resumed), "InvalidArgument / CURSOR_INVALID");
    assert!(opened.world.authority.is_ready());
    let issued = app.issue_for("user:eve").await;
    assert_eq!(
        reason(&resume(&admin, &lost.cursor).await),
        "InvalidArgument / CURSOR_INVALID"
    );
    // A cursor that this authority issued does: revocations would not reach tokens that are issued now.
    assert!(!opened.world.authority.is_ready());
    let refused = app.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / STORE_UNAVAILABLE");
    let spent = refresh_token(issued.tokens.as_ref());
    let refused = app.refresh(&spent).await.unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / STORE_UNAVAILABLE");
    opened.close().await;
}

#[tokio::test]
async fn after_restored_nothing_from_before_works_and_verifiers_begin_anew() {
    let lost = Lost::a_day().await;
    let store: Arc<dyn Store> =
        Arc::new(SledStore::open_restored(&lost.copy, SledOptions::default()).unwrap());
    let served = Realm {
        name: realm("production"),
        kind: RealmKind::Production,
        issuer: "https://auth.example.org".to_owned(),
        limits: RealmLimits::default(),
        on_policy_loss: OnPolicyLoss::Narrow,
    };
    let server_keys = ServerKeys::new(ServerKey::parse(&lost.server_key).unwrap(), Vec::new());
    let before = store.signing_keys().await.unwrap();
    let restoring = Restoring {
        realms: &[served],
        server_keys: &server_keys,
        revoke_api_keys: false,
        now: SystemClock.now(),
    };
    let restored = end_everything(&store, &restoring).await.unwrap();
    assert_eq!(
        restored.sessions.into_iter().collect::<Vec<_>>(),
        [(realm("production"), 1), (realm("sandbox"), 1)],
        "of every realm, served or not"
    );
    assert_eq!(restored.signing_keys, before, "of every realm");
    let clients: Vec<_> = restored
        .api_keys
        .iter()
        .map(|key| key.client.to_string())
        .collect();
    assert!(clients.contains(&"client:app".to_owned()), "{clients:?}");
    assert!(restored.api_keys.iter().any(|key| key.realm == realm("sandbox")));
    let after = store.signing_keys().await.unwrap();
    for key in &before {
        let now = after.iter().find(|now| now.id == key.id).unwrap();
        assert_eq!(now.status, KeyStatus::Revoked);
    }
    let active = after.iter().filter(|key| key.status == KeyStatus::Active);
    assert_eq!(active.count(), 1, "one for the realm that is served");
    store.close().await.unwrap();
    drop(store);

    let (opened, app, admin) = lost.serve().await;
    overtake(&admin).await;
    assert!(!app.introspect(&lost.access).await.active);
    assert!(!app.introspect(&lost.access_before).await.active);
    app.refresh(&lost.refresh).await.unwrap_err();
    let (key, refresh) = &lost.sandbox;
    let refused = opened.world.with_key(key).refresh(refresh).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
    assert_eq!(
        reason(&resume(&admin, &lost.cursor).await),
        "InvalidArgument / CURSOR_INVALID"
    );
    let anew = app.issue_for("user:ann").await;
    assert!(app.introspect(&access_token(anew.tokens.as_ref())).await.active);
    opened.close().await;
}

#[tokio::test]
async fn api_keys_of_the_copy_end_where_that_is_asked_for() {
    let lost = Lost::a_day().await;
    let store: Arc<dyn Store> =
        Arc::new(SledStore::open_restored(&lost.copy, SledOptions::default()).unwrap());
    let server_keys = ServerKeys::new(ServerKey::parse(&lost.server_key).unwrap(), Vec::new());
    let served = Realm {
        name: realm("production"),
        kind: RealmKind::Production,
        issuer: "https://auth.example.org".to_owned(),
        limits: RealmLimits::default(),
        on_policy_loss: OnPolicyLoss::Narrow,
    };
    let restoring = Restoring {
        realms: &[served],
        server_keys: &server_keys,
        revoke_api_keys: true,
        now: SystemClock.now(),
    };
    assert!(
        !end_everything(&store, &restoring)
            .await
            .unwrap()
            .api_keys
            .is_empty()
    );
    store.close().await.unwrap();
    drop(store);
    let (opened, app, _) = lost.serve().await;
    let refused = app.issue(IssueRequest::default()).await.unwrap_err();
    assert!(reason(&refused).contains("CLIENT_AUTH_FAILED"), "{refused:?}");
    opened.close().await;
}

/// A retry of the last refresh after the authority was away for `away`, and back for `back`.
async fn retried(away: Seconds, back: Seconds) -> Result<bool, String> {
    let directory = TempDir::new().unwrap();
    let (path, server_key) = (
        directory.path().join("data"),
        ServerKey::generate().unwrap().to_paserk().to_string(),
    );
    let opened = Opened::at(&path, &server_key).await;
    let app = opened.world.client("production", "app").await;
    let spent = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    app.refresh(&spent).await.unwrap();
    let (key, killed_at) = (app.api_key.clone(), opened.world.clock.now());
    opened.kill().await;

    let opened = Opened::at_time(&path, &server_key, killed_at.plus(away)).await;
    opened.world.clock.advance(back);
    let answer = opened.world.with_key(&key).refresh(&spent).await;
    opened.close().await;
    answer
        .map(|answer| answer.replayed)
        .map_err(|status| reason(&status))
}

#[tokio::test]
async fn time_in_which_nobody_could_answer_does_not_count_against_the_grace_window() {
    let reused = Err("Unauthenticated / REFRESH_TOKEN_REUSED".to_owned());
    assert_eq!(retried(Seconds(12), Seconds(0)).await, Ok(true));
    assert_eq!(retried(Seconds::HOUR, Seconds(9)).await, Ok(true));
    // After the window a repeated token is a theft.
    assert_eq!(retried(Seconds::HOUR, Seconds(11)).await, reused);
    assert_eq!(retried(Seconds(0), Seconds(11)).await, reused);
}
