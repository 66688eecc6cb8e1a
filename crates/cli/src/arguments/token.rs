//! The arguments of `tessera token …`.

use clap::{Args, Subcommand};
use tessera_core::{Audience, Seconds};

use super::text::filled;

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Start a session: get an access token and a refresh token.
    Issue(Issue),
    /// Exchange a refresh token for new tokens.
    Refresh {
        /// The refresh token, or `-` to read it from stdin.
        token: String,
        /// Limit this access token to this scope; repeat it for several.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// An id for the audit record.
        #[arg(long, value_name = "UUID", value_parser = filled)]
        request_id: Option<String>,
    },
    /// Ask the authority whether a token is valid now: exit code 0 if it is active, 1 if it is not.
    Introspect {
        /// The token, or `-` to read it from stdin.
        token: String,
        /// Wait until the authority knows everything up to this cursor.
        #[arg(long, value_name = "CURSOR", value_parser = filled)]
        at_least_as_fresh: Option<String>,
    },
    /// End an access token, or the session of a refresh token.
    Revoke {
        /// The token, or `-` to read it from stdin.
        token: String,
        /// The reason, for the audit record and the subscribers.
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// Wait until every required verifier knows about it, or refuses tokens because it is stale.
        #[arg(long)]
        wait: bool,
    },
    /// Show what an access token contains, without asking the authority whether it is valid.
    Inspect {
        /// The token, or `-` to read it from stdin.
        token: String,
        /// Fetch the authority's keys, and check signature and time.
        #[arg(long)]
        verify: bool,
        /// The audience that the token must have.
        #[arg(long, value_name = "AUDIENCE", requires = "verify", value_parser = audience)]
        audience: Option<Audience>,
    },
}

#[derive(Args)]
pub(crate) struct Issue {
    /// The subject that the token is issued for. Without it, the client itself.
    #[arg(long, value_name = "SUBJECT", value_parser = filled)]
    pub(crate) subject: Option<String>,
    /// A role to assert for the subject; repeat it for several.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// A scope to request; repeat it for several. Without it, all scopes that the policy grants.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// The service that may accept the token.
    #[arg(long, value_name = "AUDIENCE", value_parser = filled)]
    pub(crate) audience: Option<String>,
    /// Lifetime of each access token.
    #[arg(long, value_name = "TIME")]
    pub(crate) access_ttl: Option<Seconds>,
    /// Lifetime of the session. A refresh can't extend it.
    #[arg(long, value_name = "TIME")]
    pub(crate) session_ttl: Option<Seconds>,
    /// A label such as `stream:ls_42`; repeat it for several.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Fail if not every scope is granted.
    #[arg(long)]
    pub(crate) require_all: bool,
    /// Don't issue a refresh token.
    #[arg(long)]
    pub(crate) without_refresh: bool,
    /// Make the call idempotent for 10 minutes.
    #[arg(long, value_name = "UUID", value_parser = filled)]
    pub(crate) request_id: Option<String>,
}

/// Reads an audience.
fn audience(text: &str) -> Result<Audience, String> {
    Audience::parse(text).map_err(|error| error.to_string())
}
