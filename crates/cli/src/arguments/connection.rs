//! What can be typed with every command: how the authority is reached, and how answers look.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use tessera_core::Seconds;

/// Where `tessera dev` listens.
const ADDRESS: &str = "http://127.0.0.1:7600";

/// An address, or several with commas; a variable that is empty is as if it were not set.
#[expect(clippy::unnecessary_wraps, reason = "as a parser of arguments is called")]
fn address(text: &str) -> Result<String, std::convert::Infallible> {
    let text = text.trim();
    Ok(if text.is_empty() { ADDRESS } else { text }.to_owned())
}

/// A path; also none at all, as of a variable that is empty.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// How the authority is reached.
#[derive(Args)]
pub(crate) struct Connection {
    /// The authority's address, or the addresses of its nodes, separated by commas.
    ///
    /// The command uses the first node that is ready, in this order. Either all addresses start with https://, or none
    /// does. At most 16 addresses are allowed.
    #[arg(
        long,
        global = true,
        env = "TESSERA_ADDR",
        hide_env_values = true,
        default_value = ADDRESS,
        value_parser = address,
        value_name = "URL",
        help_heading = "Connection"
    )]
    pub(crate) addr: String,
    /// The API key. Set it in the environment instead, so that it does not appear in the shell history.
    #[arg(
        long,
        global = true,
        env = "TESSERA_API_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Connection"
    )]
    pub(crate) api_key: Option<String>,
    /// A PEM file with the certificate authority to trust, instead of those that this system trusts.
    #[arg(
        long,
        global = true,
        env = "TESSERA_CA",
        hide_env_values = true,
        value_parser = path(),
        value_name = "FILE",
        help_heading = "Connection"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// A PEM file with the client certificate, for an authority that requires one.
    #[arg(
        long,
        global = true,
        env = "TESSERA_CLIENT_CERT",
        hide_env_values = true,
        value_parser = path(),
        value_name = "FILE",
        help_heading = "Connection"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// A PEM file with the private key of that certificate.
    #[arg(
        long,
        global = true,
        env = "TESSERA_CLIENT_KEY",
        hide_env_values = true,
        value_parser = path(),
        value_name = "FILE",
        help_heading = "Connection"
    )]
    pub(crate) client_key: Option<PathBuf>,
    /// How long one call may take.
    #[arg(
        long,
        global = true,
        default_value = "30s",
        value_name = "TIME",
        value_parser = some_time,
        help_heading = "Connection"
    )]
    pub(crate) timeout: Seconds,
}

/// In no time at all nothing is answered.
fn some_time(text: &str) -> Result<Seconds, String> {
    let time = text.parse::<Seconds>().map_err(|error| error.to_string())?;
    if time.0 == 0 {
        return Err("must be at least 1s".to_owned());
    }
    Ok(time)
}

/// How answers look.
#[derive(Clone, Args)]
pub(crate) struct Output {
    /// Print exactly one JSON document (streams: one on each line).
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Print one field of the JSON document and nothing else, such as `tokens.access_token`.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        conflicts_with = "json",
        help_heading = "Output"
    )]
    pub(crate) field: Option<String>,
}
