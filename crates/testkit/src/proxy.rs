//! A TCP proxy that stalls with its connections open, cuts them, delays the data, or delivers it out of order.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    is_stalled: bool,
    delay: Duration,
    /// The maximum random addition to the delay.
    disorder: Duration,
    /// Connections of an earlier age are cut.
    age: u64,
}

/// A TCP proxy that stalls with its connections open, cuts them, delays the data, or delivers it out of order.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: String,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// A proxy on a free port to `http://…`.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub async fn to(address: &str) -> Self {
        let target = address.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let watched = weather.subscribe();
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else {
                    continue;
                };
                connections += 1;
                tokio::spawn(connect(near, far, watched.clone(), connections));
            }
        });
        Self {
            address: format!("http://{address}"),
            weather,
        }
    }

    /// The address on which it listens, as `http://…`.
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

    /// Forwards everything at once again, the held-back data first.
    pub fn resume(&self) {
        self.weather.send_modify(|weather| {
            *weather = Weather {
                age: weather.age,
                ..Weather::default()
            };
        });
    }

    /// Forwards all data from now on with this delay.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Delivers data from now on out of order: each direction of each connection has its own delay of up to `most`,
    /// which changes all the time. So data of an old connection, or of the other direction, arrives after data that was
    /// sent later on a new one. The bytes of one direction of one connection keep their order, as TCP guarantees.
    pub fn disorder(&self, most: Duration) {
        self.weather.send_modify(|weather| weather.disorder = most);
    }

    /// Closes every connection to the callers; new ones are accepted. What they sent before is still in transit, and
    /// arrives when its delay, or the stall, is over.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.age += 1);
    }
}

/// Forwards until both directions have ended.
async fn connect(near: TcpStream, far: TcpStream, weather: watch::Receiver<Weather>, number: u64) {
    let age = weather.borrow().age;
    let (near_read, near_write) = near.into_split();
    let (mut far_read, far_write) = far.into_split();
    let there = async {
        let (queue, queued) = mpsc::unbounded_channel();
        let reading = async {
            let mut near_read = near_read;
            tokio::select! {
                () = read(&mut near_read, queue, &weather, Dice::new(2 * number)) => {}
                () = cut(weather.clone(), age) => {}
            }
        };
        // The queue ends with the reading, and is written completely.
        tokio::join!(reading, write(far_write, queued, weather.clone()));
    };
    let back = async {
        let (queue, queued) = mpsc::unbounded_channel();
        let both = async {
            let reading = read(&mut far_read, queue, &weather, Dice::new(2 * number + 1));
            tokio::join!(reading, write(near_write, queued, weather.clone()));
        };
        tokio::select! {
            () = both => {}
            () = cut(weather.clone(), age) => {}
        }
        // It is read even if there is no reader for it: a socket that is closed with unread data would discard what is
        // in transit in the other direction.
        let _ = copy(&mut far_read, &mut sink()).await;
    };
    tokio::join!(there, back);
}

/// Ready once connections of this age are cut.
async fn cut(mut weather: watch::Receiver<Weather>, age: u64) {
    // If the proxy is dropped, so are its connections.
    let _ = weather.wait_for(|weather| weather.age != age).await;
}

/// Reads until there is nothing more to read, or no writer; each piece with the time at which it arrives.
async fn read(
    from: &mut OwnedReadHalf,
    queue: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    weather: &watch::Receiver<Weather>,
    mut dice: Dice,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = queue.closed() => return,
        };
        let Ok(length @ 1..) = read else { return };
        let Weather { delay, disorder, .. } = *weather.borrow();
        let at = Instant::now() + delay + disorder.mul_f64(dice.fraction());
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if queue.send((at, bytes)).is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut queued: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut weather: watch::Receiver<Weather>,
) {
    while let Some((at, bytes)) = queued.recv().await {
        sleep_until(at).await;
        let may_pass = weather.wait_for(|weather| !weather.is_stalled).await.is_ok();
        if !may_pass || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Random numbers that are the same in each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(number: u64) -> Self {
        Self((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        u32::try_from(high).map_or(0.0, |high| f64::from(high) / f64::from(u32::MAX))
    }
}
