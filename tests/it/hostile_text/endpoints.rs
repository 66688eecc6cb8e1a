//! Every parameter of every HTTP endpoint, from the API description: a new one is covered automatically.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::PATIENCE;

/// Headers of a client, a proxy or a browser.
const HEADERS: [&str; 14] = [
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "forwarded",
    "grpc-timeout",
    "host",
    "origin",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-request-id",
];

/// A request, as bytes that may be invalid HTTP.
pub(super) struct HttpRequest {
    line: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl HttpRequest {
    pub(super) fn get(path: &str) -> Self {
        Self::new("GET", path.as_bytes())
    }

    fn new(method: &str, path: &[u8]) -> Self {
        Self {
            line: [method.to_uppercase().as_bytes(), b" ", path].concat(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn with_body(mut self, kind: &str, body: Vec<u8>) -> Self {
        self.headers
            .push(("content-type".to_owned(), kind.as_bytes().to_vec()));
        self.body = body;
        self
    }

    fn with_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// Sends it, and returns the answer. A server may close before it has read all of an invalid request.
    pub(super) fn send(&self, address: &str, authorization: Option<&str>, id: &str) -> Vec<u8> {
        let address = address.trim_start_matches("http://");
        let mut bytes = [&self.line, &b" HTTP/1.1\r\n"[..]].concat();
        let has = |name: &str| self.headers.iter().any(|(given, _)| given == name);
        let mut usual = vec![
            ("host", address.to_owned()),
            ("connection", "close".to_owned()),
            ("content-length", self.body.len().to_string()),
            ("x-request-id", id.to_owned()),
        ];
        usual.extend(authorization.map(|value| ("authorization", value.to_owned())));
        for (name, value) in usual.iter().filter(|(name, _)| !has(name)) {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend([b"\r\n", &self.body[..]].concat());
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer");
        }
        answer
    }
}

/// A request for each parameter of each endpoint, with `text` as its value.
pub(super) fn requests(description: &Value, text: &[u8]) -> Vec<HttpRequest> {
    let mut requests = vec![
        HttpRequest::new("GET", text),
        HttpRequest::new("GET", format!("/{}", encoded(text)).as_bytes()),
        HttpRequest::new(&String::from_utf8_lossy(text), b"/keys"),
    ];
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            requests.extend(of_operation(description, method, path, operation, text));
        }
    }
    requests
}

fn of_operation(
    description: &Value,
    method: &str,
    path: &str,
    operation: &Value,
    text: &[u8],
) -> Vec<HttpRequest> {
    let plain = || HttpRequest::new(method, path.as_bytes());
    let mut requests: Vec<_> = HEADERS
        .iter()
        .map(|name| plain().with_header(name, text))
        .collect();
    // Unknown members: the text is a name.
    requests.push(HttpRequest::new(
        method,
        format!("{path}?{}=x", encoded(text)).as_bytes(),
    ));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        for value in [encoded(text).into_bytes(), text.to_vec()] {
            requests.push(match parameter["in"].as_str().unwrap() {
                "path" => {
                    let (start, end) = path.split_once(&format!("{{{name}}}")).unwrap();
                    HttpRequest::new(method, &[start.as_bytes(), &value, end.as_bytes()].concat())
                }
                "query" => HttpRequest::new(
                    method,
                    &[path.as_bytes(), b"?", name.as_bytes(), b"=", &value].concat(),
                ),
                "header" => plain().with_header(name, &value),
                other => panic!("a parameter in {other}"),
            });
        }
    }
    let bodies = operation["requestBody"]["content"].as_object();
    for (kind, body) in bodies.into_iter().flatten() {
        let schema = body["schema"]["$ref"].as_str().unwrap();
        let schema = description.pointer(schema.trim_start_matches('#')).unwrap();
        for name in schema["properties"].as_object().unwrap().keys() {
            requests.push(plain().with_body(kind, one_member(kind, schema, name, text)));
        }
        requests.push(plain().with_body(kind, text.to_vec()));
    }
    requests
}

/// A body with `text` in one member, and plain values in the other required ones.
fn one_member(kind: &str, schema: &Value, member: &str, text: &[u8]) -> Vec<u8> {
    let required = schema["required"].as_array().into_iter().flatten();
    let others = required.filter_map(Value::as_str).filter(|name| *name != member);
    if kind == "application/json" {
        let mut body = serde_json::Map::new();
        body.extend(others.map(|name| (name.to_owned(), json!("plain"))));
        body.insert(member.to_owned(), json!(String::from_utf8_lossy(text)));
        return Value::Object(body).to_string().into_bytes();
    }
    let mut body = format!("{member}={}", encoded(text));
    for name in others {
        let value = if name == "grant_type" {
            "client_credentials"
        } else {
            "plain"
        };
        write!(body, "&{name}={value}").unwrap();
    }
    body.into_bytes()
}

/// Each byte percent-encoded (RFC 3986 §2.1).
fn encoded(text: &[u8]) -> String {
    text.iter().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}
