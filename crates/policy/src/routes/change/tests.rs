use super::*;
use crate::Policy;

fn policy(routes: Option<&str>) -> Policy {
    let mut files: Vec<(&str, &[u8])> = vec![
        ("model.conf", include_bytes!("../../../tests/bad/base/model.conf")),
        (
            "catalogue.toml",
            b"realms.production = \"p\"\nrealms.sandbox = \"s\"\nroles.\"role:viewer\" = \"x\"\n\
              scopes.\"videos:read\" = \"x\"\nscopes.\"videos:write\" = \"x\"\nscopes.\"videos/{id}:play\" = \"x\"\n\
              audiences.api = \"x\"\naudiences.admin = \"x\"\n",
        ),
        ("policy.csv", b"p, role:viewer, *, videos, read, allow\n"),
    ];
    files.extend(routes.map(|text| ("routes.toml", text.as_bytes())));
    Policy::from_files(&files).unwrap()
}

/// Each line is a route: `path`, what it asks, and perhaps its methods, its host, its audience, its realm.
fn file(lines: &str) -> String {
    let route = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words.next().unwrap();
        let mut text = format!("[[route]]\npath = \"{path}\"\n");
        for word in words {
            text += &match word.split_once('=') {
                None if word == "open" => "open = true\n".to_owned(),
                None => format!("scope = \"{}\"\n", word.replace('+', " ")),
                Some(("methods", methods)) => {
                    let methods: Vec<String> =
                        methods.split(',').map(|method| format!("\"{method}\"")).collect();
                    format!("methods = [{}]\n", methods.join(", "))
                }
                Some((key, value)) => format!("{key} = \"{value}\"\n"),
            };
        }
        text
    };
    lines
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(route)
        .collect()
}

fn shown(demand: &Demand) -> String {
    match demand {
        Demand::Unsaid => "unsaid".to_owned(),
        Demand::Refused => "refused".to_owned(),
        Demand::Open => "open".to_owned(),
        Demand::Token {
            scopes,
            audience,
            realm,
        } => {
            let mut text = if scopes.is_empty() {
                "any".to_owned()
            } else {
                scopes.join("+")
            };
            text += &audience
                .as_ref()
                .map(|name| format!(" audience={name}"))
                .unwrap_or_default();
            text += &realm
                .as_ref()
                .map(|name| format!(" realm={name}"))
                .unwrap_or_default();
            text
        }
    }
}

/// Each change in a line; `+` is a gain, `-` a loss, `!` a route that is gone.
fn changes(old: Option<&str>, new: Option<&str>) -> Vec<String> {
    let (old, new) = (old.map(file), new.map(file));
    let (old, new) = (policy(old.as_deref()), policy(new.as_deref()));
    let changes = compare(&old, &new, &Work::unbounded());
    assert_eq!(changes.total, changes.changes.len());
    let line = |change: &RouteChange| {
        let mut marks = String::new();
        for (mark, is) in [("+", change.gains), ("-", change.loses), ("!", change.is_gone)] {
            marks += if is { mark } else { "" };
        }
        let methods = change.methods.join(",");
        let host = change.host.as_deref().unwrap_or_default();
        let (before, after) = (shown(&change.before), shown(&change.after));
        format!("{marks} {methods} {host}{}: {before} > {after}", change.path)
    };
    changes.changes.iter().map(line).collect()
}

#[test]
fn what_a_route_needs_more_or_less_is_told() {
    for (old, new, expected) in [
        ("/a videos:read", "/a videos:read", vec![]),
        // The order matters only where routes overlap, and names of parameters never.
        ("/a open; /b any", "/b any; /a open", vec![]),
        ("/a/{x} videos/{x}:play", "/a/{id} videos/{id}:play", vec![]),
        (
            "/a videos:read+videos:write",
            "/a videos:write+videos:read",
            vec![],
        ),
        ("/a videos:read", "/a any", vec!["+  /a: videos:read > any"]),
        ("/a any", "/a open", vec!["+  /a: any > open"]),
        ("/a videos:read", "/a open", vec!["+  /a: videos:read > open"]),
        ("/a open", "/a videos:read", vec!["-  /a: open > videos:read"]),
        ("/a any", "/a videos:read", vec!["-  /a: any > videos:read"]),
        (
            "/a videos:read+videos:write",
            "/a videos:read",
            vec!["+  /a: videos:read+videos:write > videos:read"],
        ),
        (
            "/a videos:read",
            "/a videos:write",
            vec!["+-  /a: videos:read > videos:write"],
        ),
        (
            "/a/{x}/{y} videos/{x}:play",
            "/a/{x}/{y} videos/{y}:play",
            vec!["+-  /a/{x}/{y}: videos/{x}:play > videos/{y}:play"],
        ),
        // Nobody is let through where no route matches.
        ("/a any", "/a any; /b any", vec!["+  /b: refused > any"]),
        ("/a any; /b open", "/a any", vec!["-  /b: open > refused"]),
        ("/a any; /b any", "/a any", vec!["-!  /b: any > refused"]),
        // What remains of a route is not gone.
        (
            "/a any",
            "/a any methods=GET",
            vec![" GET /a: any > any", "-  /a: any > refused"],
        ),
        (
            "/a/* any",
            "/a/{id} any",
            vec!["  /a/{id}: any > any", "-  /a/*: any > refused"],
        ),
        (
            "/a any methods=GET",
            "/a any",
            vec![" GET /a: any > any", "+  /a: refused > any"],
        ),
        (
            "/a any methods=GET,PUT",
            "/a any methods=PUT,POST",
            vec!["+ POST /a: refused > any", "- GET /a: any > refused"],
        ),
        // A route that comes first takes requests from those after it.
        (
            "/a/* videos:read",
            "/a/b open; /a/* videos:read",
            vec!["+  /a/b: videos:read > open"],
        ),
        (
            "/a/{id} videos/{id}:play; /a/* any",
            "/a/* any",
            vec!["+  /a/{id}: videos/{id}:play > any"],
        ),
        // Without an effect it is told all the same.
        ("/a/* any", "/a/b any; /a/* any", vec!["  /a/b: any > any"]),
        ("/a/b any; /a/* any", "/a/* any", vec!["  /a/b: any > any"]),
        // Two routes may do what one did.
        (
            "/a/* any",
            "/a any; /a/{x}/* any",
            vec!["  /a: any > any", "  /a/{x}/*: any > any"],
        ),
    ] {
        assert_eq!(changes(Some(old), Some(new)), expected, "{old} > {new}");
    }
}

#[test]
fn tokens_of_another_audience_or_realm_are_a_gain() {
    for (old, new, expected) in [
        ("/a any", "/a any audience=api", "-"),
        ("/a any", "/a any audience=admin", "+-"),
        ("/a any audience=admin", "/a any audience=api", "+-"),
        // What is no longer said may be any.
        ("/a any audience=api", "/a any", "+"),
        ("/a any audience=admin", "/a any", "+-"),
        ("/a any realm=sandbox", "/a any", "+-"),
        ("/a any", "/a any realm=sandbox", "+-"),
        ("/a open", "/a any realm=sandbox", "-"),
    ] {
        let changes = changes(Some(old), Some(new));
        assert!(
            matches!(changes.as_slice(), [change] if change.split(' ').next() == Some(expected)),
            "{old} > {new}: {changes:?}"
        );
    }
}

#[test]
fn hosts_are_told_apart() {
    for (old, new, expected) in [
        (
            "/* any host=a.example.org",
            "/* any host=*.example.org",
            vec![
                "  a.example.org/*: any > any",
                "+  *.example.org/*: refused > any",
            ],
        ),
        (
            "/* videos:read host=*.example.org",
            "/* open host=a.example.org; /* videos:read host=*.example.org",
            vec!["+  a.example.org/*: videos:read > open"],
        ),
        // The order of the file does not count between hosts.
        (
            "/* videos:read; /* any host=*.example.org; /* open host=a.example.org",
            "/* open host=a.example.org; /* any host=*.example.org; /* videos:read",
            vec![],
        ),
        (
            "/* videos:read",
            "/* videos:read; /a open host=a.example.org",
            vec!["+  a.example.org/a: videos:read > open"],
        ),
    ] {
        assert_eq!(changes(Some(old), Some(new)), expected, "{old} > {new}");
    }
}

#[test]
fn a_file_that_comes_or_goes_changes_what_all_requests_need() {
    assert_eq!(changes(None, None), Vec::<String>::new());
    // Envoy refused what is asked for a token now, and `/forward-auth` asked for a token what is refused now.
    assert_eq!(
        changes(None, Some("/a videos:read")),
        ["+-  /a: unsaid > videos:read", "-  /*: unsaid > refused"]
    );
    assert_eq!(
        changes(Some("/a videos:read; /b open"), None),
        [
            "+-!  /a: videos:read > unsaid",
            "-  /b: open > unsaid",
            "+  /*: refused > unsaid"
        ]
    );
}
