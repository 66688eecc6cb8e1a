//! All possible errors in a request to an endpoint. The rest of each request is valid, so that a request that is
//! accepted despite its error has the effect of a valid one, which the test then detects.

use super::{
    endpoint::{Endpoint, Kind, Row, Secrets, Told},
    wire::{Ask, basic},
};

/// All errors in requests to an endpoint.
pub(super) fn all(endpoint: &Endpoint, secrets: &Secrets) -> Vec<Row> {
    let kinds = [methods, paths, types, charsets, bodies, authorizations];
    let rows = kinds.iter().flat_map(|kind| kind(endpoint));
    rows.chain(queries(endpoint, secrets)).collect()
}

fn row(name: impl Into<String>, ask: Ask, told: Told) -> Row {
    Row {
        name: name.into(),
        ask,
        told,
    }
}

fn methods(endpoint: &Endpoint) -> Vec<Row> {
    let is_get = endpoint.good.method == "GET";
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "BREW", "get", "post",
    ];
    let others = methods
        .into_iter()
        .filter(|method| *method != endpoint.good.method);
    let rows = others.map(|method| {
        let told = match method {
            "HEAD" if is_get => Told::Empty(200),
            "HEAD" => Told::Empty(405),
            // The answer to a browser's preflight request: it allows nothing. A proxy would treat it as a permission.
            "OPTIONS" if !matches!(endpoint.kind, Kind::Proxy) => Told::Empty(200),
            _ => Told::Problem(405, "METHOD_NOT_ALLOWED"),
        };
        row(method, endpoint.good.method(method), told)
    });
    rows.collect()
}

fn paths(endpoint: &Endpoint) -> Vec<Row> {
    let path = &endpoint.good.target;
    let first = path.as_bytes()[1];
    let others = [
        format!("{path}/"),
        format!("/{path}"),
        format!("{path}//"),
        format!("/nowhere/%2e%2e{path}"),
        path.to_uppercase(),
        format!("/%{first:02x}{}", &path[2..]),
        format!("/%2f{}", &path[1..]),
        format!("/.{path}"),
        format!("/nowhere/..{path}"),
        format!("{path}/.."),
        format!("{path};a=b"),
        format!("{path}%00"),
        format!("{path}%ff"),
        format!("{path}%20"),
    ];
    let rows = others.into_iter().map(|other| {
        let told = if matches!(endpoint.kind, Kind::Proxy) && other.starts_with(&format!("{path}/")) {
            // The rest of the path is checked, for which there is no rule.
            Told::Problem(403, "CALL_NOT_ALLOWED")
        } else {
            Told::Problem(404, "NOT_FOUND")
        };
        row(other.clone(), endpoint.good.target(other), told)
    });
    rows.collect()
}

/// Credentials in a query, beside the valid ones.
fn queries(endpoint: &Endpoint, secrets: &Secrets) -> Vec<Row> {
    let told = match endpoint.kind {
        Kind::Login { .. } | Kind::Form { .. } => endpoint.unread(400, "BAD_REQUEST"),
        // No parameter of a route's requirement may be ignored: a misspelt one would open the route.
        Kind::Open | Kind::Proxy => endpoint.malformed(),
    };
    let (key, refresh_token) = (&secrets.api_key, &secrets.refresh_token);
    let mut queries = vec![
        format!("apiKey={key}"),
        format!("refreshToken={refresh_token}"),
        format!("access_token={}", secrets.access_token),
        format!("client_id=app&client_secret={key}"),
        format!("token={}", secrets.oauth_refresh_token),
        format!("{key}={key}"),
        key.clone(),
        "%ff=%00".to_owned(),
    ];
    if matches!(endpoint.kind, Kind::Proxy) {
        let wrong = [
            "scope=",
            "scope=any&scope=any",
            "scope=%ff",
            "realm=%00",
            "scop=any",
        ];
        queries.extend(wrong.map(str::to_owned));
        queries.push(format!("scope={key}"));
        queries.push(format!("scope=any&access_token={key}"));
    }
    let rows = queries.into_iter().map(|query| {
        let target = format!("{}?{query}", endpoint.good.target);
        row(query, endpoint.good.target(target), told)
    });
    rows.collect()
}

/// At the logins no content type is wrong: one client sends its JSON as text, curl as a form.
fn types(endpoint: &Endpoint) -> Vec<Row> {
    let types: [&[u8]; 9] = [
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"text/plain",
        b"text/plain;charset=UTF-8",
        b"multipart/form-data; boundary=x",
        b"application/xml",
        b"nonsense",
        b"",
        b"\xff\xfe",
    ];
    let form = b"application/x-www-form-urlencoded";
    let wrong = types
        .into_iter()
        .filter(|kind| !matches!(endpoint.kind, Kind::Form { .. }) || *kind != form);
    let (ask, told) = match endpoint.kind {
        Kind::Form { .. } => (endpoint.good.clone(), endpoint.malformed()),
        _ => harmless(endpoint),
    };
    let mut rows: Vec<_> = wrong
        .map(|kind| {
            let name = format!("type {}", String::from_utf8_lossy(kind));
            row(name, ask.header("content-type", [kind]), told)
        })
        .collect();
    let (ask, told) = harmless(endpoint);
    rows.push(row("no type", ask.header("content-type", []), told));
    rows
}

fn charsets(endpoint: &Endpoint) -> Vec<Row> {
    let Some((_, kind)) = endpoint
        .good
        .headers
        .iter()
        .find(|(name, _)| *name == "content-type")
    else {
        return Vec::new();
    };
    let with = |ask: &Ask, parameter: &str| {
        ask.header(
            "content-type",
            [[&kind[..], b";", parameter.as_bytes()].concat().as_slice()],
        )
    };
    let (ask, told) = harmless(endpoint);
    let right = [
        "charset=utf-8",
        " charset=\"UTF-8\"",
        "a=b; Charset=Utf-8",
        "charset=us-ascii",
        "charset=iso-8859-1",
        " charset=latin1",
    ];
    let right = right
        .iter()
        .map(|parameter| row(*parameter, with(&ask, parameter), told));
    let wrong = [
        "charset=utf-16",
        "charset=\"utf-16\"",
        "a=b ; CHARSET=utf-7",
        "charset=nonsense",
        "charset=",
        "charset=utf-8;charset=utf-16",
    ];
    let told = endpoint.unread(400, "BAD_REQUEST");
    let wrong = wrong
        .iter()
        .map(|parameter| row(*parameter, with(&endpoint.good, parameter), told));
    right.chain(wrong).collect()
}

/// A request of the correct form that changes nothing, and its answer.
fn harmless(endpoint: &Endpoint) -> (Ask, Told) {
    let good = &endpoint.good;
    match endpoint.kind {
        Kind::Login { member, wrong } => {
            let ask = good.body(format!(r#"{{"{member}":"wrong"}}"#));
            (ask, Told::Problem(400, wrong))
        }
        Kind::Form { .. } => {
            let ask = good.header("authorization", [&b"Bearer wrong"[..]]);
            (ask, Told::OAuth(401, "invalid_client"))
        }
        Kind::Open | Kind::Proxy => (good.clone(), Told::Good),
    }
}

fn bodies(endpoint: &Endpoint) -> Vec<Row> {
    let good = String::from_utf8(endpoint.good.body.clone()).unwrap();
    let mut wrong: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("NUL bytes", vec![0; 100]),
        ("no UTF-8", b"\xff\xfe\xfd".to_vec()),
        ("a BOM", format!("\u{feff}{good}").into_bytes()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("60,000 levels", vec![b'['; 60_000]),
        ("XML", b"<?xml version='1.0'?><apiKey>x</apiKey>".to_vec()),
    ];
    match endpoint.kind {
        Kind::Login { member, .. } => wrong.extend(no_object(member, &good)),
        Kind::Form { needs } => wrong.extend(no_form(needs, &good)),
        Kind::Open | Kind::Proxy => {}
    }
    // If nothing is read, nothing is wrong and nothing is too large.
    let (malformed, too_large) = match endpoint.kind {
        Kind::Open | Kind::Proxy => (Told::Good, Told::Good),
        Kind::Login { .. } | Kind::Form { .. } => {
            (endpoint.malformed(), endpoint.unread(413, "PAYLOAD_TOO_LARGE"))
        }
    };
    let mut rows: Vec<_> = wrong
        .into_iter()
        .map(|(name, body)| row(name, endpoint.good.body(body), malformed))
        .collect();
    let padded = format!("{good}{}", " ".repeat(65_537 - good.len()));
    let deep = vec![b'['; 100_000];
    rows.push(row("a byte too much", endpoint.good.body(padded), too_large));
    rows.push(row("100,000 levels", endpoint.good.body(deep), too_large));
    let (ask, told) = harmless(endpoint);
    let mut just_so = ask.body.clone();
    just_so.resize(65_536, b' ');
    rows.push(row("as much as may be", ask.body(just_so), told));
    rows
}

/// Bodies that are not a JSON object whose one member is a text.
fn no_object(member: &str, good: &str) -> Vec<(&'static str, Vec<u8>)> {
    let secret = good.split('"').nth(3).unwrap();
    let escaped = format!("\\u{:04x}{}", member.as_bytes()[0], &member[1..]);
    let texts = [
        ("half of it", good[..good.len() / 2].to_owned()),
        ("all but its end", good[..good.len() - 1].to_owned()),
        ("an empty array", "[]".to_owned()),
        ("an array with the secret", format!(r#"["{secret}"]"#)),
        ("an array with the object", format!("[{good}]")),
        ("the secret alone", format!(r#""{secret}""#)),
        ("a number", "1".to_owned()),
        ("null", "null".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("the member a number", format!(r#"{{"{member}":1}}"#)),
        ("the member null", format!(r#"{{"{member}":null}}"#)),
        ("the member an array", format!(r#"{{"{member}":["{secret}"]}}"#)),
        ("the member an object", format!(r#"{{"{member}":{good}}}"#)),
        (
            "the member deep",
            format!(r#"{{"{member}":{}"#, "[".repeat(60_000)),
        ),
        (
            "the member twice",
            format!(r#"{{"{member}":"{secret}","{member}":"{secret}"}}"#),
        ),
        (
            "the member twice, once escaped",
            format!(r#"{{"{member}":"x","{escaped}":"{secret}"}}"#),
        ),
        ("another case", good.replacen(member, &member.to_uppercase(), 1)),
        ("two objects", format!("{good}{good}")),
        ("more after it", format!("{good},")),
        ("a NUL after it", format!("{good}\0")),
        ("a NUL in it", good.replacen(secret, &format!("{secret}\0"), 1)),
        ("a comma too many", good.replace('}', ",}")),
        ("a comment", format!("/**/{good}")),
        ("other quotes", good.replace('"', "'")),
        (
            "half a surrogate pair",
            good.replacen(secret, &format!("{secret}\\ud800"), 1),
        ),
        ("a form", format!("{member}={secret}")),
    ];
    let mut bodies: Vec<_> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    bodies.push((
        "no UTF-8 in the secret",
        [b"{\"", member.as_bytes(), b"\":\"\xff\"}"].concat(),
    ));
    bodies.push((
        "no UTF-8 beside it",
        [&good.as_bytes()[..good.len() - 1], b",\"\xff\":1}"].concat(),
    ));
    bodies
}

/// Bodies that are not a form with its one parameter.
fn no_form(needs: &str, good: &str) -> Vec<(&'static str, Vec<u8>)> {
    let escaped = format!("%{:02x}{}", needs.as_bytes()[0], &needs[1..]);
    let texts = [
        ("a broken name", needs[..needs.len() - 1].to_owned()),
        ("JSON", format!(r#"{{"{needs}":"x"}}"#)),
        ("an array", format!(r#"["{good}"]"#)),
        ("null", "null".to_owned()),
        ("everything twice", format!("{good}&{good}")),
        ("twice, once escaped", format!("{good}&{escaped}=x")),
        (
            "credentials twice",
            format!("{good}&client_secret=a&client_secret=b"),
        ),
        ("credentials in two places", format!("{good}&client_secret=x")),
        ("another case", good.to_uppercase()),
        ("a NUL before it", format!("\0{good}")),
    ];
    let mut bodies: Vec<_> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    bodies.push(("no UTF-8 beside it", [good.as_bytes(), b"&x=\xff"].concat()));
    bodies.push(("no UTF-8 in it", [good.as_bytes(), b"\xff"].concat()));
    bodies
}

fn authorizations(endpoint: &Endpoint) -> Vec<Row> {
    let good = endpoint
        .good
        .headers
        .iter()
        .find(|(name, _)| *name == "authorization");
    let good = good.map_or(&b"Bearer good"[..], |(_, value)| value);
    let secret = good.rsplit(|byte| *byte == b' ').next().unwrap();
    let (ask, told) = match endpoint.kind {
        Kind::Form { .. } => (endpoint.good.clone(), Told::OAuth(401, "invalid_client")),
        Kind::Proxy => (endpoint.good.clone(), Told::Problem(401, "CLIENT_AUTH_FAILED")),
        // Some clients send it here too.
        Kind::Login { .. } | Kind::Open => harmless(endpoint),
    };
    let wrong = wrong_authorizations(secret).into_iter();
    let mut rows: Vec<_> = wrong
        .map(|value| {
            let name = format!("authorization {}", String::from_utf8_lossy(&value));
            row(name, ask.header("authorization", [value.as_slice()]), told)
        })
        .collect();
    let told = match endpoint.kind {
        Kind::Form { .. } => endpoint.malformed(),
        Kind::Login { .. } | Kind::Open | Kind::Proxy => told,
    };
    let no_one = match endpoint.kind {
        Kind::Form { .. } => Told::OAuth(401, "invalid_client"),
        _ => told,
    };
    rows.push(row("no authorization", ask.header("authorization", []), no_one));
    let several: [&[&[u8]]; 4] = [&[good, good], &[good, b""], &[b"Basic !!", good], &[b"", b""]];
    for values in several {
        let ask = ask.header("authorization", values.iter().copied());
        rows.push(row("several authorizations", ask, told));
    }
    rows
}

/// Values that are similar to a credential but are not one.
fn wrong_authorizations(secret: &[u8]) -> Vec<Vec<u8>> {
    let long = [b"Bearer ", vec![b'a'; 6000].as_slice()].concat();
    vec![
        b"".to_vec(),
        b"Basic".to_vec(),
        b"Basic ".to_vec(),
        b"Basic !!".to_vec(),
        b"Basic //79".to_vec(),
        b"Basic YXBw".to_vec(),
        basic("", "").into_bytes(),
        basic("app", "wrong").into_bytes(),
        b"Digest username=\"app\"".to_vec(),
        [b"Token ", secret].concat(),
        secret.to_vec(),
        b"\xff\xfe".to_vec(),
        b"Bearer".to_vec(),
        b"Bearer wrong".to_vec(),
        b"Bearer \xff\xfe".to_vec(),
        [b"Bearer ", secret, b" ", secret].concat(),
        [b"Bearer ", secret, b", Bearer ", secret].concat(),
        long,
    ]
}
