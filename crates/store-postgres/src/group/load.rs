//! Loading the rows that units name.

use std::sync::Arc;

use tessera_core::{ApiKey, RealmName, Session, SigningKey};
use tessera_store::{ClientState, Reads, RequestRecord, StoreError, backend::decode};
use tokio_postgres::Row;

use super::overlay::Group;
use crate::{
    read_set::{ReadSet, client_in, request_in, revision_in, settings},
    state::{damaged, get, unsigned},
};

impl Group<'_> {
    /// The part of the reads that is not loaded.
    pub(crate) fn wanted(&self, reads: &Reads) -> ReadSet {
        let mut wanted = ReadSet {
            settings: reads.has_settings() && self.settings.is_none(),
            signing_keys: reads.has_signing_keys() && self.signing_keys.is_none(),
            events_below_floor: reads.has_events_below_floor() && self.events_below_floor.is_none(),
            ..ReadSet::default()
        };
        for id in reads.session_ids() {
            match self.sessions.get(id) {
                None => drop(wanted.sessions.insert(*id)),
                Some(None) => {}
                Some(Some(session)) => {
                    let key = session.credential.api_key();
                    let key = key.filter(|key| self.is_revoked(key).is_none());
                    wanted.api_keys.extend(key.copied());
                }
            }
        }
        let api_keys = reads.api_key_ids().iter();
        let api_keys = api_keys.filter(|id| !self.api_keys.contains_key(*id));
        wanted.api_keys.extend(api_keys.copied());
        let makers = reads.maker_ids().iter();
        let makers = makers.filter(|id| !self.makers.contains(*id));
        wanted.makers.extend(makers.copied());
        let clients = reads.client_names().iter();
        let clients = clients.filter(|client| !self.clients.contains_key(*client));
        wanted.clients.extend(clients.cloned());
        let request = reads.request_key();
        let request = request.filter(|key| !self.requests.contains_key(*key));
        wanted.requests.extend(request.cloned());
        let policies = reads.policy_revisions().iter();
        let policies = policies.filter(|revision| !self.policies.contains_key(*revision));
        wanted.policies.extend(policies.copied());
        let realms = reads.realm_names().iter();
        let realms = realms.filter(|realm| !self.realms.contains_key(*realm));
        wanted.realms.extend(realms.cloned());
        wanted
    }

    /// Takes the results of the statements of [`queries`]. The group's own writes take precedence.
    pub(crate) fn take(&mut self, wanted: &ReadSet, answers: Vec<Vec<Row>>) -> Result<(), StoreError> {
        let mut answers = answers.into_iter();
        let mut next = |is_asked: bool| {
            let rows = is_asked.then(|| answers.next());
            rows.flatten().unwrap_or_default()
        };
        self.take_sessions(wanted, &next(!wanted.sessions.is_empty()))?;
        self.take_api_keys(&next(!wanted.api_keys.is_empty()))?;
        for id in &wanted.api_keys {
            self.api_keys.entry(*id).or_insert(None);
        }
        self.take_api_keys(&next(!wanted.makers.is_empty()))?;
        self.makers.extend(wanted.makers.iter().copied());
        self.take_clients(wanted, &next(!wanted.clients.is_empty()))?;
        self.take_requests(wanted, &next(!wanted.requests.is_empty()))?;
        if wanted.settings {
            self.settings = Some(settings(&next(true))?);
        }
        if wanted.signing_keys {
            let keys = next(true);
            let keys = keys.iter().map(|row| decode("a signing key", get(row, 0)?));
            let keys = keys.map(|key| key.map(|key: SigningKey| (key.id, key)));
            self.signing_keys = Some(keys.collect::<Result<_, StoreError>>()?);
        }
        self.take_policies(wanted, &next(!wanted.policies.is_empty()))?;
        self.take_realms(wanted, &next(!wanted.realms.is_empty()))?;
        if wanted.events_below_floor {
            let events = next(true);
            let events = events
                .iter()
                .map(|row| decode("an event", get(row, 0)?).map(Arc::new));
            self.events_below_floor = Some(events.collect::<Result<_, StoreError>>()?);
        }
        Ok(())
    }

    fn take_sessions(&mut self, wanted: &ReadSet, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            if let Some(session) = self.take_session(row)? {
                self.places.insert(session.id, get(row, 2)?);
            }
        }
        for id in &wanted.sessions {
            self.sessions.entry(*id).or_insert(None);
        }
        Ok(())
    }

    /// Takes a session and whether its credential is revoked, and returns the session.
    pub(crate) fn take_session(&mut self, row: &Row) -> Result<Option<Arc<Session>>, StoreError> {
        let session: Session = decode("a session", get(row, 0)?)?;
        if let Some(key) = session.credential.api_key() {
            self.is_key_revoked.insert(*key, get(row, 1)?);
        }
        let taken = self.sessions.entry(session.id);
        Ok(taken.or_insert_with(|| Some(Arc::new(session))).clone())
    }

    fn take_api_keys(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let key: ApiKey = decode("an API key", get(row, 0)?)?;
            self.api_keys.entry(key.id).or_insert(Some(key));
        }
        Ok(())
    }

    fn take_clients(&mut self, wanted: &ReadSet, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let client = client_in(get(row, 0)?, get(row, 1)?)?;
            let state = ClientState {
                sessions: unsigned(get(row, 2)?)?,
                is_disabled: get(row, 3)?,
            };
            self.clients.insert(client, state);
        }
        for client in &wanted.clients {
            self.clients.entry(client.clone()).or_default();
        }
        Ok(())
    }

    fn take_policies(&mut self, wanted: &ReadSet, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let revision: &str = get(row, 0)?;
            let files = decode("the files of a policy", get(row, 1)?)?;
            self.policies
                .insert(revision_in(revision.as_bytes())?, Some(Arc::new(files)));
        }
        for revision in &wanted.policies {
            self.policies.entry(*revision).or_insert(None);
        }
        Ok(())
    }

    fn take_realms(&mut self, wanted: &ReadSet, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let realm: &str = get(row, 0)?;
            let realm = RealmName::parse(realm).map_err(|_| damaged("a row has no realm"))?;
            self.realms.insert(realm, unsigned(get(row, 1)?)?);
        }
        for realm in &wanted.realms {
            self.realms.entry(realm.clone()).or_default();
        }
        Ok(())
    }

    fn take_requests(&mut self, wanted: &ReadSet, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let key = request_in(row)?;
            let record: RequestRecord = decode("a request", get(row, 3)?)?;
            self.requests.entry(key).or_insert(Some(record));
        }
        for key in &wanted.requests {
            self.requests.entry(key.clone()).or_insert(None);
        }
        Ok(())
    }
}
