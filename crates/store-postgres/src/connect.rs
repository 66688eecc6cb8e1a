//! Connections: with TLS, the settings of a session, and a task that reads the server's notices and notifications.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Connect};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config as PgConfig, Row,
    config::{Host, SslMode},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    durability::Survives,
    error::{Failure, OpenError},
    options::{Durability, PostgresOptions},
    servers::Servers,
};

/// How long one round trip may take. A frozen server answers nothing, and closes nothing.
pub(crate) const TRIP_MAX: Duration = Duration::from_secs(8);

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    servers: Arc<Servers>,
    tls: MakeRustlsConnect,
    session: Arc<str>,
    /// Connections run on the runtime that opened the store, whichever caller first needs one.
    runtime: Handle,
    /// Woken by each notification of another node.
    pub(crate) notified: Arc<Notify>,
    durability: Durability,
    /// What was logged last about what an acknowledged answer survives.
    said: Arc<Mutex<Option<Survives>>>,
}

/// A connection for writing.
pub(crate) struct Connection {
    pub(crate) client: ClientWrapper,
    warned: Arc<AtomicBool>,
}

impl Connection {
    /// Whether the server has warned since the last call: of a commit that it did not make durable.
    pub(crate) fn take_warning(&self) -> bool {
        self.warned.swap(false, Ordering::SeqCst)
    }
}

impl Connector {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, OpenError> {
        options.check()?;
        let mut config = options.config()?;
        let is_remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        if is_remote && config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Require);
        }
        Ok(Self {
            servers: Arc::new(Servers::of(&config)),
            tls: tls(options)?,
            session: session_settings(&options.schema).into(),
            runtime: Handle::current(),
            notified: Arc::default(),
            durability: options.durability,
            said: Arc::default(),
        })
    }

    /// Connects to a server that does not lose what it acknowledges: after a failover it is a different server.
    pub(crate) async fn open(&self) -> Result<Connection, Failure> {
        let connection = self.open_any().await?;
        match timeout(TRIP_MAX, self.check_durability(&connection)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(Failure::Away(error.to_string())),
            Err(_) => Err(silent(TRIP_MAX)),
        }
    }

    /// Checks what an acknowledged answer survives, and logs it if that has changed.
    pub(crate) async fn check_durability(&self, connection: &Connection) -> Result<(), OpenError> {
        let survives = Survives::at(&connection.client, self.durability).await?;
        let mut said = self.said.lock();
        if said.as_ref() != Some(&survives) {
            survives.say();
            *said = Some(survives);
        }
        Ok(())
    }

    /// The next connection begins with another server, if there are several.
    pub(crate) fn try_another(&self) {
        self.servers.try_another();
    }

    /// How long connecting may take.
    pub(crate) fn time_max(&self) -> Duration {
        self.servers.time_max()
    }

    /// Connects to a server that is not checked yet.
    pub(crate) async fn open_any(&self) -> Result<Connection, Failure> {
        let warned = Arc::new(AtomicBool::new(false));
        let started = timeout(self.time_max(), self.start(Arc::clone(&warned))).await;
        let (client, driver) = started.map_err(|_| {
            self.try_another();
            let seconds = self.time_max().as_secs();
            Failure::Away(format!("no connection was made within {seconds} s"))
        })??;
        Ok(Connection {
            client: ClientWrapper::new(client, driver),
            warned,
        })
    }

    async fn start(
        &self,
        warned: Arc<AtomicBool>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let mut starting = JoinSet::new();
        starting.spawn_on(self.clone().start_here(Arc::clone(&warned)), &self.runtime);
        match starting.join_next().await {
            Some(Ok(started)) => started,
            // That runtime is shutting down.
            _ => self.clone().start_here(warned).await,
        }
    }

    async fn start_here(
        self,
        warned: Arc<AtomicBool>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, mut connection) = self.servers.connect(&self.tls).await?;
        let notified = Arc::clone(&self.notified);
        let driver = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    // The notice comes before the answer of its statement.
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        if notice.severity() == "WARNING" || notice.code().code().starts_with("01") {
                            tracing::warn!(
                                code = notice.code().code(),
                                "the database warns: {}",
                                notice.message()
                            );
                            warned.store(true, Ordering::SeqCst);
                        }
                    }
                    Some(Ok(AsyncMessage::Notification(_))) => notified.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        });
        client.batch_execute(&self.session).await?;
        Ok((client, driver))
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _: &PgConfig,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>>
    {
        Box::pin(self.start(Arc::default()))
    }
}

/// A server accepted the connection, and answers nothing.
pub(crate) fn silent(limit: Duration) -> Failure {
    Failure::Away(format!(
        "it took the connection, and did not answer within {} s",
        limit.as_secs()
    ))
}

/// The settings of each session, whatever the server's own settings are.
fn session_settings(schema: &str) -> String {
    format!(
        "SET search_path = {schema}, pg_temp; SET synchronous_commit = on; SET jit = off; \
         SET default_transaction_isolation = 'read committed'; SET idle_in_transaction_session_timeout = '2s'; \
         SET lock_timeout = '5s'; SET statement_timeout = '7s'; SET client_min_messages = 'warning'; \
         SET timezone = 'UTC'; SET bytea_output = 'hex'"
    )
}

fn tls(options: &PostgresOptions) -> Result<MakeRustlsConnect, OpenError> {
    let mut roots = RootCertStore::empty();
    let setting = |problem: String| OpenError::Setting {
        setting: "ca",
        problem,
    };
    match &options.roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| setting(format!("can't be read: {error}")))?;
                let added = roots.add(certificate);
                added.map_err(|error| setting(format!("has a certificate that can't be used: {error}")))?;
            }
            if roots.is_empty() {
                return Err(setting("has no certificate as PEM".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| setting(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A value of a statement.
pub(crate) type Value = Box<dyn ToSql + Sync + Send>;

/// A statement with its values.
pub(crate) struct Query {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
}

impl Query {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }

    pub(crate) fn value(mut self, value: impl ToSql + Sync + Send + 'static) -> Self {
        self.values.push(Box::new(value));
        self
    }
}

type Answers = Vec<Result<Vec<Row>, Failure>>;

/// Sends all statements at once, and returns the result of each: one round trip. A statement is prepared at its first
/// use, which takes a separate trip before any of these is sent. If that fails, no statement was sent.
pub(crate) async fn pipeline(client: &ClientWrapper, queries: Vec<Query>) -> Result<Answers, Failure> {
    let late = |_| Failure::Away(format!("no answer within {} s", TRIP_MAX.as_secs()));
    let mut prepared = Vec::with_capacity(queries.len());
    for query in queries {
        let preparing = timeout(TRIP_MAX, client.prepare_cached(query.sql));
        prepared.push((preparing.await.map_err(late)??, query.values));
    }
    let running = prepared.iter().map(|(statement, values)| {
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| value.as_ref() as &(dyn ToSql + Sync))
            .collect();
        async move { client.query(statement, &values).await.map_err(Failure::from) }
    });
    let answered = timeout(TRIP_MAX, in_order(running)).await;
    Ok(answered.unwrap_or_else(|elapsed| vec![Err(late(elapsed))]))
}

/// Runs statements at once; none of them may fail.
pub(crate) async fn all(client: &ClientWrapper, queries: Vec<Query>) -> Result<Vec<Vec<Row>>, Failure> {
    let answers = pipeline(client, queries).await?;
    answers.into_iter().collect()
}

/// Waits for all. Each is first polled, and so sent, in order. If one can't be sent, the later ones are not sent
/// either: a `COMMIT` among them would commit without it.
async fn in_order<T>(
    running: impl Iterator<Item = impl Future<Output = Result<T, Failure>>>,
) -> Vec<Result<T, Failure>> {
    let mut running: Vec<_> = running.map(|future| (Box::pin(future), None)).collect();
    let mut is_sent = false;
    poll_fn(|cx| {
        let mut is_done = true;
        let mut unsent = None;
        for (future, answer) in &mut running {
            if answer.is_some() {
                continue;
            }
            if let Some(failure) = &unsent {
                *answer = Some(Err(Failure::clone(failure)));
                continue;
            }
            match Pin::new(future).poll(cx) {
                Poll::Ready(found) => {
                    if !is_sent {
                        unsent = found.as_ref().err().cloned();
                    }
                    *answer = Some(found);
                }
                Poll::Pending => is_done = false,
            }
        }
        is_sent = true;
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, answer)| answer).collect()
}
