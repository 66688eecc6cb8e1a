//! The arguments of `tessera apikey …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tessera_core::{AddressRange, Seconds};

use crate::confirm::Consent;

#[derive(Subcommand)]
pub(crate) enum ApiKey {
    /// Make a key for a client, and show it once.
    Create(CreateApiKey),
    /// List the realm's API keys, or only those that need attention.
    List(ListApiKeys),
    /// Show a key, who made it, its successors, and the keys that were made with it.
    Show {
        /// The key's id.
        id: String,
    },
    /// Replace a key. The old key still works for a while.
    Roll(RollApiKey),
    /// Revoke a key and its successors, and end the sessions that they started.
    Revoke(RevokeApiKey),
    /// Enable a client that was disabled with `tessera revoke --client … --disable`.
    Enable {
        /// The client's name, with or without `client:`.
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct CreateApiKey {
    /// The client's name, with or without `client:`.
    pub(crate) name: String,
    /// The realm. It must be the caller's realm, or with --config a realm in the configuration.
    #[arg(long, value_name = "REALM", value_parser = super::text::filled)]
    pub(crate) realm: Option<String>,
    /// How long the key works. Without it, the realm's setting applies, or the key works until it is revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Seconds>,
    /// An address from which the key can be used, or a range such as 10.0.0.0/8 or 2001:db8::/32. Repeat it for
    /// several. Without it, the key works from anywhere.
    #[arg(long, value_name = "RANGE")]
    pub(crate) allow_from: Vec<AddressRange>,
    /// Write to the data directory of a stopped authority instead of calling a running one: for the first key.
    #[arg(long, value_name = "FILE", requires = "realm")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ListApiKeys {
    /// Only keys that work, but have not been used for this long.
    #[arg(long, value_name = "TIME")]
    pub(crate) stale: Option<Seconds>,
    /// Only keys that work, end within this time, and have no successor. With --stale: keys that meet both conditions.
    #[arg(long, value_name = "TIME")]
    pub(crate) expiring: Option<Seconds>,
}

#[derive(Args)]
pub(crate) struct RollApiKey {
    /// The key's id.
    pub(crate) id: String,
    /// How long the old key still works.
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) overlap: Seconds,
    /// How long the new key works. Without it, as long as the old key would have worked. A longer lifetime needs the
    /// permission to create keys of the client.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Seconds>,
    /// An address or range from which the new key can be used. Without it, the addresses of the old key. Other
    /// addresses need the permission to create keys of the client.
    #[arg(long, value_name = "RANGE")]
    pub(crate) allow_from: Vec<AddressRange>,
}

#[derive(Args)]
pub(crate) struct RevokeApiKey {
    /// The key's id.
    pub(crate) id: String,
    /// Also revoke all keys that were made with it or with its successors, and the keys made with those.
    #[arg(long)]
    pub(crate) with_made_keys: bool,
    /// Only show what would end.
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// The reason, for the audit record.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}
