//! What can be typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use tessera_core::{ClientName, Seconds};

use crate::confirm::Consent;

mod apikey;
mod audit;
mod backup;
mod clock;
mod connection;
mod health;
mod operator;
mod policy;
mod serverkey;
mod text;
mod token;

pub(crate) use apikey::{ApiKey, CreateApiKey, ListApiKeys, RevokeApiKey, RollApiKey};
pub(crate) use audit::{Audit, Filter, When};
pub(crate) use backup::{Backup, BackupKey, BackupKeyFile, CreateBackup, RestoreBackup};
pub(crate) use clock::AcceptClock;
pub(crate) use connection::{Connection, Output};
pub(crate) use health::Health;
pub(crate) use operator::{ADMIN_ADDRESS, Doctor, Node, Status, Subscribers, Top};
pub(crate) use policy::{About, Diff, Format, Policy, PolicyCommand};
pub(crate) use serverkey::ServerKey;
use text::filled;
pub(crate) use token::{Issue, Token};

/// A token authority: role-scoped PASETO tokens, rotating refresh tokens, instant revocation.
#[derive(Parser)]
#[command(
    name = "tessera",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Arguments {
    /// Whether a program reads the answer.
    pub(crate) fn as_json(&self) -> bool {
        match &self.command {
            Command::Policy(policy) => self.output.json || policy.format == Some(Format::Json),
            _ => self.output.json,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run an authority to try things out: no configuration, two realms, API keys printed.
    Dev(Dev),
    /// Make a directory with everything that an authority needs: configuration, policy, server key, first API keys.
    Init(Init),
    /// Check a configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make server keys, and show what each one is needed for.
    Serverkey {
        #[command(subcommand)]
        command: ServerKey,
    },
    /// Run an authority with a configuration.
    Serve(Serve),
    /// Say whether an authority is ready: exit code 0 if it is, 1 if it is not, 2 if this can't be found out.
    ///
    /// It asks the admin socket, like a probe, and prints problems.
    Health(Health),
    /// Show the state of an authority on one screen, and what to do next. Exit code 1 if something needs doing.
    ///
    /// It asks the admin socket. If that can't be reached, it asks the authority itself with an API key. Then it shows
    /// only the policy, and the keys, verifiers and API keys of one realm.
    Status(Status),
    /// List the nodes of an authority that has several.
    Node {
        #[command(subcommand)]
        command: Node,
    },
    /// Show calls, commits and verifiers of an authority live, from its metrics.
    Top(Top),
    /// Check an installation without changing it. Exit code 1 for warnings, 2 if a start would fail.
    Doctor(Doctor),
    /// End all sessions and tokens in a data directory that was restored from a copy. Run this before you serve it.
    ///
    /// The copy does not know what was issued and revoked after it was made. So every session and token of every realm
    /// in it ends, every signing key is revoked and replaced, and the revocation log starts again. The API keys are the
    /// ones in the copy. The command lists them, because a key that was revoked after the copy was made works again.
    Restore(Restore),
    /// Make, verify and restore backups.
    Backup {
        #[command(subcommand)]
        command: Backup,
    },
    /// Maintain the data directory of a stopped authority.
    Store {
        #[command(subcommand)]
        command: Store,
    },
    /// Issue, refresh, introspect, revoke and inspect tokens.
    Token {
        #[command(subcommand)]
        command: Token,
    },
    /// Revoke by subject, client, label, session, API key or signing key, or revoke everything in the realm.
    ///
    /// On a terminal, it asks before it ends several sessions of a client, an API key or a signing key, and before it
    /// ends everything in the realm. Without a terminal, `--whole-realm` needs `--yes`.
    Revoke(Revoke),
    /// Follow the revocation log.
    Watch(Watch),
    /// List the verifiers that revocations wait for, and evict one.
    Subscribers {
        #[command(subcommand)]
        command: Subscribers,
    },
    /// List and replace the keys that sign access tokens.
    Key {
        #[command(subcommand)]
        command: Key,
    },
    /// Read, follow, export and check the audit trail.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Make, list, roll and revoke API keys.
    Apikey {
        #[command(subcommand)]
        command: ApiKey,
    },
    /// List, show and end sessions.
    Session {
        #[command(subcommand)]
        command: Session,
    },
    /// Check, test, explain, compare and format policies; see and change the one in force.
    Policy(Policy),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory: `tessera.1`, and one for each command.
    #[command(hide = true)]
    Man {
        /// The directory.
        #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        directory: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct Dev {
    /// The address that serves gRPC; port 0 takes a free port.
    #[arg(long, default_value = "127.0.0.1:7600", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The address that serves probes and metrics.
    #[arg(long, default_value = "127.0.0.1:7601", value_name = "ADDRESS")]
    pub(crate) admin_listen: SocketAddr,
    /// Store the data here. Without it, the data is lost when the authority stops.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Store the data in this database, which must be empty at first: postgresql://user@host/database, or, with a
    /// password, TESSERA_POSTGRES_URL in the environment. The keys are in the directory of `--data-dir`.
    #[arg(long, value_name = "URL", requires = "data_dir")]
    pub(crate) postgres: Option<String>,
    /// The directory of the policy files. Without it, the example policy is used.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) policy: Option<PathBuf>,
    /// Lifetime of an access token if the caller gives none.
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub(crate) access_ttl: Seconds,
    /// Print one line of JSON when the authority is ready, and nothing else on stdout.
    #[arg(long)]
    pub(crate) print_json: bool,
    /// Don't limit how often a client may call and how much it may write: for measurements.
    #[arg(long)]
    pub(crate) no_rate_limits: bool,
    /// Write the same line to this file when the authority is ready.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) clock: AcceptClock,
}

#[derive(Args)]
pub(crate) struct Init {
    /// The directory, which must be empty or must not exist.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// The issuer of tokens: an https URL. The name of the realm is added to it.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// The directory for the data (default: `DIR/data`).
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) data: Option<String>,
    /// Store the data in this database, which several nodes can share: postgresql://user@host/database.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) postgres: Option<String>,
    /// The file with the password of the database.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    pub(crate) postgres_password_file: Option<String>,
    /// The address that serves gRPC.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// The name of the administrator client, which gets the first API keys.
    #[arg(long, default_value = "operator", value_name = "NAME")]
    pub(crate) operator: String,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check whether an authority can start with this configuration: settings, policy with its tests, certificates,
    /// server key.
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "tessera.toml")]
        config: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct Serve {
    /// The configuration. tessera.example.toml shows every setting.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) clock: AcceptClock,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The configuration that names the data directory and its realms.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Also revoke the API keys of the copy. Each service then needs a new one.
    #[arg(long)]
    pub(crate) revoke_api_keys: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Subcommand)]
pub(crate) enum Store {
    /// Free the disk space of removed sessions, events and records.
    ///
    /// It writes live rows to a new file, compares that with the old file, and then replaces the old file. This needs
    /// free disk space for a copy of the rows. If it fails, the directory does not change.
    Compact {
        /// The configuration that names the data directory.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Bring the schema of a database up to date, when `migrate = "refuse"` stops `serve` from doing it.
    Migrate {
        /// The configuration that names the database.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Copy everything from one store into an empty one: from a data directory into a database, or back.
    ///
    /// Sessions, keys, the log with its cursors and the audit trail with its links are copied too, so nothing changes
    /// for clients and verifiers. Stop all nodes first.
    Copy {
        /// The configuration whose [store] is read.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The configuration whose [store] is written.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Create a new, empty data directory in place of a lost one. The old sessions, API keys and signing keys are lost.
    Init {
        /// The configuration that names the data directory.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Reads a client, with or without `client:`.
fn client(text: &str) -> Result<String, String> {
    let name = ClientName::from_short(text).map_err(|error| error.to_string())?;
    Ok(name.to_string())
}

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) target: RevokeTarget,
    /// Only count the live sessions that would end.
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// With --client: disable all its API keys until you run `tessera apikey enable`.
    #[arg(long, requires = "client")]
    pub(crate) disable: bool,
    /// Wait until every required verifier knows about it, or refuses tokens because it is stale.
    #[arg(long, conflicts_with = "validate_only")]
    pub(crate) wait: bool,
    /// The reason, for the audit record and the subscribers.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RevokeTarget {
    /// Everything issued for a subject.
    #[arg(long, value_name = "SUBJECT", value_parser = filled)]
    pub(crate) subject: Option<String>,
    /// Everything issued to a client (its name with or without `client:`).
    #[arg(long, value_name = "CLIENT", value_parser = client)]
    pub(crate) client: Option<String>,
    /// Everything with this label.
    #[arg(long, value_name = "LABEL", value_parser = filled)]
    pub(crate) label: Option<String>,
    /// A session.
    #[arg(long, value_name = "SESSION", value_parser = filled)]
    pub(crate) session: Option<String>,
    /// An API key (its id, as shown by `tessera apikey list`), and the sessions that it started.
    #[arg(long = "api-key-id", value_name = "ID", value_parser = filled)]
    pub(crate) api_key_id: Option<String>,
    /// Everything that a signing key signed.
    #[arg(long, value_name = "KID", value_parser = filled)]
    pub(crate) key: Option<String>,
    /// Everything in the API key's realm.
    #[arg(long)]
    pub(crate) whole_realm: bool,
}

#[derive(Args)]
pub(crate) struct Watch {
    /// Where to start: `snapshot`, `latest`, `earliest` or a cursor.
    #[arg(long, default_value = "latest", value_name = "PLACE")]
    pub(crate) from: String,
    /// Only events that can affect tokens for this audience; repeat it for several.
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub(crate) audiences: Vec<String>,
    /// Only events of this kind, such as `session_revoked`; repeat it for several.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<String>,
    /// Show checkpoints too.
    #[arg(long)]
    pub(crate) checkpoints: bool,
}

#[derive(Subcommand)]
pub(crate) enum Key {
    /// List the signing keys of the realm, and the verifiers that a new key waits for.
    List,
    /// Publish a new signing key. It starts to sign when verifiers have it, and the old key then retires.
    ///
    /// Verifiers continue to accept all valid tokens: before the new key signs, each required verifier has acknowledged
    /// it, and the other verifiers have had the time of `[keys] publish_for` to read it. If someone else may know the
    /// old key, use `tessera revoke --key` instead.
    Rotate {
        /// Sign with the new key immediately. Verifiers that do not have it yet refuse its tokens until they do.
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Subcommand)]
pub(crate) enum Session {
    /// List the sessions of a subject, a client or a label. Without a filter, list all sessions in the API key's realm.
    List(ListSessions),
    /// Show one session.
    Show {
        /// The session.
        session: String,
    },
    /// End one session.
    Revoke {
        /// The session.
        session: String,
        /// The reason, for the audit record and the subscribers.
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args)]
pub(crate) struct ListSessions {
    /// Only count them.
    #[arg(long)]
    pub(crate) count: bool,
    /// Only sessions of this subject.
    #[arg(long, value_name = "SUBJECT", value_parser = filled, group = "filter")]
    pub(crate) subject: Option<String>,
    /// Only sessions of this client (its name with or without `client:`).
    #[arg(long, value_name = "CLIENT", value_parser = client, group = "filter")]
    pub(crate) client: Option<String>,
    /// Only sessions with this label.
    #[arg(long, value_name = "LABEL", value_parser = filled, group = "filter")]
    pub(crate) label: Option<String>,
}
