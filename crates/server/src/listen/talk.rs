//! Traffic on a connection besides requests: frames of HTTP/2 that only cost time, such as PING, SETTINGS,
//! WINDOW_UPDATE and unknown ones, and nearly empty chunks and frames.
//!
//! Each costs little, but a peer that sends them as fast as it can takes a core. So a connection has an allowance of
//! bytes that are not part of a request body. Each request adds the maximum size of its head, and time adds some.
//! Beyond the allowance the connection is read a piece at a time.

use std::time::Duration;

use tokio::time::Instant;

/// What a connection may send at once, and in a second.
const BYTES_MAX: i64 = 512 * 1024;
const BYTES_PER_SECOND: i64 = 128 * 1024;
/// The same if a client was authenticated: one connection may carry hundreds of its streams, each with a body in
/// transit.
const CLIENT_BYTES_MAX: i64 = 8 * 1024 * 1024;
const CLIENT_BYTES_PER_SECOND: i64 = 4 * 1024 * 1024;
/// The maximum size of the head of a request.
const BYTES_PER_REQUEST: i64 = 64 * 1024;
/// The lowest value of the allowance: a peer that stops soon recovers.
const BYTES_MIN: i64 = -64 * 1024;
/// How long a connection beyond its allowance is not read.
const PAUSE: Duration = Duration::from_millis(50);

/// What has arrived on a connection until now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Come {
    /// Requests, counted when their head is complete.
    pub(super) requests: u64,
    /// Bytes of bodies.
    pub(super) body_bytes: u64,
    /// Whether a client was authenticated.
    pub(super) is_client: bool,
}

/// The allowance of a connection.
#[derive(Debug)]
pub(super) struct Talk {
    left: i64,
    at: Instant,
    come: Come,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            left: BYTES_MAX,
            at: Instant::now(),
            come: Come::default(),
        }
    }

    /// Counts bytes that were read, and returns how long to wait before reading more.
    pub(super) fn read(&mut self, bytes: usize, come: Come) -> Option<Duration> {
        let (most, per_second) = if come.is_client {
            (CLIENT_BYTES_MAX, CLIENT_BYTES_PER_SECOND)
        } else {
            (BYTES_MAX, BYTES_PER_SECOND)
        };
        let now = Instant::now();
        let millis = signed(u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX));
        if millis > 0 {
            self.at = now;
        }
        let requests = signed(come.requests.saturating_sub(self.come.requests));
        let bodies = signed(come.body_bytes.saturating_sub(self.come.body_bytes));
        let became_client = come.is_client && !self.come.is_client;
        self.come = come;
        let added = (per_second / 1000)
            .saturating_mul(millis)
            .saturating_add(requests.saturating_mul(BYTES_PER_REQUEST))
            .saturating_add(bodies)
            .saturating_add(if became_client { CLIENT_BYTES_MAX } else { 0 });
        let left = self.left.saturating_add(added).min(most);
        self.left = left.saturating_sub(signed(bytes as u64)).max(BYTES_MIN);
        (self.left < 0).then_some(PAUSE)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PIECE: usize = 16 * 1024;

    /// How many bytes are read in a second from a peer that sends as many as are read.
    async fn in_a_second(talk: &mut Talk, mut come: Come, says: impl Fn(&mut Come)) -> usize {
        let mut bytes = 0;
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end && bytes < 1 << 30 {
            says(&mut come);
            bytes += PIECE;
            if let Some(pause) = talk.read(PIECE, come) {
                advance(pause).await;
            }
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_requests_are_read_slowly() {
        let mut talk = Talk::new();
        in_a_second(&mut talk, Come::default(), |_| {}).await;
        let bytes = in_a_second(&mut talk, Come::default(), |_| {}).await;
        assert!(bytes < 400 * 1024, "{bytes}");
        // A peer that stops soon recovers.
        advance(Duration::from_secs(1)).await;
        assert_eq!(talk.read(PIECE, Come::default()), None);
        let client = Come {
            is_client: true,
            ..Come::default()
        };
        in_a_second(&mut talk, client, |_| {}).await;
        let bytes = in_a_second(&mut talk, client, |_| {}).await;
        assert!(bytes < 6 * 1024 * 1024, "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_their_bodies_are_read_as_they_come() {
        let mut talk = Talk::new();
        let bytes = in_a_second(&mut talk, Come::default(), |come| come.requests += 1).await;
        assert!(bytes >= 1 << 30, "{bytes}");
        let bodies = |come: &mut Come| come.body_bytes += 16 * 1024;
        let bytes = in_a_second(&mut Talk::new(), Come::default(), bodies).await;
        assert!(bytes >= 1 << 30, "{bytes}");
    }
}
