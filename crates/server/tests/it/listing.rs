//! Sessions in lists.

use std::collections::BTreeSet;

use prost::Message as _;
use tessera_authority::LIST_BYTES_MAX;
use tessera_proto::v1::{IssueRequest, ListSessionsRequest, list_sessions_request::By};
use tessera_testkit::world::{World, viewer};
use tonic_types::StatusExt;

/// Sessions with the maximum number of labels of the maximum length.
async fn issue_large(world: &World, number: usize) -> BTreeSet<String> {
    let app = world.client("production", "app").await;
    let label = |index: usize| format!("{index}{}", "l".repeat(127));
    let mut ids = BTreeSet::new();
    for _ in 0..number {
        let request = IssueRequest {
            labels: (0..8).map(label).collect(),
            ..viewer("user:ann")
        };
        ids.insert(app.issue(request).await.unwrap().session_id);
    }
    ids
}

#[tokio::test]
async fn a_page_ends_where_it_is_full_of_bytes_and_none_is_left_out() {
    let world = World::start().await;
    let issued = issue_large(&world, 300).await;
    let admin = world.client("production", "admin").await;
    let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListSessionsRequest {
            by: Some(By::Subject("user:ann".to_owned())),
            page_size: 500,
            page_token,
        };
        let page = admin
            .sessions()
            .list_sessions(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.encoded_len() <= LIST_BYTES_MAX, "{}", page.encoded_len());
        seen.extend(page.sessions.into_iter().map(|session| session.session_id));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(seen.len(), issued.len(), "each once");
    assert_eq!(BTreeSet::from_iter(seen), issued);
}

#[tokio::test]
async fn a_realm_is_listed_for_who_may_read_sessions_and_without_those_of_others() {
    let world = World::start().await;
    let list = async |realm: &str, client: &str, whole_realm: bool| {
        let request = ListSessionsRequest {
            by: Some(By::WholeRealm(whole_realm)),
            ..ListSessionsRequest::default()
        };
        let client = world.client(realm, client).await;
        let listed = client.sessions().list_sessions(request).await?;
        let sessions = listed.into_inner().sessions.into_iter();
        Ok::<Vec<_>, tonic::Status>(sessions.map(|session| session.subject).collect())
    };
    let app = world.client("production", "app").await;
    for subject in ["user:ann", "user:bob"] {
        app.issue(viewer(subject)).await.unwrap();
    }
    let listed = list("production", "admin", true).await.unwrap();
    assert_eq!(
        BTreeSet::from_iter(listed),
        ["user:ann", "user:bob"].map(str::to_owned).into()
    );
    assert!(list("sandbox", "admin", true).await.unwrap().is_empty());

    let refused = list("production", "app", true).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    let told = ["required", "client", "realm"].map(|name| info.metadata[name].as_str());
    assert_eq!(told, ["tessera/sessions:read", "client:app", "production"]);
    let wrong = list("production", "admin", false).await.unwrap_err();
    assert_eq!(wrong.code(), tonic::Code::InvalidArgument);
}
