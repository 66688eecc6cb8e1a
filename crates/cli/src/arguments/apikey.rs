//! The arguments of `tessera apikey …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tessera_core::{AddressRange, Seconds};

use crate::confirm::Consent;

#[derive(Subcommand)]
pub(crate) enum ApiKey {
    /// Make a key for a client, and show it once.
    Create(CreateApiKey),
    /// List the realm's keys, or those to look at.
    List(ListApiKeys),
    /// Show a key, who made it, its successors, and the keys that were made with it.
    Show {
        /// The key's id.
        id: String,
    },
    /// Replace a key; the old one works for a while.
    Roll(RollApiKey),
    /// End a key and its successors, and the sessions that they began.
    Revoke(RevokeApiKey),
    /// Let the keys of a client work again that `tessera revoke --client … --disable` disabled.
    Enable {
        /// The client's name, with or without `client:`.
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct CreateApiKey {
    /// The client's name, with or without `client:`.
    pub(crate) name: String,
    /// The realm; must be the caller's, or one of the configuration.
    #[arg(long, value_name = "REALM", value_parser = super::filled)]
    pub(crate) realm: Option<String>,
    /// How long it works; without it, as the realm says, or until it is revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Seconds>,
    /// An address from which it can be used, or a range such as 10.0.0.0/8 or 2001:db8::/32. Repeat it for several; without
    /// it, the key works from anywhere.
    #[arg(long, value_name = "RANGE")]
    pub(crate) allow_from: Vec<AddressRange>,
    /// Write to the data directory of a stopped authority instead of calling one: for the first key.
    #[arg(long, value_name = "FILE", requires = "realm")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ListApiKeys {
    /// Only keys that work and were not used for this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) stale: Option<Seconds>,
    /// Only keys that work, end within this time, and have no successor. With --stale: keys for which both are true.
    #[arg(long, value_name = "TIME")]
    pub(crate) expiring: Option<Seconds>,
}

#[derive(Args)]
pub(crate) struct RollApiKey {
    /// The key's id.
    pub(crate) id: String,
    /// How long the old key works.
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) overlap: Seconds,
    /// How long the new key works; without it, as long as the old key would have. A longer life needs the permission to
    /// create keys of the client.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Seconds>,
    /// An address or range from which the new key can be used; without it, the addresses of the old key. Other addresses
    /// need the permission to create keys of the client.
    #[arg(long, value_name = "RANGE")]
    pub(crate) allow_from: Vec<AddressRange>,
}

#[derive(Args)]
pub(crate) struct RevokeApiKey {
    /// The key's id.
    pub(crate) id: String,
    /// End also the keys that were made with it and its successors, and with those.
    #[arg(long)]
    pub(crate) with_made_keys: bool,
    /// Only say what would end.
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// Why, for the audit record.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}
