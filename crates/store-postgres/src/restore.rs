//! Making a schema from a backup, in one transaction: until it is finished, nothing is visible.

use std::collections::{BTreeMap, HashMap};

use tessera_core::{
    ApiKey, ApiKeyId, Event, KeyId, PolicyRevision, Sequence, Session, SessionId, SigningKey, Timestamp,
};
use tessera_store::{
    AuditBytes, BackupEnd, BackupRecord, CutoffKey, PolicyFiles, RequestKey, RequestRecord, StoreError,
    backend::encode,
};
use uuid::Uuid;

use crate::{
    anew::MARK,
    connect::{Connection, Connector, Query, all},
    error::{Failure, OpenError},
    open,
    options::PostgresOptions,
    partition,
    read_set::uuid_of,
    schema::random_id,
    state::{State, number},
    statements::{self, BOUND, DISABLE, PUT_SESSIONS, SET},
};

/// How many records are written at once.
const BATCH: usize = 500;

const IS_EMPTY: &str = "SELECT (SELECT max(number) FROM commit_group) = 0 \
    AND NOT EXISTS (SELECT FROM session) AND NOT EXISTS (SELECT FROM api_key)";
const COUNT_ALL: &str = "INSERT INTO client AS c (realm, client, sessions) \
    SELECT realm, client, count(*) FROM session GROUP BY realm, client \
    ON CONFLICT (realm, client) DO UPDATE SET sessions = excluded.sessions";
const PUT_POLICY: &str = "INSERT INTO policy (revision, replaced_at, files) VALUES ($1, $2, $3) \
    ON CONFLICT (revision) DO UPDATE SET replaced_at = excluded.replaced_at, files = excluded.files";

/// A schema that is being made from a backup. Dropping it before it is [finished](Self::finish) leaves an empty schema.
pub struct PostgresRestore {
    connection: Connection,
    batch: Batch,
    /// Whether everything must be ended before it is served.
    is_marked: bool,
    /// The existing partition of the audit trail for the next records.
    audit_partition: Option<u64>,
}

/// Records to be written: for one key, the later record counts.
#[derive(Default)]
struct Batch {
    records: usize,
    sessions: BTreeMap<SessionId, Option<Session>>,
    api_keys: BTreeMap<ApiKeyId, Option<ApiKey>>,
    clients: BTreeMap<(String, String), bool>,
    signing_keys: BTreeMap<KeyId, Option<SigningKey>>,
    requests: HashMap<RequestKey, Option<RequestRecord>>,
    policies: BTreeMap<PolicyRevision, Option<(PolicyFiles, Option<Timestamp>)>>,
    events: BTreeMap<Sequence, Option<Event>>,
    cutoffs: BTreeMap<CutoffKey, Option<(Timestamp, Event)>>,
    audit: Vec<(AuditBytes, Timestamp)>,
    bounds: BTreeMap<String, i64>,
}

impl PostgresRestore {
    /// Begins in an empty schema, which is created if it does not exist.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn begin(options: &PostgresOptions) -> Result<Self, OpenError> {
        let connector = Connector::new(options)?;
        let (connection, _) = open::ready(&connector, options).await?;
        // The sender of the records may take long for each.
        let patient = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN; \
            LOCK TABLE meta IN EXCLUSIVE MODE";
        connection.client.batch_execute(patient).await?;
        let is_empty = connection.client.query_one(IS_EMPTY, &[]).await?;
        if !is_empty.try_get::<_, bool>(0)? {
            return Err(OpenError::NotEmpty {
                schema: options.schema.clone(),
            });
        }
        Ok(Self {
            connection,
            batch: Batch::default(),
            is_marked: options.restores,
            audit_partition: None,
        })
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// Fails if the database fails.
    pub async fn add(&mut self, record: BackupRecord) -> Result<(), StoreError> {
        self.batch.add(record)?;
        if self.batch.records < BATCH {
            return Ok(());
        }
        self.flush().await
    }

    /// Writes the rest, and commits everything: the schema has the state of the position that `end` names, in its log.
    ///
    /// # Errors
    /// Fails if the database fails; then nothing is written.
    pub async fn finish(mut self, end: BackupEnd) -> Result<(), StoreError> {
        self.flush().await?;
        let state = State {
            number: 1,
            id: random_id()?,
            last: end.last,
            floor: end.floor,
            audit: end.audit_head,
            audit_first: end.audit_first,
            purged: end.purged,
            policy: end.policy,
            times: end.times,
        };
        // There must be a partition for the next record.
        self.room_for_audit(state.audit.position).await?;
        let log = Uuid::from_bytes(*end.log.as_bytes());
        let mut trip = vec![
            Query::new("UPDATE meta SET log_id = $1").value(log),
            Query::new("DELETE FROM audit WHERE position < $1").value(number(state.audit_first)),
            Query::new(COUNT_ALL),
            state.insert(Uuid::nil())?,
            // Subscribers with the restored bounds may have been answered until now.
            Query::new("INSERT INTO node (id, name, seq, beat) VALUES ($1, 'restored', 0, 0)")
                .value(Uuid::nil()),
        ];
        if self.is_marked {
            trip.push(Query::new(MARK));
        }
        if let Some(revision) = end.policy_reconciled {
            let set = Query::new(SET).value("policy_reconciled".to_owned());
            trip.push(set.value(revision.to_string().into_bytes()));
        }
        if let Some(backup) = end.last_backup {
            let set = Query::new(SET).value("last_backup".to_owned());
            trip.push(set.value(encode(&backup)?));
        }
        all(&self.connection.client, trip).await?;
        self.connection
            .client
            .batch_execute("COMMIT")
            .await
            .map_err(Failure::from)?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        for position in batch.audit.iter().map(|(bytes, _)| bytes.position) {
            self.room_for_audit(position).await?;
        }
        all(&self.connection.client, batch.queries()?).await?;
        Ok(())
    }

    /// Makes the partition for a position of the audit trail, if it does not exist.
    async fn room_for_audit(&mut self, position: u64) -> Result<(), StoreError> {
        let begin = partition::AUDIT.begin_of(position);
        if self.audit_partition != Some(begin) {
            // The schema was made with the first partition.
            if begin > 0 {
                partition::create(&self.connection.client, partition::AUDIT, begin).await?;
            }
            self.audit_partition = Some(begin);
        }
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, record: BackupRecord) -> Result<(), StoreError> {
        self.records += 1;
        match record {
            BackupRecord::Session(session) => drop(self.sessions.insert(session.id, Some(*session))),
            BackupRecord::NoSession(id) => drop(self.sessions.insert(id, None)),
            BackupRecord::ApiKey(key) => drop(self.api_keys.insert(key.id, Some(*key))),
            BackupRecord::NoApiKey(id) => drop(self.api_keys.insert(id, None)),
            BackupRecord::Client {
                realm,
                client,
                is_disabled,
            } => {
                let names = (realm.as_str().to_owned(), client.as_str().to_owned());
                self.clients.insert(names, is_disabled);
            }
            BackupRecord::SigningKey(key) => drop(self.signing_keys.insert(key.id, Some(*key))),
            BackupRecord::NoSigningKey(id) => drop(self.signing_keys.insert(id, None)),
            BackupRecord::Request(key, record) => drop(self.requests.insert(key, Some(record))),
            BackupRecord::NoRequest(key) => drop(self.requests.insert(key, None)),
            BackupRecord::Policy {
                revision,
                files,
                replaced_at,
            } => drop(self.policies.insert(revision, Some((files, replaced_at)))),
            BackupRecord::NoPolicy(revision) => drop(self.policies.insert(revision, None)),
            BackupRecord::Event(event) => drop(self.events.insert(event.sequence, Some(*event))),
            BackupRecord::NoEvent(sequence) => drop(self.events.insert(sequence, None)),
            BackupRecord::Cutoff { until, event } => {
                if let Some(key) = CutoffKey::of(&event) {
                    self.cutoffs.insert(key, Some((until, *event)));
                }
            }
            BackupRecord::NoCutoff(key) => drop(self.cutoffs.insert(key, None)),
            BackupRecord::Audit(bytes) => {
                let entry = bytes.entry()?;
                let at = entry.record.at;
                self.audit.push((entry.into(), at));
            }
            BackupRecord::StalenessBound(realm, bound) => {
                let millis = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
                self.bounds.insert(realm.as_str().to_owned(), millis);
            }
        }
        Ok(())
    }

    fn queries(self) -> Result<Vec<Query>, StoreError> {
        let mut trip = Vec::new();
        self.add_sessions(&mut trip)?;
        let api_keys = self.api_keys.iter();
        trip.extend(statements::api_keys(
            api_keys.map(|(id, key)| (id, key.as_ref())),
        )?);
        let signing_keys = self.signing_keys.iter();
        trip.extend(statements::signing_keys(
            signing_keys.map(|(id, key)| (id, key.as_ref())),
        )?);
        self.add_requests(&mut trip)?;
        self.add_policies(&mut trip)?;
        self.add_events(&mut trip)?;
        trip.extend(statements::audit(
            self.audit.iter().map(|(bytes, at)| (bytes, *at)),
        ));
        if !self.clients.is_empty() {
            let (names, disabled): (Vec<_>, Vec<_>) = self.clients.into_iter().unzip();
            let (realms, clients): (Vec<_>, Vec<_>) = names.into_iter().unzip();
            trip.push(Query::new(DISABLE).value(realms).value(clients).value(disabled));
        }
        if !self.bounds.is_empty() {
            let (realms, millis): (Vec<_>, Vec<_>) = self.bounds.into_iter().unzip();
            trip.push(Query::new(BOUND).value(Uuid::nil()).value(realms).value(millis));
        }
        Ok(trip)
    }

    fn add_sessions(&self, trip: &mut Vec<Query>) -> Result<(), StoreError> {
        if self.sessions.is_empty() {
            return Ok(());
        }
        let kept: Vec<_> = self.sessions.values().flatten().collect();
        let gone = self.sessions.iter().filter(|(_, session)| session.is_none());
        let gone: Vec<_> = gone.map(|(id, _)| uuid_of(*id)).collect();
        trip.push(statements::unlabel(self.sessions.keys().copied()));
        trip.push(Query::new("DELETE FROM session WHERE id = ANY($1)").value(gone));
        trip.push(statements::sessions(PUT_SESSIONS, &kept)?);
        trip.extend(statements::label(kept.into_iter()));
        Ok(())
    }

    fn add_requests(&self, trip: &mut Vec<Query>) -> Result<(), StoreError> {
        let requests = self.requests.iter();
        let kept = requests.filter_map(|(key, record)| Some((key, record.as_ref()?)));
        trip.extend(statements::requests(kept)?);
        for (key, record) in &self.requests {
            if record.is_none() {
                let remove = Query::new("DELETE FROM request WHERE realm = $1 AND client = $2 AND id = $3")
                    .value(key.realm.as_str().to_owned())
                    .value(key.client.as_str().to_owned())
                    .value(Uuid::from_bytes(*key.request.as_bytes()));
                trip.push(remove);
            }
        }
        Ok(())
    }

    fn add_policies(&self, trip: &mut Vec<Query>) -> Result<(), StoreError> {
        for (revision, kept) in &self.policies {
            let revision = revision.to_string();
            trip.push(match kept {
                Some((files, replaced_at)) => Query::new(PUT_POLICY)
                    .value(revision)
                    .value(replaced_at.map(Timestamp::as_millis))
                    .value(encode(files)?),
                None => Query::new("DELETE FROM policy WHERE revision = $1").value(revision),
            });
        }
        Ok(())
    }

    fn add_events(&self, trip: &mut Vec<Query>) -> Result<(), StoreError> {
        if !self.events.is_empty() {
            let sequences = self.events.keys().map(|sequence| number(sequence.0));
            let sequences = sequences.collect::<Vec<_>>();
            trip.push(Query::new("DELETE FROM event WHERE seq = ANY($1)").value(sequences));
        }
        // How long a cutoff counts is in a separate record, and a node that opens reads that.
        let kept = self.events.values().flatten();
        trip.extend(statements::events(
            kept.map(|event| (event, event.relevant_until)),
        )?);
        let kept = self.cutoffs.iter();
        let kept = kept.filter_map(|(key, cutoff)| {
            let (until, event) = cutoff.as_ref()?;
            Some((key, *until, event))
        });
        trip.extend(statements::cutoffs(kept)?);
        for (key, cutoff) in &self.cutoffs {
            if cutoff.is_none() {
                let remove = Query::new("DELETE FROM cutoff WHERE realm = $1 AND kind = $2 AND target = $3")
                    .value(key.realm.as_str().to_owned())
                    .value(i16::from(key.kind))
                    .value(key.target.clone());
                trip.push(remove);
            }
        }
        Ok(())
    }
}
