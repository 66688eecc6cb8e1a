//! A server key is replaced while the authority serves.

use std::sync::Arc;

use tessera_authority::SetupError;
use tessera_core::{Clock, Seconds};
use tessera_proto::v1::IssueRequest;
use tessera_store::{MemoryStore, Store};
use tessera_testkit::world::{Setup, World, access_token, refresh_token};
use tessera_token::{ServerKey, ServerKeys};

struct Keys(Vec<String>);

impl Keys {
    fn new() -> Self {
        let new = || ServerKey::generate().unwrap().to_paserk().to_string();
        Self((0..2).map(|_| new()).collect())
    }

    fn key(&self, number: usize) -> ServerKey {
        ServerKey::parse(&self.0[number]).unwrap()
    }

    fn id(&self, number: usize) -> String {
        self.key(number).id().to_owned()
    }
}

#[tokio::test]
async fn what_was_made_before_goes_on_and_nothing_is_left_sealed_by_the_key_before() {
    let keys = Keys::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let setup = |server_key| Setup {
        store: store.clone(),
        server_key,
        ..Setup::default()
    };
    let world = World::with(setup(keys.key(0))).await;
    let app = world.client("production", "app").await;
    let once = IssueRequest {
        request_id: "0198a3a8-7d59-7000-8000-000000000001".to_owned(),
        ..IssueRequest::default()
    };
    let issued = app.issue(once.clone()).await.unwrap();
    let first = refresh_token(issued.tokens.as_ref());
    let other = app.issue_for("user:ann").await;
    let spent = refresh_token(other.tokens.as_ref());
    let successor = app.refresh(&spent).await.unwrap();

    // Without the previous key, nothing could be signed.
    let alone = ServerKeys::new(keys.key(1), vec![]);
    let alone = world.authority.signing_keys().replace_server_keys(alone).await;
    let Err(SetupError::ServerKeyMissing { id, signing_keys: 2 }) = alone else {
        panic!("{alone:?}")
    };
    assert_eq!(id, keys.id(0));
    app.issue(IssueRequest::default()).await.unwrap();

    world.clock.advance(Seconds(5));
    let both = ServerKeys::new(keys.key(1), vec![keys.key(0)]);
    let replaced = world.authority.signing_keys().replace_server_keys(both);
    assert_eq!(replaced.await.unwrap(), 2);
    for key in store.signing_keys().await.unwrap() {
        assert_eq!(key.sealed_with, keys.id(1));
    }
    let status = world.authority.signing_keys().server_key_status();
    assert_eq!((&status.current, status.signing_keys), (&keys.id(1), 2));
    let [before] = &status.previous[..] else {
        panic!("{status:?}")
    };
    assert_eq!((&before.id, before.signing_keys), (&keys.id(0), 0));
    assert_eq!(
        before.refresh_tokens_until,
        world.clock.now().plus(Seconds::days(30))
    );

    // Earlier tokens are verified, refreshed, and returned again; new ones use the new key.
    assert!(app.introspect(&access_token(issued.tokens.as_ref())).await.active);
    let again = app.refresh(&spent).await.unwrap();
    assert!(again.replayed && again.generation == successor.generation);
    let retried = app.issue(once).await.unwrap();
    assert_eq!(refresh_token(retried.tokens.as_ref()), first);
    let second = app.refresh(&first).await.unwrap();
    assert_eq!(second.generation, 2);
    let third = app.refresh(&refresh_token(second.tokens.as_ref())).await.unwrap();

    // Starts with the new key alone.
    let world = World::with(setup(keys.key(1))).await;
    let app = world.with_key(&app.api_key);
    let fourth = app.refresh(&refresh_token(third.tokens.as_ref())).await.unwrap();
    assert_eq!(fourth.generation, 4);
}
