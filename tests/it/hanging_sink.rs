//! A receiver of audit records that hangs under load: no call waits for it, and when it answers again it gets every
//! record, in order and without a gap.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    serving::Place,
    support::{Client, refresh, viewer},
};

/// How long it hangs; `TESSERA_SINK_SECONDS=600` is the long form.
const SECONDS: u64 = 5;
const CLIENTS: usize = 4;
/// How long a call may take while the receiver hangs: far less than the time limit of a delivery.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How long records may take to arrive: after a long failure, delivery is retried every half minute.
const ARRIVAL_MAX: Duration = Duration::from_secs(90);

/// The state of a receiver.
#[derive(Default)]
struct Receiver {
    answers: AtomicBool,
    /// The positions of the records, in the order of arrival.
    positions: Mutex<Vec<u64>>,
}

impl Receiver {
    fn start() -> (Arc<Self>, u16) {
        let receiver = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&receiver);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        (receiver, port)
    }

    /// Receives one batch. While it hangs, it reads the batch and does not answer, until the sender gives up.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if !self.answers.load(Ordering::SeqCst) {
            return self.hang(&stream);
        }
        let position = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["position"]
                .as_u64()
                .unwrap()
        };
        let text = String::from_utf8(body).unwrap();
        self.positions.lock().unwrap().extend(text.lines().map(position));
        let mut stream = stream;
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    }

    /// Does not answer until the sender gives up, or until this receiver no longer hangs.
    fn hang(&self, mut stream: &TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while !self.answers.load(Ordering::SeqCst) {
            if stream.read(&mut [0]).is_ok_and(|read| read == 0) {
                return;
            }
        }
    }

    fn last(&self) -> u64 {
        self.positions.lock().unwrap().iter().copied().max().unwrap_or(0)
    }
}

/// Sessions that begin, continue and end until `end`; returns the number of calls.
async fn load(client: Client, end: Instant) -> u64 {
    let mut calls = 0;
    while Instant::now() < end {
        let turn = async {
            let issued = client.issue(viewer("user:ann")).await.unwrap();
            client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
        };
        let turn = tokio::time::timeout(CALL_MAX, turn).await;
        turn.expect("a call waits for a receiver of audit records");
        calls += 2;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_holds_up_nobody_and_gets_everything_later() {
    let seconds = env::var("TESSERA_SINK_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let (receiver, port) = Receiver::start();
    let place = Place::new();
    let sink =
        format!("[audit.sinks.siem]\nkind = \"http\"\nurl = \"http://127.0.0.1:{port}/\"\n[telemetry]\n");
    place.edit("tessera.toml", "[telemetry]\n", &sink);
    let api_key = place.first_key("production");
    let authority = place.serve_as(|_| {});
    let client = Client::connect(&place.address, api_key["secret"].as_str().unwrap()).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    let loads = [(); CLIENTS].map(|()| tokio::spawn(load(client.clone(), end)));
    let mut calls = 0;
    for load in loads {
        calls += load.await.unwrap();
    }
    assert_eq!(receiver.last(), 0);
    receiver.answers.store(true, Ordering::SeqCst);
    // Each call left a record, and so did the start.
    while receiver.last() < calls {
        let before = receiver.last();
        let arrives = async {
            while receiver.last() == before {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let arrived = tokio::time::timeout(ARRIVAL_MAX, arrives).await;
        arrived.expect("no record arrives");
    }
    let positions = receiver.positions.lock().unwrap().clone();
    let distinct: BTreeSet<_> = positions.iter().copied().collect();
    let (first, last) = (*distinct.first().unwrap(), *distinct.last().unwrap());
    assert_eq!(distinct.len() as u64, last - first + 1, "a record is missing");
    assert!(positions.is_sorted(), "records came out of order");
    println!(
        "{calls} calls while the receiver hung for {seconds} s; {} records after it",
        positions.len()
    );
    assert!(authority.stop().success());
}
