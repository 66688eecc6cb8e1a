//! One stream of revocations, from its start to its end.

use std::time::Duration;

use tessera_core::{LEEWAY_MAX, RealmName, Sequence, Timestamp};
use tessera_proto::v1::{
    Ack, Checkpoint, ErrorReason, ListKeysRequest, Ping, RevocationEvent, SnapshotEnd, VerifyingKey,
    WatchFilter, WatchRequest, WatchResponse, WatchStart, key_service_client::KeyServiceClient,
    revocation_service_client::RevocationServiceClient, watch_request, watch_response::Message, watch_start,
};
use tessera_token::Keyring;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, service::interceptor::InterceptedService, transport::Channel};

use super::{
    following::Following,
    view::{Problem, Revoked},
    wire::{self, Understood},
};
use crate::{CallError, ErrorKind, diagnosis::Plaintext};

/// Messages of ours that may wait to be sent. Further ones would be acknowledgements, of which the last is enough.
const OUTBOX: usize = 4;
const NONCE_LENGTH: usize = 16;
/// How often an unknown key may cause the keys to be read again.
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);
const KEYS_PAGE: u32 = 500;
const KEY_PAGES_MAX: usize = 100;

/// Why a session ended.
pub(super) struct End {
    pub(super) problem: Problem,
    /// The next session begins with a snapshot, and does not resume; the known state stays in force until the snapshot
    /// is complete.
    pub(super) starts_again: bool,
    /// The authority does not have the requested position: the address is fine.
    pub(super) is_about_place: bool,
}

impl End {
    /// The next session resumes at the position of this one.
    pub(super) fn resume(problem: &str) -> Self {
        Self {
            problem: Problem::passing(problem),
            starts_again: false,
            is_about_place: false,
        }
    }

    /// The next session begins with a snapshot.
    pub(super) fn start_again(problem: &str) -> Self {
        Self {
            starts_again: true,
            ..Self::resume(problem)
        }
    }

    /// From a failed call, with the best available explanation.
    async fn of(what: &str, status: Status, plaintext: Option<&Plaintext>) -> Self {
        Self::by(what, &CallError::from(status).diagnosed(plaintext).await)
    }

    /// Also after `SLOW_CONSUMER` and `DRAINING`, the next session resumes after what was applied last.
    fn by(what: &str, error: &CallError) -> Self {
        let starts_again = matches!(
            error.reason(),
            Some(ErrorReason::CursorExpired | ErrorReason::CursorInvalid)
        );
        Self {
            problem: Problem {
                is_permanent: error.kind() != ErrorKind::Passing && !starts_again,
                ..Problem::passing(&format!("{what}{error}"))
            },
            starts_again,
            is_about_place: starts_again,
        }
    }
}

/// One stream.
pub(super) struct Session<'a> {
    following: &'a mut Following,
    channel: Channel,
    say: mpsc::Sender<WatchRequest>,
    stream: Streaming<WatchResponse>,
    /// The running ping: its nonce, and when it was made.
    pinged: Option<([u8; NONCE_LENGTH], Instant)>,
    /// Another ping must follow: a token is ahead that may be newer than the running ping.
    ping_again: bool,
    snapshot: Snapshot,
    /// The cursor to acknowledge.
    acknowledge: Option<String>,
    opened_at: Instant,
    /// Whether a ping was answered.
    has_answered: bool,
    /// When a message last showed that both directions work.
    progressed_at: Instant,
    keys_read_at: Option<Instant>,
}

/// The progress of the snapshot.
enum Snapshot {
    /// Requested.
    Awaited,
    /// Arriving: the revocations received so far.
    Coming(Box<Revoked>, u64),
    /// Complete, with the events after it: it is in force from the next checkpoint, which gives the authority's time of
    /// the snapshot.
    Complete(Box<Revoked>),
    /// In force, or not needed.
    InForce,
}

impl<'a> Session<'a> {
    /// Connects again: a connection that stalled would stall the next stream too.
    pub(super) async fn open(following: &'a mut Following) -> Result<Self, End> {
        let node = following.node().ok_or_else(|| End::resume("no address"))?;
        let channel = node.endpoint.connect_lazy();
        let authorized = InterceptedService::new(channel.clone(), following.credential.clone());
        let (say, requests) = mpsc::channel(OUTBOX);
        let start = watch_request::Message::Start(following.start());
        // The channel is new and has room.
        let _ = say.try_send(request(start));
        let mut service = RevocationServiceClient::new(authorized);
        let opening = service.watch(ReceiverStream::new(requests));
        let stream = match timeout(following.silence_max(false), opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(End::of("", status, following.plaintext()).await),
            Err(_) => return Err(End::resume("the authority does not answer")),
        };
        let snapshot = match following.place {
            Some(_) => Snapshot::InForce,
            None => Snapshot::Awaited,
        };
        Ok(Self {
            following,
            channel,
            say,
            stream,
            pinged: None,
            ping_again: false,
            snapshot,
            acknowledge: None,
            opened_at: Instant::now(),
            has_answered: false,
            progressed_at: Instant::now(),
            keys_read_at: None,
        })
    }

    /// Runs to the end of the stream.
    pub(super) async fn run(mut self) -> End {
        let mut pings = interval(self.following.ping_interval());
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = std::sync::Arc::clone(&self.following.shared);
        loop {
            let gives_up_at = self.progressed_at + self.silence_max();
            let step = tokio::select! {
                message = self.stream.message() => match message {
                    Ok(Some(WatchResponse { message: Some(message) })) => self.hear(message).await,
                    Ok(Some(_)) => Err(not_understood("a message")),
                    Ok(None) => Err(End::resume("the stream ended")),
                    Err(status) => Err(End::of("", status, self.following.plaintext()).await),
                },
                permit = self.say.clone().reserve_owned(), if self.acknowledge.is_some() => {
                    // If it is closed, the stream is about to say why.
                    if let (Ok(permit), Some(cursor)) = (permit, self.acknowledge.take()) {
                        permit.send(request(watch_request::Message::Ack(Ack { cursor })));
                    }
                    Ok(())
                }
                _ = pings.tick() => {
                    self.ping();
                    Ok(())
                }
                () = shared.unknown_key.notified() => self.read_keys_again().await,
                () = shared.ahead.notified() => {
                    self.ping_again = self.pinged.is_some();
                    self.ping();
                    Ok(())
                }
                () = sleep_until(gives_up_at) => Err(End::resume("the stream is silent")),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// The longest silence.
    fn silence_max(&self) -> Duration {
        self.following.silence_max(self.has_answered)
    }

    // === what the authority says ===

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::SnapshotBegin(begin) => {
                self.check_realm(&begin.realm)?;
                self.progressed_at = Instant::now();
                self.snapshot = Snapshot::Coming(Box::default(), 0);
                Ok(())
            }
            Message::SnapshotItem(item) => self.add_to_snapshot(&item),
            Message::SnapshotEnd(end) => self.complete_snapshot(&end),
            Message::Event(event) => self.apply(event),
            Message::Checkpoint(checkpoint) => self.check(checkpoint).await,
        }
    }

    fn add_to_snapshot(&mut self, item: &RevocationEvent) -> Result<(), End> {
        self.progressed_at = Instant::now();
        let understood = self.understand(item)?;
        let Snapshot::Coming(revoked, items) = &mut self.snapshot else {
            return Err(not_understood("an item without a snapshot"));
        };
        if let Some(event) = understood.revocation {
            revoked.apply(&event);
        }
        *items += 1;
        Ok(())
    }

    fn complete_snapshot(&mut self, end: &SnapshotEnd) -> Result<(), End> {
        match std::mem::replace(&mut self.snapshot, Snapshot::Awaited) {
            Snapshot::Coming(revoked, items) if items == end.items => {
                self.snapshot = Snapshot::Complete(revoked);
                Ok(())
            }
            _ => Err(not_understood("the end of a snapshot that is not complete")),
        }
    }

    fn apply(&mut self, event: RevocationEvent) -> Result<(), End> {
        self.progressed_at = Instant::now();
        let understood = self.understand(&event)?;
        if understood.changes_keys {
            self.following.key_set = None;
        }
        let apply = |revoked: &mut Revoked| match &understood.revocation {
            Some(revocation) => revoked.apply(revocation),
            None => revoked.entries.advance(Sequence(event.sequence)),
        };
        match &mut self.snapshot {
            Snapshot::Complete(revoked) => apply(revoked),
            Snapshot::InForce => {
                apply(&mut self.following.shared.followed_mut().revoked);
                if self.following.key_set.is_some() {
                    self.following.reached(&event.cursor);
                    self.owe_acknowledgement(event.cursor);
                } else {
                    // A verifier that has acknowledged a key can verify with it: not before the next checkpoint.
                    self.ping_again = self.pinged.is_some();
                    self.ping();
                }
            }
            Snapshot::Awaited | Snapshot::Coming(..) => {
                return Err(not_understood("an event before the snapshot is complete"));
            }
        }
        Ok(())
    }

    /// A checkpoint: it puts a snapshot in force, and causes the keys to be read if they changed. If it answers our
    /// ping, it says how fresh all this is. One that answers no ping says nothing about freshness: it may have been in
    /// transit for long.
    async fn check(&mut self, checkpoint: Checkpoint) -> Result<(), End> {
        self.check_realm(&checkpoint.realm)?;
        let Some(server_time) = checkpoint.server_time.as_ref().map(wire::timestamp) else {
            return Err(not_understood("a checkpoint without a time"));
        };
        if self.following.key_set.as_deref() != Some(checkpoint.key_set.as_str()) {
            self.read_keys().await?;
            self.following.key_set = Some(checkpoint.key_set);
        }
        let echoed = self
            .pinged
            .take_if(|(nonce, _)| checkpoint.nonce == nonce.as_slice())
            .map(|(_, pinged_at)| pinged_at);
        self.put_in_force(server_time, echoed, Sequence(checkpoint.through_sequence))?;
        if self.following.place.as_deref() != Some(checkpoint.through.as_str()) {
            self.following.reached(&checkpoint.through);
            self.owe_acknowledgement(checkpoint.through);
        }
        if echoed.is_some() {
            if std::mem::take(&mut self.ping_again) {
                self.ping();
            }
            self.progressed_at = Instant::now();
            self.has_answered = true;
            self.following.answered(self.opened_at.elapsed());
            self.following
                .shared
                .problem
                .send_if_modified(|problem| problem.take().is_some());
            self.following
                .shared
                .ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        Ok(())
    }

    /// The stream must be about the realm of the API key. An empty stream of another realm would look as if nothing
    /// were revoked.
    fn check_realm(&self, realm: &str) -> Result<(), End> {
        let expected = &self.following.shared.options.realm;
        if realm == expected.as_str() {
            return Ok(());
        }
        let text =
            format!("the API key is of the realm `{realm}`, but the tokens to verify are of `{expected}`");
        Err(End {
            problem: Problem::permanent(&text),
            ..End::start_again("")
        })
    }

    fn put_in_force(
        &mut self,
        server_time: Timestamp,
        echoed: Option<Instant>,
        through: Sequence,
    ) -> Result<(), End> {
        let shared = &self.following.shared;
        let local_time = shared.clock.now();
        let mut known = shared.followed_mut();
        match std::mem::replace(&mut self.snapshot, Snapshot::InForce) {
            Snapshot::Complete(revoked) => {
                known.revoked = *revoked;
                known.snapshots += 1;
                // The authority left out what no longer mattered by its own clock.
                known.forgotten_through = server_time.minus(LEEWAY_MAX);
            }
            Snapshot::InForce if server_time < known.forgotten_through => {
                return Err(End::start_again("the authority's clock went back"));
            }
            Snapshot::InForce => {}
            Snapshot::Awaited | Snapshot::Coming(..) => {
                return Err(not_understood("a checkpoint before the snapshot is complete"));
            }
        }
        // Both clocks must agree that it is over: a clock that jumps ahead causes nothing to be forgotten.
        known.forget_before(server_time.min(local_time));
        known.revoked.entries.advance(through);
        known.fresh_as_of = known.fresh_as_of.max(echoed);
        Ok(())
    }

    fn understand(&self, event: &RevocationEvent) -> Result<Understood, End> {
        let options = &self.following.shared.options;
        wire::understand(event, &options.realm, &options.audience)
            .ok_or_else(|| not_understood(&format!("event {} of kind {}", event.sequence, event.kind)))
    }

    // === what we say and ask ===

    /// Only the fence needs it, and it waits only for required verifiers; for a thousand others it would be a thousand
    /// messages for each event.
    fn owe_acknowledgement(&mut self, cursor: String) {
        if self.following.shared.options.required {
            self.acknowledge = Some(cursor);
        }
    }

    /// One ping at a time, so that the remembered state stays bounded.
    fn ping(&mut self) {
        if self.pinged.is_some() {
            return;
        }
        // Without a random nonce, its echo could not be distinguished from another's: then the state never becomes
        // fresh.
        let Ok(nonce) = tessera_token::random::<NONCE_LENGTH>() else {
            return;
        };
        let pinged_at = Instant::now();
        let ping = Ping {
            nonce: nonce.to_vec(),
        };
        if self
            .say
            .try_send(request(watch_request::Message::Ping(ping)))
            .is_ok()
        {
            self.pinged = Some((nonce, pinged_at));
        }
    }

    async fn read_keys_again(&mut self) -> Result<(), End> {
        let is_too_soon = self
            .keys_read_at
            .is_some_and(|read| read.elapsed() < REFETCH_INTERVAL);
        if is_too_soon {
            return Ok(());
        }
        self.read_keys().await
    }

    async fn read_keys(&mut self) -> Result<(), End> {
        self.keys_read_at = Some(Instant::now());
        let keys = match timeout(self.silence_max(), self.list_keys()).await {
            Ok(Ok(keys)) => keys,
            Ok(Err(status)) => {
                return Err(End::of("keys: ", status, self.following.plaintext()).await);
            }
            Err(_) => return Err(End::resume("keys: no answer")),
        };
        let shared = &self.following.shared;
        let keyring = wire::keyring(&keys, &shared.options.realm, shared.options.leeway);
        if keyring == Keyring::default() && !*shared.ready.borrow() {
            return Err(no_key(&shared.options.realm));
        }
        shared.put_keys(keyring);
        self.progressed_at = Instant::now();
        Ok(())
    }

    async fn list_keys(&self) -> Result<Vec<VerifyingKey>, Status> {
        let mut service = KeyServiceClient::new(self.channel.clone());
        let mut keys = Vec::new();
        let mut request = ListKeysRequest {
            realm: self.following.shared.options.realm.to_string(),
            page_size: KEYS_PAGE,
            page_token: String::new(),
        };
        for _ in 0..KEY_PAGES_MAX {
            let page = service.list_keys(request.clone()).await?.into_inner();
            keys.extend(page.keys);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(keys);
            }
        }
        Err(Status::internal("the list does not end"))
    }
}

impl Following {
    fn start(&self) -> WatchStart {
        let options = &self.shared.options;
        WatchStart {
            from: Some(match &self.place {
                Some(cursor) => watch_start::From::Cursor(cursor.clone()),
                None => watch_start::From::Snapshot(true),
            }),
            filter: Some(WatchFilter {
                audiences: vec![options.audience.to_string()],
                ..WatchFilter::default()
            }),
            subscriber: options
                .subscriber
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            required: options.required,
            staleness_bound: prost_types::Duration::try_from(options.bound).ok(),
        }
    }
}

fn request(message: watch_request::Message) -> WatchRequest {
    WatchRequest {
        message: Some(message),
    }
}

/// Ignoring a message that is not understood could allow what is revoked.
fn not_understood(what: &str) -> End {
    End::start_again(&format!("not understood: {what}"))
}

fn no_key(realm: &RealmName) -> End {
    let text = format!("the authority has no key that verifies tokens of the realm `{realm}`");
    End {
        problem: Problem::permanent(&text),
        ..End::resume("")
    }
}
