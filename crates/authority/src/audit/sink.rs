//! Sinks of the audit trail, as the authority sees them: how far each one is. The delivering task asks for the next
//! records, and confirms when they have arrived. Delivery is at least once: records whose confirmation a crash prevents
//! are delivered again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tessera_core::{Clock, Timestamp};
use tessera_store::{
    AuditHead, AuditPage, AuditQuery, Changes, Decision, Priority, Reads, SettingChange, Snapshot, Store,
};
use tokio::sync::watch;

use crate::error::Unavailable;

/// How long writing a position may wait for the next commit of others.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Everything up to this position was delivered.
    pub position: u64,
    /// Since when delivery fails; `None` while it works.
    pub failing_since: Option<Timestamp>,
    /// Records that it rejected permanently since the start.
    pub rejected: u64,
}

/// The sinks by name. Sinks that are no longer configured keep their positions, in case they are configured again.
pub struct AuditSinks {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Where each was at the start.
    kept: BTreeMap<String, u64>,
    states: Mutex<BTreeMap<String, SinkState>>,
}

impl AuditSinks {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, kept: BTreeMap<String, u64>) -> Self {
        Self {
            store,
            clock,
            kept,
            states: Mutex::default(),
        }
    }

    /// The sinks that this process can deliver to.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.states.lock().keys().cloned().collect()
    }

    /// Declares that this process can deliver to a sink. If several nodes can,
    /// [`AuditTrail::turn_to_deliver_to`](crate::AuditTrail::turn_to_deliver_to) tells when this node delivers.
    pub fn begin(&self, name: &str) {
        let position = self.kept.get(name).copied().unwrap_or(0);
        let state = SinkState {
            name: name.to_owned(),
            position,
            failing_since: None,
            rejected: 0,
        };
        self.states.lock().insert(name.to_owned(), state);
    }

    /// How far the sinks of other nodes are, as the store has it.
    /// `delivers`: whether this node delivers to a sink.
    pub(crate) fn follow(&self, kept: &BTreeMap<String, u64>, delivers: impl Fn(&str) -> bool) {
        for (name, state) in self.states.lock().iter_mut() {
            let position = kept.get(name).copied().unwrap_or(0);
            if !delivers(name) && state.position < position {
                state.position = position;
                state.failing_since = None;
            }
        }
    }

    /// The position up to which a sink has all records, as the store has it now; 0 for a new one.
    pub(crate) async fn kept_position(&self, name: &str) -> Result<u64, Unavailable> {
        let settings = self.store.read(Reads::default().settings()).await?.settings;
        let kept = settings.and_then(|settings| settings.audit_sinks.get(name).copied());
        let position = kept.unwrap_or(0);
        if let Some(state) = self.states.lock().get_mut(name) {
            state.position = position;
        }
        Ok(position)
    }

    /// Records of all realms after a position, for a sink.
    ///
    /// # Errors
    /// Fails if the trail can't be read.
    pub async fn records_after(&self, position: u64, limit: usize) -> Result<AuditPage, Unavailable> {
        Ok(self.store.audit_page(AuditQuery::after(position, limit)).await?)
    }

    /// The last record; the receiver is woken when a new one is appended.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<AuditHead> {
        self.store.log().audit_head()
    }

    /// A sink has everything up to `position`: visible at once, and stored by
    /// [`keep_position`](Self::keep_position).
    pub fn delivered(&self, name: &str, position: u64) {
        if let Some(state) = self.states.lock().get_mut(name) {
            state.position = position;
            state.failing_since = None;
        }
    }

    /// Stores that a sink has everything up to `position`, unless a higher position is stored: another node may have
    /// delivered since.
    ///
    /// # Errors
    /// Fails if the position can't be stored: after a restart the records are delivered again.
    pub async fn keep_position(&self, name: &str, position: u64) -> Result<(), Unavailable> {
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
    pub fn not_delivered(&self, name: &str) {
        let now = self.clock.now();
        if let Some(state) = self.states.lock().get_mut(name) {
            state.failing_since.get_or_insert(now);
        }
    }

    /// A sink rejected records permanently: they are not sent to it again.
    pub fn rejected(&self, name: &str, records: u64) {
        if let Some(state) = self.states.lock().get_mut(name) {
            state.rejected = state.rejected.saturating_add(records);
        }
    }

    /// The sinks that are delivered to.
    #[must_use]
    pub fn states(&self) -> Vec<SinkState> {
        self.states.lock().values().cloned().collect()
    }
}
