//! Sinks of each kind, with receivers that fail, hang and come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod otlp;

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tessera_authority::{KeyRotation, Options};
use tessera_core::{Realm, RealmKind, RealmLimits, SystemClock};
use tessera_policy::Policy;
use tessera_store::MemoryStore;
use tessera_token::{ServerKey, ServerKeys};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, UnixDatagram},
    task::JoinHandle,
};

use super::*;
use crate::config::{SinkFormat, SinkUrl, SyslogAddress};

async fn authority() -> Arc<Authority> {
    let realm = |name: &str, kind| Realm {
        name: name.parse().unwrap(),
        kind,
        issuer: format!("https://auth.example.org/{name}"),
        limits: RealmLimits::default(),
        on_policy_loss: tessera_core::OnPolicyLoss::Narrow,
    };
    Authority::open(Options {
        store: Arc::new(MemoryStore::new()),
        policy: Policy::from_files(Policy::default_files()).unwrap(),
        policy_directory: None,
        realms: vec![
            realm("production", RealmKind::Production),
            realm("sandbox", RealmKind::Sandbox),
        ],
        server_keys: Arc::new(ServerKeys::new(ServerKey::generate().unwrap(), Vec::new())),
        key_rotation: KeyRotation::default(),
        clock: Arc::new(SystemClock),
        token_bytes_max: 8 * 1024,
        verified_tokens_max: 10,
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: Options::STALENESS_BOUND_MAX,
    })
    .await
    .unwrap()
}

fn deliver(authority: &Arc<Authority>, config: SinkConfig) -> JoinHandle<()> {
    let sinks = toml::from_str::<AuditConfig>("[sinks.test]\nkind = 'file'\npath = 'x'").unwrap();
    let name = sinks.sinks.into_keys().next().unwrap();
    let sink = Sink::new(config, &TelemetryConfig::default());
    tokio::spawn(Delivery::new(Arc::clone(authority), name, sink).run())
}

/// Waits until the sink has everything.
async fn all_delivered(authority: &Authority) {
    let all = async {
        loop {
            let state = authority.audit_sinks().states();
            if state
                .first()
                .is_some_and(|sink| sink.position == authority.audit().audit_position())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
}

fn positions<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u64> {
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["position"].as_u64().unwrap()).collect()
}

async fn everything(authority: &Authority) -> Vec<u64> {
    let page = authority.audit_sinks().records_after(0, 1000).await.unwrap();
    page.entries.iter().map(|entry| entry.position).collect()
}

#[tokio::test]
async fn a_file_has_all_and_what_is_rotated_is_made_anew() {
    let authority = authority().await;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.jsonl");
    // What a process left that ended in the middle of a line.
    fs::write(&path, "{\"position\":0,\"cut").unwrap();
    let config = SinkConfig::File {
        path: path.clone(),
        format: SinkFormat::Json,
    };
    let task = deliver(&authority, config);
    all_delivered(&authority).await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(positions(text.lines().skip(1)), everything(&authority).await);
    let before = authority.audit().audit_position();
    fs::rename(&path, directory.path().join("audit.1")).unwrap();
    authority.audit().sign_audit().await.unwrap();
    all_delivered(&authority).await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(positions(text.lines()), [before + 1, before + 2]);
    task.abort();
}

#[tokio::test]
async fn a_directory_that_is_missing_is_told_and_tried_again() {
    let authority = authority().await;
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("later");
    let config = SinkConfig::File {
        path: inner.join("audit.jsonl"),
        format: SinkFormat::Json,
    };
    let task = deliver(&authority, config);
    while authority
        .audit_sinks()
        .states()
        .first()
        .is_none_or(|sink| sink.failing_since.is_none())
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::create_dir(&inner).unwrap();
    all_delivered(&authority).await;
    assert_eq!(authority.audit_sinks().states()[0].failing_since, None);
    task.abort();
}

#[tokio::test]
async fn syslog_takes_datagrams() {
    let authority = authority().await;
    let expected = everything(&authority).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = SyslogAddress::Udp(udp.local_addr().unwrap().to_string());
    let task = deliver(
        &authority,
        SinkConfig::Syslog {
            address,
            format: SinkFormat::Json,
        },
    );
    let mut seen = Vec::new();
    let mut bytes = vec![0; 65536];
    for _ in &expected {
        let length = udp.recv(&mut bytes).await.unwrap();
        let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let (header, json) = message.split_once(" - {").unwrap();
        assert!(
            header.starts_with("<109>1 ") && header.contains(" tessera "),
            "{header}"
        );
        seen.extend(positions(std::iter::once(format!("{{{json}").as_str())));
    }
    assert_eq!(seen, expected);
    task.abort();

    let directory = TempDir::new().unwrap();
    let path: PathBuf = directory.path().join("log");
    let unix = UnixDatagram::bind(&path).unwrap();
    let authority = self::authority().await;
    let address = SyslogAddress::Unix(path);
    let task = deliver(
        &authority,
        SinkConfig::Syslog {
            address,
            format: SinkFormat::Ocsf,
        },
    );
    let length = unix.recv(&mut bytes).await.unwrap();
    let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
    let event: Value = serde_json::from_str(&message[message.find('{').unwrap()..]).unwrap();
    assert_eq!(
        (event["class_uid"].as_u64(), event["type_uid"].as_u64()),
        (Some(6003), Some(600_301))
    );
    assert_eq!(event["api"]["operation"], "signing_key_created");
    assert_eq!(event["unmapped"]["position"], 1);
    task.abort();
}

#[tokio::test]
async fn syslog_takes_counted_messages() {
    let authority = authority().await;
    let expected = everything(&authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = SyslogAddress::Tcp(listener.local_addr().unwrap().to_string());
    let task = deliver(
        &authority,
        SinkConfig::Syslog {
            address,
            format: SinkFormat::Json,
        },
    );
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let mut length = 0;
        loop {
            match stream.read_u8().await.unwrap() {
                b' ' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.unwrap();
        let message = String::from_utf8(message).unwrap();
        seen.extend(positions(std::iter::once(&message[message.find('{').unwrap()..])));
    }
    assert_eq!(seen, expected);
    task.abort();
}

/// Reads one request, and answers it; the body.
async fn answer(stream: &mut TcpStream, status: &str) -> (String, String) {
    let mut bytes = Vec::new();
    let head = loop {
        bytes.push(stream.read_u8().await.unwrap());
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8(bytes).unwrap();
        }
    };
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")
            .map(str::to_owned)
    });
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn http_is_posted_until_the_receiver_has_it() {
    let authority = authority().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = TempDir::new().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "first\n").unwrap();
    let url = format!("http://{}/in?source=tessera", listener.local_addr().unwrap());
    let config = SinkConfig::Http {
        url: SinkUrl(url.parse().unwrap()),
        token_file: Some(token.clone()),
        format: SinkFormat::Json,
    };
    let task = deliver(&authority, config);
    let (mut stream, _) = listener.accept().await.unwrap();
    let (head, first) = answer(&mut stream, "503 Busy").await;
    assert!(head.starts_with("POST /in?source=tessera HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains("authorization: bearer first\r\n"),
        "{head}"
    );
    fs::write(&token, "second").unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let (head, again) = answer(&mut stream, "204 No Content").await;
    assert!(
        head.to_lowercase().contains("authorization: bearer second\r\n"),
        "{head}"
    );
    assert_eq!(first, again, "what was refused is sent again");
    assert_eq!(positions(again.lines()), everything(&authority).await);
    all_delivered(&authority).await;
    task.abort();
}

/// A receiver that accepts connections and never answers delays nothing else, and gets everything once it answers.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_nobody_up() {
    let authority = authority().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let config = SinkConfig::Http {
        url: SinkUrl(url.parse().unwrap()),
        token_file: None,
        format: SinkFormat::Json,
    };
    let task = deliver(&authority, config);
    let mut hung = Vec::new();
    // Ten minutes of the moved clock: each attempt ends by itself.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        hung.push(listener.accept().await.unwrap());
        authority.audit_sinks().keep_position("other", 1).await.unwrap();
    }
    assert!(hung.len() >= 10, "{}", hung.len());
    assert!(authority.audit_sinks().states()[0].failing_since.is_some());
    let (mut stream, _) = listener.accept().await.unwrap();
    let (_, body) = answer(&mut stream, "200 OK").await;
    assert_eq!(positions(body.lines()), everything(&authority).await);
    all_delivered(&authority).await;
    task.abort();
}
