//! Decisions that depended on the client's permissions, and not on the requested scopes.

use tessera_core::OnPolicyLoss;
use tessera_proto::v1::{ExplainRequest, Explanation, ReloadRequest, explain_request::About};
use tessera_testkit::world::{Client, Setup, World, reason, refresh_token, viewer};
use tonic::Status;
use tonic_types::StatusExt;

async fn explained(admin: &Client, error: &Status) -> Vec<Explanation> {
    let info = error.get_details_error_info().unwrap();
    let decision = info.metadata["decision_id"].clone();
    let about = Some(About::DecisionId(decision));
    let explained = admin.policies().explain(ExplainRequest { about }).await.unwrap();
    let explanations = explained.into_inner().explanations;
    let revisions = explanations.iter().map(|one| &one.policy_revision);
    assert!(
        revisions
            .into_iter()
            .all(|one| *one == info.metadata["policy_revision"])
    );
    explanations
}

#[tokio::test]
async fn a_client_that_may_not_assert_a_role_is_told_by_which_decision() {
    let world = World::start().await;
    let other = world.client("production", "other").await;
    let admin = world.client("production", "admin").await;
    let refused = other.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let explanations = explained(&admin, &refused).await;
    assert!(!explanations[0].allowed);
    assert_eq!(explanations[0].subject, "client:other");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(explanations[0].scope, info.metadata["required"]);
}

#[tokio::test]
async fn a_refresh_that_was_denied_for_want_of_the_right_to_assert_is_explained_as_denied() {
    let world = World::with(Setup {
        on_policy_loss: OnPolicyLoss::Expire,
        ..Setup::default()
    });
    let world = world.await;
    let app = world.client("production", "app").await;
    let admin = world.client("production", "admin").await;
    let session = app.issue(viewer("user:ann")).await.unwrap();
    world.policy.take("p, client:app, *, tessera/roles/role:viewer");
    admin.policies().reload(ReloadRequest {}).await.unwrap();
    let denied = app
        .refresh(&refresh_token(session.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&denied), "PermissionDenied / SCOPE_DENIED");
    let [explanation] = &explained(&admin, &denied).await[..] else {
        panic!("one permission was missing")
    };
    assert!(!explanation.allowed, "{explanation:?}");
    assert_eq!(explanation.subject, "client:app");
    assert_eq!(explanation.scope, "tessera/roles/role:viewer:assert");
}
