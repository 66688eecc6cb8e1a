//! Subscribers as operators see them: who is required, how far each is, and how one is sent away.

use tessera_core::{ClientName, RealmName, Sequence, SubscriberName};
use tessera_policy::Permission;

use crate::{
    Authority,
    credential::authenticate::Principal,
    error::CallNotAllowed,
    log::subscribers::{OwnedName, SubscriberState},
};

impl Authority {
    /// The required subscribers of the caller's realm, with the position of the log that they are measured by.
    ///
    /// # Errors
    /// Refuses those who may not read subscribers.
    pub fn subscribers(
        &self,
        principal: &Principal,
    ) -> Result<(Vec<SubscriberState>, Sequence), CallNotAllowed> {
        self.require(principal, &Permission::ReadSubscribers)?;
        let listed = self.subscribers.list(principal.realm_name());
        Ok((listed, self.committed()))
    }

    /// The required subscribers of all realms, for the operator of this process.
    #[must_use]
    pub fn required_subscribers(&self) -> Vec<(RealmName, SubscriberState)> {
        self.subscribers.all()
    }

    /// Ends the streams of a required subscriber, which may not come back as one for ten minutes. Until its
    /// bound has passed it is waited for, as it may go on answering for so long. Gives how many streams were
    /// open.
    ///
    /// # Errors
    /// Refuses those who may not evict subscribers.
    pub fn evict_subscriber(
        &self,
        principal: &Principal,
        client: ClientName,
        name: SubscriberName,
    ) -> Result<usize, CallNotAllowed> {
        self.require(principal, &Permission::EvictSubscribers)?;
        let owned = OwnedName {
            realm: principal.realm_name().clone(),
            client,
            name,
        };
        Ok(self.subscribers.evict(&owned))
    }
}
