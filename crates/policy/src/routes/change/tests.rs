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

/// Each line is a route: `path`, its needs, and optionally its methods, host, audience and realm.
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

/// Each change as a line; `+` is a gain, `-` a loss, `!` a route that is gone.
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
        // The order matters only if routes overlap, and names of parameters never matter.
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
        // No caller is admitted if no route matches.
        ("/a any", "/a any; /b any", vec!["+  /b: refused > any"]),
        ("/a any; /b open", "/a any", vec!["-  /b: open > refused"]),
        ("/a any; /b any", "/a any", vec!["-!  /b: any > refused"]),
    ] {
        assert_eq!(changes(Some(old), Some(new)), expected, "{old} > {new}");
    }
}

#[test]
fn what_remains_of_a_route_is_not_gone() {
    for (old, new, expected) in [
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
        // An earlier route takes requests from later ones.
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
        // A change without an effect is reported too.
        ("/a/* any", "/a/b any; /a/* any", vec!["  /a/b: any > any"]),
        ("/a/b any; /a/* any", "/a/* any", vec!["  /a/b: any > any"]),
        // Two routes may replace one.
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
        // An absent name may be any.
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
        // The order of the file does not matter between hosts.
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
    // Before, Envoy refused what now needs a token, and `/forward-auth` required a token for what is now refused.
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

/// Random files, compared with the needs of all short requests.
#[test]
fn a_comparison_says_what_a_look_at_every_request_says() {
    let mut state = 7_u64;
    let mut pick = move |from: &[&str]| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(state >> 33).unwrap();
        from[number % from.len()].to_owned()
    };
    let targets = paths();
    let mut compared = 0;
    for _ in 0..400 {
        let mut random = || {
            let mut lines = Vec::new();
            for _ in 0..4 {
                let segment = ["/a", "/b", "/{p}", "/{p}", ""];
                let mut path = pick(&segment);
                path += &pick(&["/a", "/{q}", "", "/*"]);
                path = if path.is_empty() { "/".to_owned() } else { path };
                let needs = pick(&["open", "any", "videos:read", "videos:read+videos:write"]);
                let methods = pick(&["", "", "methods=GET", "methods=GET,PUT"]);
                let host = pick(&["", "", "host=a.x", "host=*.x"]);
                lines.push(format!("{path} {needs} {methods} {host}"));
            }
            lines.join(";")
        };
        let (old, new) = (random(), random());
        let [Some(before), Some(after)] = [&old, &new].map(|lines| loaded(&self::file(lines))) else {
            continue;
        };
        compared += 1;
        let found = compare(&before, &after, &Work::unbounded());
        let (mut gains, mut loses) = (false, false);
        for host in ["a.x", "zz.x", "x", "zz"] {
            for method in ["GET", "PUT", "ZZ"] {
                for target in &targets {
                    let call = crate::Call {
                        host: Some(host),
                        method: Some(method),
                        target,
                    };
                    let [before, after] = [&before, &after]
                        .map(|policy| rank(policy.routes().unwrap().access(&call).ok().as_ref()));
                    gains |= after < before;
                    loses |= after > before;
                }
            }
        }
        let told = |is: fn(&RouteChange) -> bool| found.changes.iter().any(is);
        assert_eq!(
            (told(|change| change.gains), told(|change| change.loses)),
            (gains, loses),
            "{old} > {new}"
        );
    }
    assert!(compared > 100, "{compared}");
}

fn loaded(routes: &str) -> Option<Policy> {
    let base = policy(None);
    let files: Vec<(&str, &[u8])> = base
        .sources()
        .iter()
        .chain([("routes.toml", routes.as_bytes())])
        .collect();
    Policy::from_files(&files).ok()
}

/// How much is needed: the needs in this test have an order.
fn rank(access: Option<&crate::Access>) -> usize {
    match access {
        Some(crate::Access::Open) => 0,
        Some(crate::Access::Token { scopes, .. }) => 1 + scopes.len(),
        None => 9,
    }
}

/// Every path of at most three segments, with one that no route names.
fn paths() -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut longest = paths.clone();
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|path| ["a", "b", "zz"].map(|segment| format!("{path}/{segment}")))
            .collect();
        paths.extend(longest.iter().cloned());
    }
    paths[0] = "/".to_owned();
    paths
}
