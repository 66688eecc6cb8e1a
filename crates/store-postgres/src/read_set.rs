//! The rows that units name, and the statements that find them for all units at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tessera_core::{ApiKeyId, ClientName, PolicyRevision, RealmName, RequestId, SessionId};
use tessera_store::{Reads, RequestKey, Settings, StoreError, backend::decode};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connect::Query,
    state::{damaged, get, unsigned},
};

/// A client, by its names.
pub(crate) type Client = (RealmName, ClientName);

/// What is to be loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSet {
    pub(crate) sessions: BTreeSet<SessionId>,
    pub(crate) api_keys: BTreeSet<ApiKeyId>,
    pub(crate) makers: BTreeSet<ApiKeyId>,
    pub(crate) clients: BTreeSet<Client>,
    pub(crate) requests: Vec<RequestKey>,
    pub(crate) settings: bool,
    pub(crate) signing_keys: bool,
    pub(crate) policies: BTreeSet<PolicyRevision>,
    pub(crate) realms: BTreeSet<RealmName>,
    pub(crate) events_below_floor: bool,
}

impl ReadSet {
    /// Everything that reads name.
    pub(crate) fn of(reads: &Reads) -> Self {
        Self {
            sessions: reads.session_ids().iter().copied().collect(),
            api_keys: reads.api_key_ids().iter().copied().collect(),
            makers: reads.maker_ids().iter().copied().collect(),
            clients: reads.client_names().iter().cloned().collect(),
            requests: reads.request_key().cloned().into_iter().collect(),
            settings: reads.has_settings(),
            signing_keys: reads.has_signing_keys(),
            policies: reads.policy_revisions().iter().copied().collect(),
            realms: reads.realm_names().iter().cloned().collect(),
            events_below_floor: reads.has_events_below_floor(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.api_keys.is_empty()
            && self.makers.is_empty()
            && self.clients.is_empty()
            && self.requests.is_empty()
            && !self.settings
            && !self.signing_keys
            && self.policies.is_empty()
            && self.realms.is_empty()
            && !self.events_below_floor
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.sessions.extend(more.sessions);
        self.api_keys.extend(more.api_keys);
        self.makers.extend(more.makers);
        self.clients.extend(more.clients);
        for request in more.requests {
            if !self.requests.contains(&request) {
                self.requests.push(request);
            }
        }
        self.settings |= more.settings;
        self.signing_keys |= more.signing_keys;
        self.policies.extend(more.policies);
        self.realms.extend(more.realms);
        self.events_below_floor |= more.events_below_floor;
    }
}

const SESSIONS: &str = "SELECT s.body, coalesce(k.revoked, false), s.ctid FROM session s \
    LEFT JOIN api_key k ON k.id = CASE WHEN starts_with(s.credential, 'api_key:') THEN substr(s.credential, 9) END \
    WHERE s.id = ANY($1)";
const API_KEYS: &str = "SELECT body FROM api_key WHERE id = ANY($1)";
const MADE: &str = "SELECT body FROM api_key WHERE made_with = ANY($1)";
const CLIENTS: &str = "SELECT c.realm, c.client, c.sessions, c.disabled FROM client c \
    JOIN unnest($1::text[], $2::text[]) AS n (realm, client) ON c.realm = n.realm AND c.client = n.client";
const REQUESTS: &str = "SELECT r.realm, r.client, r.id, r.body FROM request r \
    JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS n (realm, client, id) \
    ON r.realm = n.realm AND r.client = n.client AND r.id = n.id";
pub(crate) const SETTINGS: &str = "SELECT 'setting', name, body, 0::bigint FROM setting \
    UNION ALL SELECT 'bound', realm, NULL, max(millis) FROM staleness_bound GROUP BY realm \
    UNION ALL SELECT 'sink', name, NULL, position FROM audit_sink \
    UNION ALL SELECT 'disabled', realm || chr(1) || client, NULL, 0 FROM client WHERE disabled";

const SIGNING_KEYS: &str = "SELECT body FROM signing_key";
const POLICIES: &str = "SELECT revision, files FROM policy WHERE revision = ANY($1)";
const REALMS: &str =
    "SELECT realm, coalesce(sum(sessions), 0)::bigint FROM client WHERE realm = ANY($1) GROUP BY realm";
const EVENTS_BELOW_FLOOR: &str = "SELECT body FROM event WHERE seq <= \
    (SELECT floor FROM commit_group ORDER BY number DESC LIMIT 1) ORDER BY seq";

/// The statements that find these rows.
pub(crate) fn queries(wanted: &ReadSet) -> Vec<Query> {
    let mut queries = Vec::new();
    let names = |ids: &BTreeSet<ApiKeyId>| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
    if !wanted.sessions.is_empty() {
        let ids = wanted.sessions.iter().map(|id| uuid_of(*id));
        queries.push(Query::new(SESSIONS).value(ids.collect::<Vec<_>>()));
    }
    if !wanted.api_keys.is_empty() {
        queries.push(Query::new(API_KEYS).value(names(&wanted.api_keys)));
    }
    if !wanted.makers.is_empty() {
        queries.push(Query::new(MADE).value(names(&wanted.makers)));
    }
    if !wanted.clients.is_empty() {
        let clients = wanted.clients.iter();
        let (realms, clients): (Vec<_>, Vec<_>) = clients
            .map(|(realm, client)| (realm.as_str().to_owned(), client.as_str().to_owned()))
            .unzip();
        queries.push(Query::new(CLIENTS).value(realms).value(clients));
    }
    if !wanted.requests.is_empty() {
        let (mut realms, mut clients, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for key in &wanted.requests {
            realms.push(key.realm.as_str().to_owned());
            clients.push(key.client.as_str().to_owned());
            ids.push(Uuid::from_bytes(*key.request.as_bytes()));
        }
        queries.push(Query::new(REQUESTS).value(realms).value(clients).value(ids));
    }
    if wanted.settings {
        queries.push(Query::new(SETTINGS));
    }
    if wanted.signing_keys {
        queries.push(Query::new(SIGNING_KEYS));
    }
    if !wanted.policies.is_empty() {
        let revisions = wanted.policies.iter().map(ToString::to_string);
        queries.push(Query::new(POLICIES).value(revisions.collect::<Vec<_>>()));
    }
    if !wanted.realms.is_empty() {
        let realms = wanted.realms.iter().map(|realm| realm.as_str().to_owned());
        queries.push(Query::new(REALMS).value(realms.collect::<Vec<_>>()));
    }
    if wanted.events_below_floor {
        queries.push(Query::new(EVENTS_BELOW_FLOOR));
    }
    queries
}

pub(crate) fn settings(rows: &[Row]) -> Result<Settings, StoreError> {
    let mut settings = Settings::default();
    let (mut bounds, mut sinks) = (BTreeMap::new(), BTreeMap::new());
    for row in rows {
        let (kind, name): (&str, String) = (get(row, 0)?, get(row, 1)?);
        let number: i64 = get(row, 3)?;
        match (kind, name.as_str()) {
            ("bound", _) => {
                let realm = RealmName::parse(&name).map_err(|_| damaged("a bound has no realm"))?;
                bounds.insert(realm, Duration::from_millis(unsigned(number)?));
            }
            ("sink", _) => drop(sinks.insert(name, unsigned(number)?)),
            ("disabled", _) => {
                let (realm, client) = name.split_once('\u{1}').unwrap_or_default();
                settings.disabled_clients.push(client_in(realm, client)?);
            }
            (_, "policy_reconciled") => settings.policy_reconciled = Some(revision_in(get(row, 2)?)?),
            (_, "last_backup") => settings.last_backup = Some(decode("the last backup", get(row, 2)?)?),
            // A newer version that runs beside this one may keep more.
            _ => {}
        }
    }
    settings.disabled_clients.sort();
    settings.staleness_bounds = bounds;
    settings.audit_sinks = sinks;
    Ok(settings)
}

pub(crate) fn revision_in(text: &[u8]) -> Result<PolicyRevision, StoreError> {
    let revision = std::str::from_utf8(text).ok();
    let revision = revision.and_then(|text| PolicyRevision::parse(text).ok());
    revision.ok_or_else(|| damaged("a row has no revision of a policy"))
}

pub(crate) fn client_in(realm: &str, client: &str) -> Result<Client, StoreError> {
    let realm = RealmName::parse(realm).map_err(|_| damaged("a row has no realm"))?;
    let client = ClientName::parse(client).map_err(|_| damaged("a row has no client"))?;
    Ok((realm, client))
}

/// The key of a request in the first three columns.
pub(crate) fn request_in(row: &Row) -> Result<RequestKey, StoreError> {
    let (realm, client) = client_in(get(row, 0)?, get(row, 1)?)?;
    let id: Uuid = get(row, 2)?;
    Ok(RequestKey {
        realm,
        client,
        request: RequestId::from_bytes(*id.as_bytes()),
    })
}

pub(crate) fn uuid_of(id: SessionId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}
