//! The terms of a session as tables: what is requested, what the realm allows, and what comes of it.

use tessera_core::{Label, RealmKind, RealmLimits, Refreshable, RoleName, Scope};
use tessera_policy::Policy;
use tessera_token::ApiKeySecret;

use super::*;
use crate::testing::{at, client, realm, revision, scopes, session_id};

/// A realm whose sessions live for a day, and whose access tokens for an hour, or ten minutes by default.
fn principal() -> Principal {
    let mut realm = realm();
    realm.limits = RealmLimits {
        access_ttl_default: Seconds(600),
        access_ttl_max: Seconds::HOUR,
        session_ttl_max: Seconds::DAY,
        idle_ttl: Seconds(7200),
        ..RealmLimits::default()
    };
    let secret = ApiKeySecret::generate(RealmKind::Production).unwrap();
    Principal::of(realm, client("client:app"), secret)
}

fn catalogue(audiences: &str) -> Catalogue {
    let text = format!(
        "[realms]\nproduction = \"p\"\n[roles]\n\"role:viewer\" = \"v\"\n[scopes]\n\"videos:read\" = \"r\"\n[audiences]\n{audiences}"
    );
    let rules = "p, role:viewer, production, videos, read, allow\n";
    let model = Policy::default_files()
        .iter()
        .find(|(name, _)| *name == "model.conf")
        .unwrap();
    let files = [
        *model,
        ("catalogue.toml", text.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ];
    Policy::from_files(&files).unwrap().catalogue().clone()
}

fn one_audience() -> Catalogue {
    catalogue("api = \"a\"\n")
}

fn request() -> IssueRequest {
    IssueRequest {
        request_id: None,
        subject: None,
        roles: Vec::new(),
        scopes: ScopeSet::default(),
        audience: None,
        access_ttl: None,
        session_ttl: None,
        labels: Vec::new(),
        require_all: false,
        without_refresh: false,
        refreshable: Refreshable::ByClient,
    }
}

fn audience_named(name: &str) -> IssueRequest {
    IssueRequest {
        audience: Some(Audience::parse(name).unwrap()),
        ..request()
    }
}

fn lives(access: Option<u32>, session: Option<u32>) -> IssueRequest {
    IssueRequest {
        access_ttl: access.map(Seconds),
        session_ttl: session.map(Seconds),
        ..request()
    }
}

#[test]
fn what_the_catalogue_does_not_have_is_refused_with_the_nearest_name() {
    let role = IssueRequest {
        roles: vec![RoleName::parse("role:veiwer").unwrap()],
        ..request()
    };
    let scope = IssueRequest {
        scopes: [Scope::parse("videos:raed").unwrap()].into_iter().collect(),
        ..request()
    };
    for (request, name, expected) in [
        (role, "role:veiwer", "role:viewer"),
        (scope, "videos:raed", "videos:read"),
        (audience_named("apo"), "apo", "api"),
    ] {
        let refused = Terms::check(&principal(), &request, &one_audience())
            .err()
            .unwrap();
        assert!(refused.to_string().contains(name), "{refused}");
        let nearest = match refused {
            IssueError::RoleUnknown { nearest, .. }
            | IssueError::ScopeUnknown { nearest, .. }
            | IssueError::AudienceUnknown { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(nearest.as_deref(), Some(expected));
    }
}

#[test]
fn the_audience_is_named_unless_there_is_only_one() {
    let several = catalogue("api = \"a\"\nplayer = \"p\"\n");
    let of = |request: &IssueRequest, catalogue: &Catalogue| {
        let terms = Terms::check(&principal(), request, catalogue);
        terms
            .map(|terms| terms.audience.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(of(&request(), &one_audience()).unwrap(), "api");
    assert_eq!(of(&audience_named("player"), &several).unwrap(), "player");
    let refused = of(&request(), &several).unwrap_err();
    assert_eq!(refused, "audience must be named, as the catalogue has several");
}

#[test]
fn lives_are_within_the_limits_of_the_realm() {
    let cases = [
        ("the defaults", lives(None, None), Ok((600, 86_400))),
        ("the shortest", lives(Some(1), Some(1)), Ok((1, 1))),
        ("the longest", lives(Some(3600), Some(86_400)), Ok((3600, 86_400))),
        (
            "no access token",
            lives(Some(0), None),
            Err("access_ttl must be between 1s and 1h"),
        ),
        (
            "a longer access token",
            lives(Some(3601), None),
            Err("access_ttl must be between 1s and 1h"),
        ),
        (
            "no session",
            lives(None, Some(0)),
            Err("session_ttl must be between 1s and 1d"),
        ),
        (
            "a longer session",
            lives(None, Some(86_401)),
            Err("session_ttl must be between 1s and 1d"),
        ),
    ];
    for (name, request, expected) in cases {
        let terms = Terms::check(&principal(), &request, &one_audience());
        let given = terms
            .map(|terms| (terms.access_ttl.0, terms.session_ttl.0))
            .map_err(|error| error.to_string());
        assert_eq!(given, expected.map_err(str::to_owned), "{name}");
    }
}

/// The session of a request, whose secret is there if it has a refresh token.
fn session_of(request: &IssueRequest, has_refresh_token: bool, now: Timestamp) -> Session {
    let grant = Grant {
        granted: scopes("videos:read"),
        denied: Vec::new(),
        revision: revision(1),
    };
    let secret = has_refresh_token.then(|| RefreshSecret::generate().unwrap());
    let terms = Terms::check(&principal(), request, &one_audience()).ok().unwrap();
    terms.into_session(&principal(), request, &grant, session_id(1), secret.as_ref(), now)
}

#[test]
fn a_session_ends_with_its_last_token() {
    let half_a_second_later = at(0).plus_millis(500);
    for (name, request, has_refresh_token, absolute, idle) in [
        ("by the limits", request(), true, 86_400, 7200),
        ("short", lives(None, Some(3600)), true, 3600, 3600),
        ("without a refresh token", request(), false, 600, 600),
        (
            "shorter than an access token",
            lives(Some(3600), Some(60)),
            false,
            60,
            60,
        ),
    ] {
        let session = session_of(&request, has_refresh_token, half_a_second_later);
        assert_eq!(session.absolute_until, at(absolute), "{name}: whole seconds");
        assert_eq!(
            session.idle_until,
            half_a_second_later.plus(Seconds(idle)).min(at(absolute)),
            "{name}"
        );
        assert_eq!(session.family.is_some(), has_refresh_token, "{name}");
    }
}

#[test]
fn a_session_has_what_was_requested_and_granted() {
    let request = IssueRequest {
        subject: Some(Subject::parse("user:ann").unwrap()),
        roles: vec![RoleName::parse("role:viewer").unwrap()],
        labels: vec![Label::parse("device:7").unwrap()],
        ..request()
    };
    let session = session_of(&request, true, at(0));
    assert_eq!(session.subject.as_str(), "user:ann");
    assert_eq!((session.roles, session.labels), (request.roles, request.labels));
    assert_eq!(
        (session.scopes, session.policy),
        (scopes("videos:read"), revision(1))
    );
    assert_eq!(session.state, SessionState::Active);
    // Without a subject, the client is its own.
    let own = session_of(&self::request(), true, at(0));
    assert_eq!(own.subject, client("client:app").to_subject());
}
