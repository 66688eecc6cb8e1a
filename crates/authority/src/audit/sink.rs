//! Sinks of the audit trail, as the authority sees them: how far each is. Whoever delivers asks for what follows, and
//! says when it has arrived: at least once, since what a crash keeps it from saying is delivered again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use tessera_core::Timestamp;
use tessera_store::{
    AuditHead, AuditPage, AuditQuery, Changes, Decision, Priority, Reads, SettingChange, Snapshot,
};
use tokio::sync::watch;

use crate::{Authority, error::Unavailable};

/// How long a position may wait for the next commit of others.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Everything up to this position was delivered.
    pub position: u64,
    /// Since when delivering fails; none while it does not.
    pub failing_since: Option<Timestamp>,
    /// Records that it rejected for good since the start.
    pub rejected: u64,
}

/// The sinks by name. Those that are not configured any more keep their positions, for when they come back.
pub(crate) struct Sinks {
    /// Where each was at the start.
    kept: BTreeMap<String, u64>,
    states: Mutex<BTreeMap<String, SinkState>>,
}

impl Sinks {
    pub(crate) fn new(kept: BTreeMap<String, u64>) -> Self {
        Self {
            kept,
            states: Mutex::default(),
        }
    }

    /// Those that this process can deliver to.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.states.lock().keys().cloned().collect()
    }
}

impl Authority {
    /// Says that this process can deliver to a sink. Where several nodes can,
    /// [`turn_to_deliver_to`](Self::turn_to_deliver_to) says when it is this one that does.
    pub fn begin_audit_sink(&self, name: &str) {
        let position = self.sinks.kept.get(name).copied().unwrap_or(0);
        let state = SinkState {
            name: name.to_owned(),
            position,
            failing_since: None,
            rejected: 0,
        };
        self.sinks.states.lock().insert(name.to_owned(), state);
    }

    /// How far the sinks are that other nodes deliver to, as the store has it.
    pub(crate) fn follow_sinks(&self, kept: &BTreeMap<String, u64>) {
        for (name, state) in self.sinks.states.lock().iter_mut() {
            let position = kept.get(name).copied().unwrap_or(0);
            if !self.delivers_to(name) && state.position < position {
                state.position = position;
                state.failing_since = None;
            }
        }
    }

    /// Up to which position a sink has everything, as the store has it now; 0 for a new one.
    pub(crate) async fn kept_audit_position(&self, name: &str) -> Result<u64, Unavailable> {
        let settings = self.store.read(Reads::default().settings()).await?.settings;
        let kept = settings.and_then(|settings| settings.audit_sinks.get(name).copied());
        let position = kept.unwrap_or(0);
        if let Some(state) = self.sinks.states.lock().get_mut(name) {
            state.position = position;
        }
        Ok(position)
    }

    /// Records of all realms after a position, for a sink.
    ///
    /// # Errors
    /// Fails where the trail can't be read.
    pub async fn audit_after(&self, position: u64, limit: usize) -> Result<AuditPage, Unavailable> {
        Ok(self.store.audit_page(AuditQuery::after(position, limit)).await?)
    }

    /// The last record; the receiver is woken when there is another one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<AuditHead> {
        self.store.audit_head()
    }

    /// A sink has everything up to `position`: known at once, and kept by
    /// [`keep_audit_position`](Self::keep_audit_position).
    pub fn audit_delivered(&self, name: &str, position: u64) {
        if let Some(state) = self.sinks.states.lock().get_mut(name) {
            state.position = position;
            state.failing_since = None;
        }
    }

    /// Keeps with the data that a sink has everything up to `position`, unless it is known to have more: another node may
    /// have delivered since.
    ///
    /// # Errors
    /// Fails where that can't be kept: after a restart it is delivered again.
    pub async fn keep_audit_position(&self, name: &str, position: u64) -> Result<(), Unavailable> {
        let name = name.to_owned();
        let decide = move |state: &Snapshot| {
            let kept = state
                .settings
                .as_ref()
                .and_then(|settings| settings.audit_sinks.get(&name));
            if kept.is_some_and(|kept| *kept >= position) {
                return Decision::Abort(());
            }
            let changes = Changes {
                settings: vec![SettingChange::AuditSink(name.clone(), position)],
                ..Changes::default()
            };
            Decision::Commit(changes, ())
        };
        let behind = Priority::Background { max_delay: MAX_DELAY };
        let reads = Reads::default().settings();
        self.store.commit_with(behind, reads, decide).await?;
        Ok(())
    }

    /// Delivering to a sink failed.
    pub fn audit_not_delivered(&self, name: &str) {
        let now = self.clock.now();
        if let Some(state) = self.sinks.states.lock().get_mut(name) {
            state.failing_since.get_or_insert(now);
        }
    }

    /// A sink rejected records for good: it is not sent them again.
    pub fn audit_rejected(&self, name: &str, records: u64) {
        if let Some(state) = self.sinks.states.lock().get_mut(name) {
            state.rejected = state.rejected.saturating_add(records);
        }
    }

    /// The sinks that are delivered to.
    #[must_use]
    pub fn audit_sinks(&self) -> Vec<SinkState> {
        self.sinks.states.lock().values().cloned().collect()
    }
}
