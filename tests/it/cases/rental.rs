//! A shop rents out films: for each rental a token for one film, for one day.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use tessera_proto::v1::{IssueRequest, IssueResponse, RefreshRequest, revoke_request::Target};
use tonic::Status;

use super::{Case, ask, ask_as, refusal, refused, seconds, texts, tokens};
use crate::{
    offline::Verifier,
    support::{Client, Service, soon},
};

const DAY: i64 = 24 * 60 * 60;

/// The shop's request when ann rents.
fn rental(scopes: &[&str]) -> IssueRequest {
    IssueRequest {
        session_ttl: seconds(DAY),
        labels: texts(&["rental:r_9"]),
        ..ask_as("role:renter", "user:ann", scopes)
    }
}

#[tokio::test]
async fn a_rental_is_a_token_for_one_film() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    let rented = tokens(&shop, rental(&["videos/v42:play"])).await;
    assert_eq!((rented.expires_in, rented.refresh_expires_in), (3600, 86_400));

    let claims = Verifier::fetch(&case.authority.address)
        .await
        .verify(&rented.access_token)
        .unwrap();
    assert_eq!(
        (claims["sub"].as_str(), claims["aud"].as_str()),
        (Some("user:ann"), Some("player"))
    );
    assert_eq!(claims["scope"], "videos/v42:play");
    assert_eq!(claims["labels"][0], "rental:r_9");
    // The administrator sees the token; the studio, another client, does not.
    assert!(case.admin.introspect(&rented.access_token).await.active);
    assert!(
        !case
            .service("studio")
            .await
            .introspect(&rented.access_token)
            .await
            .active
    );
}

/// A refresh that names its scopes.
async fn refresh_for(shop: &Client, token: &str, scope: &str) -> Result<Vec<String>, Status> {
    let request = RefreshRequest {
        refresh_token: token.to_owned(),
        scopes: texts(&[scope]),
        ..RefreshRequest::default()
    };
    let refreshed = shop.tokens().refresh(request).await?.into_inner();
    Ok(refreshed.tokens.unwrap().scopes)
}

#[tokio::test]
async fn another_film_needs_another_rental() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    let rented = tokens(&shop, rental(&["videos/v42:play"])).await;
    for more in ["videos/v43:play", "videos/cinema/v99:play", "videos:write"] {
        let asked = refresh_for(&shop, &rented.refresh_token, more).await;
        assert_eq!(refused(asked), "SCOPE_EXCEEDS_GRANT", "{more}");
    }
    // The refused requests spent nothing.
    let again = refresh_for(&shop, &rented.refresh_token, "videos/v42:play").await;
    assert_eq!(again.unwrap(), ["videos/v42:play"]);
}

#[tokio::test]
async fn the_end_is_a_day_away_and_no_refresh_moves_it() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    let IssueResponse {
        tokens, session_id, ..
    } = shop.issue(rental(&["videos/v42:play"])).await.unwrap();
    let began = case.session(&session_id).await;
    let end = began.absolute_expire_time.unwrap();
    assert_eq!(end.seconds - began.create_time.unwrap().seconds, DAY);

    let mut token = tokens.unwrap().refresh_token;
    for _ in 0..3 {
        token = shop.refresh(&token).await.unwrap().tokens.unwrap().refresh_token;
        assert_eq!(case.session(&session_id).await.absolute_expire_time.unwrap(), end);
    }
    // Ann gets a refund: the shop ends the session that it began.
    assert_eq!(
        shop.revoke(Target::SessionId(session_id)).await.unwrap().matched,
        1
    );
    assert_eq!(refused(shop.refresh(&token).await), "SESSION_REVOKED");
}

#[tokio::test]
async fn no_refresh_outlives_the_rental() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    // A day of two seconds, and a viewer that refreshes without a pause.
    let short = IssueRequest {
        session_ttl: seconds(2),
        ..rental(&["videos/v42:play"])
    };
    let mut last = tokens(&shop, short).await;
    let refused = soon("the end of the rental", async {
        loop {
            assert!(last.expires_in <= 2 && last.refresh_expires_in <= 2, "{last:?}");
            match shop.refresh(&last.refresh_token).await {
                Ok(refreshed) => last = refreshed.tokens.unwrap(),
                Err(refused) => break refused,
            }
        }
    });
    assert_eq!(crate::support::reason(&refused.await), "SESSION_EXPIRED");
    assert!(!shop.introspect(&last.access_token).await.active);
}

#[tokio::test]
async fn the_shop_gives_away_rentals_and_nothing_else() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    assert_eq!(
        refusal(&shop, rental(&["videos/cinema/v99:play"])).await,
        "SCOPE_DENIED"
    );
    assert_eq!(refusal(&shop, rental(&["videos:write"])).await, "SCOPE_DENIED");
    assert_eq!(refusal(&shop, rental(&["videos/*:play"])).await, "FIELD_INVALID");
    assert_eq!(
        refusal(&shop, rental(&["videos/v42:download"])).await,
        "SCOPE_UNKNOWN"
    );
    // A request that names no film is granted none.
    assert_eq!(refusal(&shop, rental(&[])).await, "SCOPE_DENIED");
    let unrented = ask("user:ann", &["videos/v42:play"]);
    assert_eq!(refusal(&shop, unrented).await, "SCOPE_DENIED");
    let studio = ask_as("role:studio", "user:ann", &["videos:write"]);
    assert_eq!(refusal(&shop, studio).await, "CALL_NOT_ALLOWED");
    for not_a_viewer in ["client:studio", "client:dev"] {
        let asked = ask_as("role:renter", not_a_viewer, &["videos/v42:play"]);
        assert_eq!(refusal(&shop, asked).await, "CALL_NOT_ALLOWED");
    }
    assert_eq!(
        refusal(&shop, ask("", &["videos/v42:play"])).await,
        "SCOPE_DENIED"
    );
    // The studio writes, and rents out nothing.
    let studio = case.service("studio").await;
    assert_eq!(tokens(&studio, ask("", &[])).await.scopes, ["videos:write"]);
    assert_eq!(
        refusal(&studio, rental(&["videos/v42:play"])).await,
        "CALL_NOT_ALLOWED"
    );
}

#[tokio::test]
async fn a_film_in_cinemas_is_left_out_and_said_to_be() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    let both = rental(&["videos/v42:play", "videos/cinema/v99:play"]);
    let issued = shop.issue(both.clone()).await.unwrap();
    assert_eq!(issued.tokens.unwrap().scopes, ["videos/v42:play"]);
    assert_eq!(issued.denied.len(), 1);
    assert_eq!(issued.denied[0].scope, "videos/cinema/v99:play");
    assert!(
        issued.denied[0].reason.contains("policy.csv"),
        "{}",
        issued.denied[0].reason
    );
    let all_or_nothing = IssueRequest {
        require_all: true,
        ..both
    };
    assert_eq!(refusal(&shop, all_or_nothing).await, "SCOPE_DENIED");
}

/// The example service, which requires the scope of the requested film.
#[tokio::test]
async fn a_player_plays_what_was_rented() {
    let case = Case::start("rental").await;
    let shop = case.service("shop").await;
    let rented = tokens(&shop, rental(&["videos/v42:play"])).await;
    let api_key = case.authority.api_key("production");
    let reach = [
        ("TESSERA_ADDR", &*case.authority.address),
        ("TESSERA_API_KEY", &api_key),
    ];
    let player = Service::start("player", &reach);
    let get = |path: &str| get(&player.place.1, path, &rented.access_token);
    let played = get("/videos/v42/play");
    assert!(played.ends_with("film v42 for user:ann\n"), "{played}");
    let other = get("/videos/v43/play");
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    assert!(other.contains(r#"scope="videos/v43:play""#), "{other}");
    for path in ["/videos/v43%2f..%2fv42/play", "/videos/v42;a/play"] {
        let unclear = get(path);
        assert!(unclear.starts_with("HTTP/1.1 403"), "{path}: {unclear}");
    }
}

/// The complete answer of a service at `place` to a request with this token.
fn get(place: &str, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(place.trim_start_matches("http://")).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: player\r\nconnection: close\r\n");
    let request = format!("{head}authorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
