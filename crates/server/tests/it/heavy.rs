//! Long work with policies ends when its caller has left, and leaves resources for others.

use std::{fmt::Write, time::Duration};

use tessera_proto::v1::{PlanRequest, PolicyFile};
use tessera_testkit::{
    soon,
    world::{Client, World, reason},
};
use tokio::task::JoinSet;
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// How many calls of one client may run or wait.
const OF_ONE_CLIENT_MAX: usize = 8;

/// A policy with many rules with misspelled scopes: for each, the nearest of many names is searched.
fn slow_files(world: &World) -> Vec<PolicyFile> {
    let names = (0..8_000).fold(String::new(), |mut text, number| {
        writeln!(text, "\"movies{number}:read\" = \"x\"").unwrap();
        text
    });
    let rules = (0..4_000).fold(String::new(), |mut text, number| {
        writeln!(text, "p, role:viewer, *, moveis{number}, read, allow").unwrap();
        text
    });
    files(world, &names, &rules)
}

/// The files in force, with more scopes and rules.
fn files(world: &World, scopes: &str, rules: &str) -> Vec<PolicyFile> {
    let read = |name: &str| std::fs::read_to_string(world.policy.path().join(name)).unwrap();
    let catalogue = read("catalogue.toml").replace("[scopes]\n", &format!("[scopes]\n{scopes}"));
    let files = [
        ("model.conf", read("model.conf")),
        ("catalogue.toml", catalogue),
        ("policy.csv", read("policy.csv") + rules),
    ];
    files
        .map(|(name, content)| PolicyFile {
            name: name.to_owned(),
            content: content.into_bytes(),
        })
        .to_vec()
}

async fn plan(client: Client, files: Vec<PolicyFile>) -> Result<(), Status> {
    client.policies().plan(PlanRequest { files }).await.map(|_| ())
}

/// Waits until this number of tasks run.
async fn runs(world: &World, expected: usize) {
    let what = format!("{expected} running");
    soon(&what, async {
        while world.authority.policies().policy_work_running() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn with_another_reader() -> (World, Client, Client) {
    let world = World::start().await;
    world
        .policy
        .add("p, client:app, production, tessera/policies, read, allow");
    world
        .authority
        .policies()
        .reload(tessera_authority::Trigger::Call)
        .await
        .unwrap();
    let (admin, other) = (
        world.client("production", "admin").await,
        world.client("production", "app").await,
    );
    (world, admin, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_whose_callers_leave_leave_nothing_running() {
    let (world, admin, other) = with_another_reader().await;
    let (slow, quick) = (slow_files(&world), files(&world, "", ""));
    let mut calls = JoinSet::new();
    for _ in 0..3 * OF_ONE_CLIENT_MAX {
        calls.spawn(plan(admin.clone(), slow.clone()));
    }
    for _ in 0..2 * OF_ONE_CLIENT_MAX {
        let refused = soon("a refusal", calls.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap_err();
        assert_eq!(reason(&refused), "Unavailable / OVERLOADED");
        assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    // One client has one task in progress, and others are served meanwhile.
    runs(&world, 1).await;
    soon("another's plan", plan(other, quick.clone())).await.unwrap();
    assert_eq!(
        (world.authority.policies().policy_work_running(), calls.len()),
        (1, OF_ONE_CLIENT_MAX)
    );
    calls.shutdown().await;
    runs(&world, 0).await;
    soon("a plan afterwards", plan(admin, quick)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_ends_with_its_deadline() {
    let (world, admin, _) = with_another_reader().await;
    let mut request = Request::new(PlanRequest {
        files: slow_files(&world),
    });
    request.set_timeout(Duration::from_millis(500));
    let late = admin.policies().plan(request).await.unwrap_err();
    // The server, or the client's own timer, may be first.
    let codes = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled];
    assert!(codes.contains(&late.code()), "{late}");
    runs(&world, 0).await;
}
