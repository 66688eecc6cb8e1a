//! What can be typed by those who run an authority.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Consent;

/// Where an authority has its admin socket by default.
/// Where the admin socket is unless another address is given.
pub(crate) const ADMIN_ADDRESS: &str = "http://127.0.0.1:7601";

/// An address; a variable that is empty is as if it were not set.
#[expect(clippy::unnecessary_wraps, reason = "as a parser of arguments is called")]
fn address(text: &str) -> Result<String, std::convert::Infallible> {
    let text = text.trim();
    Ok(if text.is_empty() { ADMIN_ADDRESS } else { text }.to_owned())
}

#[derive(Args)]
pub(crate) struct AdminSocket {
    /// The admin socket of the authority.
    #[arg(
        long,
        env = "TESSERA_ADMIN_ADDR",
        hide_env_values = true,
        default_value = ADMIN_ADDRESS,
        value_parser = address,
        value_name = "URL"
    )]
    pub(crate) admin_addr: String,
}

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) admin: AdminSocket,
}

#[derive(Subcommand)]
pub(crate) enum Node {
    /// List the nodes: whether each one answers, when it was last seen, and how far behind it is.
    ///
    /// It asks the admin socket of one node. A node that crashed stays in the list for one day.
    List {
        #[command(flatten)]
        admin: AdminSocket,
    },
}

#[derive(Subcommand)]
pub(crate) enum Subscribers {
    /// List required subscribers: how many events each is behind, and how long since its last message.
    List,
    /// Disconnect a required subscriber. It can't reconnect as required for ten minutes.
    Evict {
        /// The subscriber's client, with or without `client:`.
        client: String,
        /// The subscriber's name, as shown by `subscribers list`.
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) admin: AdminSocket,
    /// Print the figures since the start once, and exit.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "tessera.toml")]
    pub(crate) config: PathBuf,
}
