//! Subscribers as operators see them: which are required, how far each is, and how to evict one.

use tessera_core::{AuditAction, ClientName, RealmName, Sequence, SubscriberName};
use tessera_policy::Permission;
use tessera_store::{Changes, OtherNode, SubscriberKey, SubscriberState};

use crate::{
    log::{error::SubscriberError, fence::Fence},
    principal::Principal,
};

/// One stream of a required subscriber, and its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSubscriber {
    /// The node that it is or was connected to; `None` if there is only one node.
    pub node: Option<String>,
    /// Its state.
    pub state: SubscriberState,
}

impl Fence {
    /// The required subscribers of the caller's realm, at all nodes, with the position of the log against which they
    /// are measured.
    ///
    /// # Errors
    /// Refuses callers that may not read subscribers; fails if the subscribers of other nodes can't be read.
    pub async fn subscribers(
        &self,
        principal: &Principal,
    ) -> Result<(Vec<ListedSubscriber>, Sequence), SubscriberError> {
        self.shared.require(principal, &Permission::ReadSubscribers)?;
        let others = self.others.now().await?;
        let listed = self.listed_subscribers(Some(principal.realm_name()), &others);
        Ok((listed, self.shared.committed()))
    }

    /// The required subscribers of all realms at this node, for its operator.
    #[must_use]
    pub fn required_subscribers(&self) -> Vec<SubscriberState> {
        self.subscribers.all()
    }

    /// The required subscribers of all realms at all nodes, for the operator of one node; without those of other nodes
    /// if they are not known now.
    #[must_use]
    pub fn required_subscribers_of_all_nodes(&self) -> Vec<ListedSubscriber> {
        let others = self.others.lately().unwrap_or_default();
        self.listed_subscribers(None, &others)
    }

    fn listed_subscribers(&self, realm: Option<&RealmName>, others: &[OtherNode]) -> Vec<ListedSubscriber> {
        let of_realm = |state: &SubscriberState| realm.is_none_or(|realm| state.key.realm == *realm);
        let here = self.subscribers.all().into_iter().filter(of_realm);
        let node = self.others.node_name();
        let here = here.map(|state| ListedSubscriber {
            node: node.map(str::to_owned),
            state,
        });
        let there = others.iter().flat_map(|other| {
            other.subscribers(realm).map(|state| ListedSubscriber {
                node: Some(other.name.clone()),
                state,
            })
        });
        let mut listed: Vec<_> = here.chain(there).collect();
        listed.sort_by(|a, b| a.state.key.cmp(&b.state.key));
        listed
    }

    /// The required subscribers of a realm at this node and at others.
    pub(crate) fn states(&self, realm: &RealmName, others: &[OtherNode]) -> Vec<SubscriberState> {
        let listed = self.listed_subscribers(Some(realm), others).into_iter();
        listed.map(|listed| listed.state).collect()
    }

    /// Ends the streams of a required subscriber, at other nodes within two seconds; it may not return as a required
    /// one for ten minutes. The fence waits for it until its bound has passed, since it may answer for so long. Returns
    /// how many streams were open.
    ///
    /// # Errors
    /// Refuses callers that may not evict subscribers, or that evict too many; fails if other nodes can't be told.
    pub async fn evict_subscriber(
        &self,
        principal: &Principal,
        client: ClientName,
        name: SubscriberName,
    ) -> Result<usize, SubscriberError> {
        self.shared.require(principal, &Permission::EvictSubscribers)?;
        let key = SubscriberKey {
            realm: principal.realm_name().clone(),
            client,
            name,
        };
        let others = self.others.now().await?;
        let theirs = others
            .iter()
            .flat_map(|other| other.subscribers(Some(&key.realm)));
        let open_elsewhere = theirs.filter(|state| state.is_open && state.key == key).count();
        let open_here = self.subscribers.evict(&key)?;
        let evicted = AuditAction::SubscriberEvicted {
            client: key.client,
            subscriber: key.name,
        };
        let changes = Changes {
            audit: vec![principal.record(self.shared.clock.now(), evicted)],
            ..Changes::default()
        };
        self.shared.store.write(changes).await?;
        self.others.tell_at_once().await?;
        Ok(open_here.saturating_add(open_elsewhere))
    }
}
