use tessera_core::{PathError, ScopeSet};

use super::*;
use crate::Policy;

fn routes(text: &str) -> Routes {
    let files: [(&str, &[u8]); 4] = [
        ("model.conf", include_bytes!("../../tests/bad/base/model.conf")),
        (
            "catalogue.toml",
            include_bytes!("../../tests/bad/base/catalogue.toml"),
        ),
        ("policy.csv", include_bytes!("../../tests/bad/base/policy.csv")),
        ("routes.toml", text.as_bytes()),
    ];
    Policy::from_files(&files).unwrap().routes().unwrap().clone()
}

fn scopes(text: &str) -> Access {
    let scopes = text.split(' ').filter(|name| !name.is_empty());
    Access::Token {
        scopes: scopes
            .map(|scope| tessera_core::Scope::parse(scope).unwrap())
            .collect::<ScopeSet>(),
        audience: None,
        realm: None,
    }
}

const ROUTES: &str = r#"
[[route]]
path = "/health"
open = true

[[route]]
host = "admin.example.org"
path = "/*"
scope = "videos:write"

[[route]]
path = "/videos"
methods = ["GET", "HEAD"]
scope = "videos:read"

[[route]]
path = "/videos/{id}/play"
scope = "videos/{id}:play"

[[route]]
path = "/videos/*"
scope = "videos:read videos:write"

[[route]]
path = "/me"
scope = "any"
audience = "api"
realm = "sandbox"
"#;

fn call<'a>(method: &'a str, host: &'a str, target: &'a str) -> Call<'a> {
    Call {
        host: Some(host),
        method: Some(method),
        target,
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let routes = routes(ROUTES);
    let host = "videos.example.org:443";
    for (method, target, expected) in [
        ("GET", "/health?a=b", Ok(Access::Open)),
        ("GET", "/videos", Ok(scopes("videos:read"))),
        ("HEAD", "/videos/", Ok(scopes("videos:read"))),
        ("POST", "/videos", Ok(scopes("videos:read videos:write"))),
        ("GET", "/videos/v1/play?t=1", Ok(scopes("videos/v1:play"))),
        ("GET", "/videos/v1/play/", Ok(scopes("videos/v1:play"))),
        ("GET", "/videos/%761/%70lay", Ok(scopes("videos/v1:play"))),
        ("M-SEARCH", "/videos/v1", Ok(scopes("videos:read videos:write"))),
        ("GET", "/healthy", Err(NoRoute::Unlisted)),
        ("GET", "/HEALTH", Err(NoRoute::Unlisted)),
        ("GET", "/", Err(NoRoute::Unlisted)),
        ("get", "/videos", Err(NoRoute::Method)),
        (
            "GET",
            "/health/../videos",
            Err(NoRoute::Path(PathError::DotSegment)),
        ),
        ("GET", "/videos%2fv1%2fplay", Err(NoRoute::Path(PathError::Slash))),
        ("GET", "//health", Err(NoRoute::Path(PathError::EmptySegment))),
    ] {
        assert_eq!(
            routes.access(&call(method, host, target)),
            expected,
            "{method} {target}"
        );
    }
    let strange = routes.access(&call("GET", host, "/videos/a%20b/play"));
    assert!(matches!(strange, Err(NoRoute::Scope(_))), "{strange:?}");
    let Access::Token {
        audience,
        realm,
        scopes,
    } = routes.access(&call("GET", host, "/me")).unwrap()
    else {
        panic!("open");
    };
    assert_eq!(
        (scopes.len(), audience.unwrap().as_str(), realm.unwrap().as_str()),
        (0, "api", "sandbox")
    );
}

#[test]
fn a_host_is_compared_without_its_spelling() {
    let routes = routes(ROUTES);
    for host in [
        "admin.example.org",
        "ADMIN.example.org:8443",
        "admin.example.org.",
        "admin.example.org.:80",
    ] {
        let access = routes.access(&call("GET", host, "/other"));
        assert_eq!(access, Ok(scopes("videos:write")), "{host}");
    }
    for host in [
        "admin.example.org.evil",
        "xadmin.example.org",
        "[::1]:80",
        "10.0.0.1",
    ] {
        assert_eq!(
            routes.access(&call("GET", host, "/other")),
            Err(NoRoute::Unlisted),
            "{host}"
        );
    }
    for host in [
        "",
        "a b",
        "user@admin.example.org",
        "a,b",
        "a:b",
        "[::1",
        "admin.example.org..",
        "a:1:2",
    ] {
        assert_eq!(
            routes.access(&call("GET", host, "/other")),
            Err(NoRoute::Host),
            "{host}"
        );
    }
}

#[test]
fn what_the_proxy_does_not_say_is_not_guessed() {
    let routes = routes(ROUTES);
    let call = |host, method, target| Call { host, method, target };
    let (host, method) = (Some("videos.example.org"), Some("GET"));
    // Routes of one host decide before those of all hosts: the request may be for that host.
    assert_eq!(
        routes.access(&call(None, None, "/health")),
        Err(NoRoute::HostUnknown)
    );
    assert_eq!(routes.access(&call(host, None, "/health")), Ok(Access::Open));
    assert_eq!(
        routes.access(&call(None, method, "/videos")),
        Err(NoRoute::HostUnknown)
    );
    assert_eq!(
        routes.access(&call(host, None, "/videos")),
        Err(NoRoute::MethodUnknown)
    );
    let play = routes.access(&call(host, None, "/videos/v1/play"));
    assert_eq!(play, Ok(scopes("videos/v1:play")));
}

const HOSTS: &str = r#"
[[route]]
path = "/*"
scope = "videos:read videos:write"

[[route]]
path = "/health"
open = true
host = "*.example.org"

[[route]]
path = "/*"
scope = "any"
host = "*.example.org"

[[route]]
path = "/videos/*"
scope = "videos:write"
host = "admin.example.org"

[[route]]
path = "/*"
scope = "videos:read"
host = "*.eu.example.org"
"#;

#[test]
fn a_host_decides_before_a_wildcard_and_that_before_none() {
    let routes = routes(HOSTS);
    let of_all = || Ok(scopes("videos:read videos:write"));
    for (host, target, expected) in [
        ("admin.example.org", "/videos/v1", Ok(scopes("videos:write"))),
        // If no route of the host matches, those of the wildcard are checked.
        ("admin.example.org", "/health", Ok(Access::Open)),
        ("ADMIN.Example.Org.:8443", "/other", Ok(scopes(""))),
        ("www.example.org", "/videos/v1", Ok(scopes(""))),
        ("www.example.org:443", "/health", Ok(Access::Open)),
        ("a_b-c.example.org", "/health", Ok(Access::Open)),
        // Exactly one label.
        ("example.org", "/health", of_all()),
        ("a.b.example.org", "/health", of_all()),
        ("wwwexample.org", "/health", of_all()),
        ("www.example.org.evil", "/health", of_all()),
        ("a.eu.example.org", "/health", Ok(scopes("videos:read"))),
        ("eu.example.org", "/videos", Ok(scopes(""))),
        ("*.example.org", "/health", Err(NoRoute::Host)),
        (".example.org", "/health", Err(NoRoute::Host)),
    ] {
        assert_eq!(
            routes.access(&call("GET", host, target)),
            expected,
            "{host} {target}"
        );
    }
    let unknown = Call {
        host: None,
        method: Some("GET"),
        target: "/health",
    };
    assert_eq!(routes.access(&unknown), Err(NoRoute::HostUnknown));
}
