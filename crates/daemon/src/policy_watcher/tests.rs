//! The effect of single checks: no other check runs.

use std::fs;

use tempfile::TempDir;
use tessera_authority::{AttemptOutcome, Options};
use tessera_core::{ManualClock, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, Timestamp};
use tessera_policy::Policy;
use tessera_store::MemoryStore;
use tessera_token::{ServerKey, ServerKeys};

use super::*;

const A: &str = "p, role:viewer, *, videos, read, allow\n";
const B: &str = "p, role:viewer, sandbox, videos, read, allow\n";
const MISTAKE: &str = "p, role:viewer, *, videos, read, Allow\n";

/// A directory with the policy `A`, and its authority.
async fn world() -> (TempDir, Arc<Authority>) {
    let directory = TempDir::new().unwrap();
    for (name, bytes) in Policy::default_files() {
        if !name.starts_with("tests/") {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
    }
    write(&directory, A);
    let realm = Realm {
        name: RealmName::parse("production").unwrap(),
        kind: RealmKind::Production,
        issuer: "https://auth.example.org".to_owned(),
        limits: RealmLimits::default(),
        on_policy_loss: OnPolicyLoss::Narrow,
    };
    let authority = Authority::open(Options {
        store: Arc::new(MemoryStore::new()),
        policy: Policy::load(directory.path()).unwrap(),
        policy_directory: Some(directory.path().to_owned()),
        realms: vec![realm],
        server_keys: Arc::new(ServerKeys::new(ServerKey::generate().unwrap(), Vec::new())),
        key_rotation: tessera_authority::KeyRotation::default(),
        clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1_795_000_000))),
        token_bytes_max: tessera_core::limits::TOKEN_BYTES_DEFAULT,
        verified_tokens_max: 10,
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: Options::STALENESS_BOUND_MAX,
    });
    (directory, authority.await.unwrap())
}

fn write(directory: &TempDir, rules: &str) {
    fs::write(directory.path().join("policy.csv"), rules).unwrap();
}

fn in_force(authority: &Authority) -> PolicyRevision {
    *authority.policy().revision()
}

fn outcome(authority: &Authority) -> AttemptOutcome {
    authority.policies().policy_status().last_attempt.outcome
}

#[tokio::test]
async fn a_policy_that_was_in_force_before_is_put_in_force_again() {
    let (directory, authority) = world().await;
    let mut watcher = PolicyWatcher::new(&authority, directory.path());
    let a = in_force(&authority);
    write(&directory, B);
    watcher.look().await;
    let b = in_force(&authority);
    assert_ne!(a, b);
    // Between two checks: `A` by a call, and `B` again.
    write(&directory, A);
    authority.policies().reload(Trigger::Call).await.unwrap();
    assert_eq!(in_force(&authority), a);
    write(&directory, B);
    watcher.look().await;
    assert_eq!(in_force(&authority), b);
    // Nothing changed since, so the files are not read as a policy again.
    watcher.look().await;
    assert_eq!(outcome(&authority), AttemptOutcome::Applied);
}

#[tokio::test]
async fn a_mistake_is_reported_once_until_there_was_something_else() {
    let (directory, authority) = world().await;
    let mut watcher = PolicyWatcher::new(&authority, directory.path());
    let refused = || authority.policies().policy_status().refused;
    write(&directory, MISTAKE);
    for _ in 0..3 {
        watcher.look().await;
        assert_eq!(refused(), 1);
    }
    // The policy in force is in the directory again: the refusal is over.
    write(&directory, A);
    watcher.look().await;
    assert_eq!(outcome(&authority), AttemptOutcome::Unchanged);
    write(&directory, B);
    authority.policies().reload(Trigger::Call).await.unwrap();
    write(&directory, MISTAKE);
    for _ in 0..3 {
        watcher.look().await;
        assert_eq!(refused(), 2);
    }
}
