//! A TCP proxy that stalls with its connections open, cuts them, or delays what it forwards.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    is_stalled: bool,
    delay: Duration,
    /// Connections of an earlier age are cut.
    age: u64,
}

/// A TCP proxy that stalls with its connections open, cuts them, or delays what it forwards.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: String,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// A proxy on a free port to `http://…`.
    ///
    /// # Panics
    /// Panics where there is no free port.
    pub async fn to(address: &str) -> Self {
        let target = address.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let watched = weather.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else {
                    continue;
                };
                tokio::spawn(connect(near, far, watched.clone()));
            }
        });
        Self {
            address: format!("http://{address}"),
            weather,
        }
    }

    /// Where it listens, as `http://…`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Forwards nothing; connections stay open, and new ones are accepted.
    pub fn stall(&self) {
        self.weather.send_modify(|weather| weather.is_stalled = true);
    }

    /// Whether nothing is forwarded.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.weather.borrow().is_stalled
    }

    /// Forwards everything at once again, what was held back first.
    pub fn resume(&self) {
        self.weather.send_modify(|weather| {
            weather.is_stalled = false;
            weather.delay = Duration::ZERO;
        });
    }

    /// Forwards everything that comes from now on this much later.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Closes every connection; new ones are accepted.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.age += 1);
    }
}

async fn connect(near: TcpStream, far: TcpStream, mut weather: watch::Receiver<Weather>) {
    let age = weather.borrow().age;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = forward(near_read, far_write, weather.clone());
    let back = forward(far_read, near_write, weather.clone());
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = weather.wait_for(|weather| weather.age != age) => {}
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
) {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let mut written = weather.clone();
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let at = Instant::now() + weather.borrow().delay;
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            if queue.send((at, bytes)).is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some((at, bytes)) = queued.recv().await {
            sleep_until(at).await;
            if written.wait_for(|weather| !weather.is_stalled).await.is_err()
                || to.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
