//! The writes of a group.

use tessera_core::{Session, SessionId};
use tessera_store::{StoreError, backend::encode};
use uuid::Uuid;

use super::overlay::{Group, PolicyChange};
use crate::{
    connect::Query,
    node::Kept,
    state::{State, number},
    statements,
};

/// A group, ready to be written.
pub(crate) struct Finished {
    /// All statements of its second round trip except the last, which commits.
    pub(crate) queries: Vec<Query>,
    pub(crate) state: State,
    pub(crate) events: Vec<Kept>,
}

impl Group<'_> {
    /// The writes of the group with the id `id`, and the state after it.
    pub(crate) fn finish(mut self, id: Uuid) -> Result<Finished, StoreError> {
        self.state.number = self.before.number.saturating_add(1);
        self.state.id = id;
        let mut queries = Vec::new();
        self.write_sessions(&mut queries)?;
        self.write_clients(&mut queries);
        self.write_keys(&mut queries)?;
        self.write_settings(&mut queries)?;
        self.write_records(&mut queries)?;
        queries.push(self.state.insert(self.node.id)?);
        if !self.writes.events.is_empty() {
            queries.push(Query::new(statements::NOTIFY).value(self.node.channel()));
        }
        Ok(Finished {
            queries,
            state: self.state,
            events: self.writes.events,
        })
    }

    fn written(&self, ids: impl Iterator<Item = SessionId>) -> Vec<&Session> {
        ids.filter_map(|id| self.sessions.get(&id)?.as_deref()).collect()
    }

    fn write_sessions(&self, queries: &mut Vec<Query>) -> Result<(), StoreError> {
        let inserted = self.written(self.writes.inserted.iter().copied());
        let moved = self.written(self.writes.moved.iter().copied());
        for (sql, sessions) in [
            (statements::INSERT_SESSIONS, &inserted),
            (statements::UPDATE_SESSIONS, &moved),
        ] {
            if !sessions.is_empty() {
                queries.push(statements::sessions(sql, sessions)?);
            }
        }
        let kept = self.writes.updated.difference(&self.writes.moved);
        let (places, kept): (Vec<_>, Vec<_>) = kept
            .filter_map(|id| Some((*self.places.get(id)?, self.sessions.get(id)?.as_deref()?)))
            .unzip();
        if !kept.is_empty() {
            queries.push(statements::keep_sessions(places, &kept)?);
        }
        let relabelled = self.written(self.writes.relabelled.iter().copied());
        if !relabelled.is_empty() {
            queries.push(statements::unlabel(relabelled.iter().map(|session| session.id)));
        }
        queries.extend(statements::label(inserted.into_iter().chain(relabelled)));
        Ok(())
    }

    fn write_clients(&self, queries: &mut Vec<Query>) {
        let counts = self.writes.counts.iter();
        let (more, fewer): (Vec<_>, Vec<_>) = counts
            .filter(|(_, more)| **more != 0)
            .partition(|(_, more)| **more > 0);
        for (sql, counts) in [(statements::COUNT, more), (statements::UNCOUNT, fewer)] {
            let (mut realms, mut clients, mut changes) = (Vec::new(), Vec::new(), Vec::new());
            for ((realm, client), more) in counts {
                realms.push(realm.as_str().to_owned());
                clients.push(client.as_str().to_owned());
                changes.push(more.saturating_abs());
            }
            if !changes.is_empty() {
                queries.push(Query::new(sql).value(realms).value(clients).value(changes));
            }
        }
        if !self.writes.disabled.is_empty() {
            let (mut realms, mut clients, mut disabled) = (Vec::new(), Vec::new(), Vec::new());
            for ((realm, client), is_disabled) in &self.writes.disabled {
                realms.push(realm.as_str().to_owned());
                clients.push(client.as_str().to_owned());
                disabled.push(*is_disabled);
            }
            queries.push(
                Query::new(statements::DISABLE)
                    .value(realms)
                    .value(clients)
                    .value(disabled),
            );
        }
    }

    fn write_keys(&self, queries: &mut Vec<Query>) -> Result<(), StoreError> {
        let api_keys = self.writes.api_keys.iter();
        let api_keys = api_keys.map(|id| (id, self.api_keys.get(id).and_then(Option::as_ref)));
        queries.extend(statements::api_keys(api_keys)?);
        let signing_keys = self.writes.signing_keys.iter();
        queries.extend(statements::signing_keys(
            signing_keys.map(|(id, key)| (id, key.as_ref())),
        )?);
        Ok(())
    }

    fn write_settings(&self, queries: &mut Vec<Query>) -> Result<(), StoreError> {
        for change in &self.writes.policies {
            match change {
                PolicyChange::Kept(revision, files) => {
                    let keep = Query::new(statements::KEEP_POLICY).value(revision.to_string());
                    queries.push(keep.value(encode(files)?));
                }
                PolicyChange::Reconciled(revision, now) => {
                    let replaced = Query::new(statements::REPLACE_POLICY).value(revision.to_string());
                    queries.push(replaced.value(now.as_millis()));
                    let set = Query::new(statements::SET).value("policy_reconciled".to_owned());
                    queries.push(set.value(revision.to_string().into_bytes()));
                }
            }
        }
        if let Some(backup) = &self.writes.last_backup {
            let set = Query::new(statements::SET).value("last_backup".to_owned());
            queries.push(set.value(backup.clone()));
        }
        if !self.writes.bounds.is_empty() {
            let bounds = self.writes.bounds.iter();
            let bounds = bounds.map(|(realm, millis)| (realm.as_str().to_owned(), *millis));
            let (realms, millis): (Vec<_>, Vec<_>) = bounds.unzip();
            let bound = Query::new(statements::BOUND).value(self.node.id);
            queries.push(bound.value(realms).value(millis));
        }
        if !self.writes.sinks.is_empty() {
            let sinks = self.writes.sinks.iter();
            let sinks = sinks.map(|(name, position)| (name.clone(), number(*position)));
            let (names, positions): (Vec<_>, Vec<_>) = sinks.unzip();
            queries.push(Query::new(statements::SINK).value(names).value(positions));
        }
        Ok(())
    }

    fn write_records(&self, queries: &mut Vec<Query>) -> Result<(), StoreError> {
        let requests = self.writes.requests.values();
        queries.extend(statements::requests(requests.map(|(key, record)| (key, record)))?);
        queries.extend(statements::audit(
            self.writes.audit.iter().map(|(bytes, at)| (bytes, *at)),
        ));
        let events = self.writes.events.iter();
        queries.extend(statements::events(
            events.map(|kept| (kept.event.as_ref(), kept.counts_until)),
        )?);
        let cutoffs = self.writes.cutoffs.iter();
        let cutoffs = cutoffs.filter_map(|(key, (until, at))| {
            let kept = self.writes.events.get(*at)?;
            Some((key, *until, kept.event.as_ref()))
        });
        queries.extend(statements::cutoffs(cutoffs)?);
        Ok(())
    }
}
