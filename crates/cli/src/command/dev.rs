//! `tessera dev`: an authority for trials, without configuration.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tessera_authority::{ApiKeyTerms, Authority, Options, check_signing_keys};
use tessera_core::{
    ClientName, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, Seconds, SigningKey, read_small_text,
};
use tessera_daemon::{
    LaunchError, RunOptions,
    config::{PostgresUrl, TelemetryConfig},
    database, launch, telemetry,
};
use tessera_policy::{Permission, Policy};
use tessera_server::Listeners;
use tessera_store::{MemoryStore, Store};
use tessera_token::{ServerKey, ServerKeys};

use crate::{
    arguments::Dev,
    command::{policy::directory::load_right, serve::listen, shutdown},
    failure::Failure,
    notice::notice,
    output::print_line,
    terminal::quoted,
};

/// The client of the printed keys.
const CLIENT: &str = "client:dev";

/// The API key of each realm, in its displayed form.
type ShownKeys = BTreeMap<RealmName, String>;

pub(crate) async fn run(arguments: Dev) -> Result<(), Failure> {
    let traces = telemetry::init_traced(telemetry::LogFormat::Text, "warn", &TelemetryConfig::default());
    let mut options = RunOptions {
        traces,
        ..RunOptions::default()
    };
    let mut shutdown = Box::pin(shutdown::requested_within(&options.server.limits)?);
    let public = listen("--listen", arguments.listen).await?;
    let admin = listen("--admin-listen", arguments.admin_listen).await?;
    let addresses = Addresses {
        public: public.local_addr().map_err(Failure::cannot_run)?,
        admin: admin.local_addr().map_err(Failure::cannot_run)?,
    };
    if !addresses.public.ip().is_loopback() {
        notice(&format!(
            "warning: {} can be reached from other machines, and everything goes there without encryption: \
             `dev` is for trying out",
            addresses.public
        ));
    }
    let (authority, keys, remarks) = tokio::select! {
        started = start(&arguments) => started?,
        () = &mut shutdown => return Ok(()),
    };
    options.server.http.public_url = Some(format!("http://{}", addresses.public));
    if arguments.no_rate_limits {
        options.server.limits = options.server.limits.without_rates();
        let limits = &mut options.server.limits;
        limits.per_client.calls_in_flight_max = limits.calls_in_flight_max;
        limits.per_sandbox.calls_in_flight_max = limits.calls_in_flight_max;
        limits.connections_per_address_max = limits.connections_max;
        limits.open_requests_per_second_per_address = None;
    }
    let listeners = Listeners {
        public,
        admin: Some(admin),
    };
    // The sockets are bound: clients that connect from here on are served.
    announce(&arguments, &addresses, &authority, &keys, &remarks)?;
    let served = tessera_daemon::run(listeners, authority.clone(), options, shutdown).await;
    if let (Some(directory), None) = (&arguments.data_dir, &arguments.postgres) {
        launch::note_end_beside(&directory.join("server.key"), &authority);
    }
    served.map_err(Failure::cannot_run)
}

async fn start(arguments: &Dev) -> Result<(Arc<Authority>, ShownKeys, Vec<String>), Failure> {
    let authority = open(arguments).await?;
    let (keys, remarks) = api_keys(&authority, arguments.data_dir.as_deref()).await?;
    Ok((authority, keys, remarks))
}

struct Addresses {
    public: SocketAddr,
    admin: SocketAddr,
}

async fn open(arguments: &Dev) -> Result<Arc<Authority>, Failure> {
    let policy = match &arguments.policy {
        None => Policy::from_files(Policy::default_files()).map_err(Failure::cannot_run)?,
        Some(directory) => load_right(directory)?,
    };
    let realms = realms(arguments.access_ttl);
    let (store, server_keys) = match &arguments.data_dir {
        None => {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let key = ServerKey::generate().map_err(Failure::cannot_run)?;
            (store, Arc::new(ServerKeys::new(key, Vec::new())))
        }
        Some(directory) => match &arguments.postgres {
            None => open_data(directory, realms.clone()).await?,
            Some(url) => open_database(url, directory).await?,
        },
    };
    let authority = Authority::open(Options {
        key_rotation: tessera_authority::KeyRotation::default(),
        clock: launch::clock(store.as_ref(), &realms, arguments.clock.machine_clock()),
        store,
        policy,
        policy_directory: arguments.policy.clone(),
        realms,
        server_keys,
        token_bytes_max: tessera_core::limits::TOKEN_BYTES_DEFAULT,
        verified_tokens_max: 20_000,
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: Options::STALENESS_BOUND_MAX,
    });
    Ok(authority.await.map_err(LaunchError::from)?)
}

async fn open_data(
    directory: &Path,
    realms: Vec<Realm>,
) -> Result<(Arc<dyn Store>, Arc<ServerKeys>), Failure> {
    let (data, key_file) = (directory.join("store"), directory.join("server.key"));
    let key = tessera_daemon::server_key_beside(&data, &key_file)?;
    let keys = Arc::new(ServerKeys::new(key, Vec::new()));
    let opening = Arc::clone(&keys);
    let opens = move |records: &[SigningKey]| check_signing_keys(records, &realms, &opening);
    let store = launch::open_data(&data, &key_file, opens).await;
    Ok((store?, keys))
}

/// [`Authority::open`] refuses signing keys of another server key.
async fn open_database(url: &str, directory: &Path) -> Result<(Arc<dyn Store>, Arc<ServerKeys>), Failure> {
    let url =
        PostgresUrl::parse(url).map_err(|problem| Failure::cannot_run(format!("--postgres: {problem}")))?;
    let key = tessera_daemon::server_key_beside(&directory.join("store"), &directory.join("server.key"))?;
    let store = database::open_at(&url).await?;
    Ok((store, Arc::new(ServerKeys::new(key, Vec::new()))))
}

fn realms(access_ttl: Seconds) -> Vec<Realm> {
    let limits = RealmLimits::default();
    let limits = RealmLimits {
        access_ttl_default: access_ttl,
        access_ttl_max: limits.access_ttl_max.max(access_ttl),
        // A user who tries it by hand needs time between two commands.
        grace: RealmLimits::GRACE_MAX,
        ..limits
    };
    let realm = |kind: RealmKind| {
        let name = RealmName::parse(kind.as_str()).ok()?;
        // Not the address: a session continues after a change of port.
        Some(Realm {
            name,
            kind,
            issuer: format!("urn:tessera:dev:{kind}"),
            limits: limits.clone(),
            on_policy_loss: OnPolicyLoss::Narrow,
        })
    };
    RealmKind::ALL.into_iter().filter_map(realm).collect()
}

/// A key for each realm: the previous one if it still works, otherwise a new one.
async fn api_keys(
    authority: &Authority,
    data_dir: Option<&Path>,
) -> Result<(ShownKeys, Vec<String>), Failure> {
    let path = data_dir.map(|directory| directory.join("dev-api-keys.json"));
    let mut shown = path
        .as_deref()
        .map(read_shown_keys)
        .transpose()?
        .unwrap_or_default();
    let was_empty = shown.is_empty();
    let mut remarks = Vec::new();
    let client = ClientName::parse(CLIENT).map_err(Failure::cannot_run)?;
    for realm in authority.realms().keys() {
        let still_works = match shown.get(realm) {
            Some(key) => authority
                .credentials()
                .authenticate(key, Ipv4Addr::LOCALHOST.into())
                .await
                .is_ok(),
            None => false,
        };
        if !still_works {
            let new = authority
                .credentials()
                .create_operator_api_key(realm, client.clone(), ApiKeyTerms::default())
                .await;
            shown.insert(
                realm.clone(),
                new.map_err(Failure::cannot_run)?.secret.expose().to_owned(),
            );
            if !was_empty {
                remarks.push(format!("the API key of {realm} no longer works: made a new one"));
            }
        }
    }
    if let Some(path) = path {
        write_private(&path, &json!(shown).to_string())?;
    }
    Ok((shown, remarks))
}

fn read_shown_keys(path: &Path) -> Result<ShownKeys, Failure> {
    if !path.exists() {
        return Ok(ShownKeys::new());
    }
    let wrong = |error: String| Failure::cannot_run(format!("`{}` can't be used: {error}", path.display()));
    let text = read_small_text(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Writes a file completely or not at all, readable only by its owner.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| {
        Failure::cannot_run(format!("`{}` can't be written: {error}", path.display()))
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // Left by a killed start.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(wrong)?;
    writeln!(file, "{text}").map_err(wrong)?;
    file.sync_all().map_err(wrong)?;
    fs::rename(&temporary, path).map_err(wrong)
}

fn announce(
    arguments: &Dev,
    addresses: &Addresses,
    authority: &Authority,
    keys: &ShownKeys,
    remarks: &[String],
) -> Result<(), Failure> {
    let ready = ready_document(arguments, addresses, authority, keys);
    if let Some(path) = &arguments.ready_file {
        write_private(path, &ready.to_string())?;
    }
    if arguments.print_json {
        for remark in remarks {
            notice(remark);
        }
        return print_line(&ready.to_string());
    }
    print_line(&banner(arguments, addresses, authority, keys, remarks))
}

fn ready_document(arguments: &Dev, addresses: &Addresses, authority: &Authority, keys: &ShownKeys) -> Value {
    let realms: serde_json::Map<_, _> = authority
        .realms()
        .values()
        .map(|realm| {
            let description = json!({
                "kind": realm.kind,
                "issuer": realm.issuer,
                "api_key": keys.get(&realm.name),
            });
            (realm.name.to_string(), description)
        })
        .collect();
    let url = format!("http://{}", addresses.public);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "grpc": url,
        "http": url,
        "admin": format!("http://{}", addresses.admin),
        "data_dir": arguments.data_dir,
        "policy_revision": authority.policy().revision(),
        "realms": realms,
    })
}

/// Where the data is, for people.
fn kept(arguments: &Dev) -> String {
    match &arguments.data_dir {
        Some(directory) if arguments.postgres.is_some() => {
            format!("kept in the database, and the keys in {}", directory.display())
        }
        Some(directory) => format!("kept in {}", directory.display()),
        None => "in memory: lost when this stops (--data-dir DIR keeps it)".to_owned(),
    }
}

fn banner(
    arguments: &Dev,
    addresses: &Addresses,
    authority: &Authority,
    keys: &ShownKeys,
    remarks: &[String],
) -> String {
    let tessera = program();
    let policy = arguments
        .policy
        .as_ref()
        .map_or("the example policy".to_owned(), |p| p.display().to_string());
    let reload = match arguments.policy {
        Some(_) => "           a change in this directory takes effect automatically\n",
        None => "",
    };
    let mut text = format!(
        "tessera {version} is ready, for trying out and not for production\n\n\
         \x20 gRPC     http://{public}\n\
         \x20 metrics  http://{admin}/metrics\n\
         \x20 policy   {policy}, revision {revision}\n\
         {reload}\
         \x20 state    {state}\n\n",
        state = kept(arguments),
        version = env!("CARGO_PKG_VERSION"),
        public = addresses.public,
        admin = addresses.admin,
        revision = authority.policy().revision().short(),
    );
    for (realm, key) in keys {
        text += &format!("  {realm:<11} {key}\n");
    }
    for remark in remarks {
        text += &format!("\n  note: {remark}\n");
    }
    let Some((realm, key)) = keys.first_key_value() else {
        return text;
    };
    text += &format!(
        "\nIn another terminal:\n\n\
         \x20 export TESSERA_ADDR=http://{public} TESSERA_API_KEY={key}\n",
        public = addresses.public,
    );
    let commands = match &arguments.policy {
        None => vec![
            "token issue --subject user:ann --role role:viewer".to_owned(),
            "session list --subject user:ann".to_owned(),
            "watch --from snapshot".to_owned(),
        ],
        Some(directory) => commands_of(&authority.policy(), realm, directory),
    };
    for command in commands {
        text += &format!("  {tessera} {command}\n");
    }
    text + "\nCtrl-C stops it.\n"
}

/// Commands that work with an arbitrary policy.
fn commands_of(policy: &Policy, realm: &RealmName, directory: &Path) -> Vec<String> {
    let Ok(client) = ClientName::parse(CLIENT) else {
        return Vec::new();
    };
    let mut commands = Vec::new();
    let scopes = policy.catalogue().concrete_scopes();
    let granted = policy.grant(realm, &client.to_subject(), &[], &scopes).granted;
    if let Some(scope) = granted.iter().next() {
        // If there is only one audience, it need not be named.
        let audience = match policy.catalogue().audiences() {
            [first, _, ..] => format!(" --audience {first}"),
            _ => String::new(),
        };
        commands.push(format!("token issue --scope {scope}{audience}"));
    }
    if policy.permits(realm, &client, &Permission::ReadPolicies) {
        commands.push("policy status".to_owned());
    }
    commands.push(format!("policy check {}", quoted(&directory.to_string_lossy())));
    commands
}

/// How the user can call this program from the current directory.
fn program() -> String {
    let path = env::current_exe().unwrap_or_else(|_| PathBuf::from("tessera"));
    let on_path = env::var_os("PATH")
        .is_some_and(|paths| env::split_paths(&paths).any(|directory| directory.join("tessera") == path));
    if on_path {
        return "tessera".to_owned();
    }
    let here = env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    let shortest = relative.unwrap_or(path).display().to_string();
    if shortest.contains('/') {
        shortest
    } else {
        format!("./{shortest}")
    }
}
