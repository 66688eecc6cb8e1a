//! What can be typed to ask whether an authority is ready.

use clap::Args;
use hyper::Uri;

/// Where `tessera dev` and `tessera serve` have their admin socket.
const ADMIN_ADDRESS: &str = "http://127.0.0.1:7601";

/// The address of an admin socket; a variable that is empty is as if it were not set.
fn admin_address(text: &str) -> Result<Uri, String> {
    let text = match text.trim() {
        "" => ADMIN_ADDRESS,
        text => text,
    };
    let address: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (address.scheme_str(), address.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(address),
        _ => Err(format!(
            "expected {ADMIN_ADDRESS}, or another address that begins with http://"
        )),
    }
}

#[derive(Args)]
pub(crate) struct Health {
    /// The address of the admin socket (`[server] admin_listen`).
    #[arg(
        long,
        env = "TESSERA_ADMIN_ADDR",
        hide_env_values = true,
        default_value = ADMIN_ADDRESS,
        value_parser = admin_address,
        value_name = "URL"
    )]
    pub(crate) admin_addr: Uri,
}
