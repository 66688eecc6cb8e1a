//! The API keys of clients, with what is kept about them in memory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tessera_core::{ClientName, RealmName};

use crate::{
    credential::{
        disabled::DisabledClients, ending_count::EndingApiKeys, recent::RecentApiKeys, used::UsedApiKeys,
    },
    refusal::Refusals,
    shared::Shared,
};

/// The API keys of clients: who calls, and making, showing and removing keys.
pub struct Credentials {
    pub(crate) disabled: DisabledClients,
    pub(super) shared: Arc<Shared>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) used_api_keys: UsedApiKeys,
    pub(super) recent: RecentApiKeys,
    pub(super) ending_api_keys: ArcSwap<Vec<EndingApiKeys>>,
}

impl Credentials {
    /// `disabled` are the clients that the store has as disabled.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        refusals: &Arc<Refusals>,
        disabled: Vec<(RealmName, ClientName)>,
    ) -> Self {
        Self {
            disabled: DisabledClients::new(disabled),
            shared: Arc::clone(shared),
            refusals: Arc::clone(refusals),
            used_api_keys: UsedApiKeys::default(),
            recent: RecentApiKeys::default(),
            ending_api_keys: ArcSwap::default(),
        }
    }
}
