//! `[realms.<name>]`.

use http::uri::Authority;
use serde::{Deserialize, Deserializer, de::Error as _};
use tessera_core::{OnPolicyLoss, RealmKind, RealmLimits, limits::ISSUER_BYTES_MAX};

use super::bounded::{Count, Time};

/// A sandbox realm leaves the disk to the others.
const SANDBOX_SESSIONS_PER_CLIENT_MAX: u64 = 100_000;

/// The lifetime of an API key: one that ends sooner could not be handed out, and one that ends later practically never
/// ends.
type ApiKeyTime = Time<60, { 3650 * 86_400 }>;

/// `[realms.<name>]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmConfig {
    /// `production` or `sandbox`.
    pub kind: RealmKind,
    /// The `iss` of its tokens.
    #[serde(deserialize_with = "issuer")]
    pub issuer: String,
    /// Lifetime of an access token if the caller names none.
    pub access_ttl: Option<Time<1, { 3650 * 86_400 }>>,
    /// The longest lifetime of an access token.
    pub access_ttl_max: Option<Time<1, { 3650 * 86_400 }>>,
    /// Lifetime of an unused refresh token.
    pub idle_ttl: Option<Time<1, { 3650 * 86_400 }>>,
    /// The longest lifetime of a session.
    pub session_ttl_max: Option<Time<1, { 3650 * 86_400 }>>,
    /// How long a retry of the last refresh gives the same successor, at most `60s`; `0s` turns it off.
    pub grace: Option<Time<0, { RealmLimits::GRACE_MAX.0 }>>,
    /// How often a retry is answered within `grace`; further ones are refused, and end nothing.
    pub grace_replays_max: Option<Count<1, 255>>,
    /// How many sessions are kept for each client.
    pub sessions_per_client_max: Option<Count<1, { u32::MAX }>>,
    /// Lifetime of a new API key if its maker names none.
    pub api_key_ttl_default: Option<ApiKeyTime>,
    /// The longest lifetime of a new API key.
    pub api_key_ttl_max: Option<ApiKeyTime>,
    /// What a change of policy does to live sessions whose scopes it takes: `narrow`, `revoke` or `expire`.
    #[serde(default)]
    pub on_policy_loss: OnPolicyLoss,
}

impl RealmConfig {
    pub(super) fn limits(&self) -> RealmLimits {
        let default = RealmLimits::default();
        let access_ttl_max = self.access_ttl_max.map_or(default.access_ttl_max, Time::seconds);
        let session_ttl_max = self
            .session_ttl_max
            .map_or(default.session_ttl_max, Time::seconds);
        RealmLimits {
            access_ttl_default: self
                .access_ttl
                .map_or(default.access_ttl_default, Time::seconds)
                .min(access_ttl_max),
            access_ttl_max,
            idle_ttl: self
                .idle_ttl
                .map_or(default.idle_ttl, Time::seconds)
                .min(session_ttl_max),
            session_ttl_max,
            grace: self.grace.map_or(default.grace, Time::seconds),
            grace_replays_max: self.grace_replays_max.map_or(default.grace_replays_max, |max| {
                u8::try_from(max.number()).unwrap_or(u8::MAX)
            }),
            sessions_per_client_max: self.sessions_per_client_max.map_or_else(
                || match self.kind {
                    RealmKind::Production => default.sessions_per_client_max,
                    RealmKind::Sandbox => SANDBOX_SESSIONS_PER_CLIENT_MAX,
                },
                |max| max.number().into(),
            ),
            api_key_ttl_default: self.api_key_ttl_default.map(Time::seconds),
            api_key_ttl_max: self.api_key_ttl_max.map(Time::seconds),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let limits = self.limits();
        if limits.access_ttl_max > limits.session_ttl_max {
            return Err("`access_ttl_max` must not be longer than `session_ttl_max`".to_owned());
        }
        if self
            .access_ttl
            .is_some_and(|ttl| ttl.seconds() > limits.access_ttl_max)
        {
            return Err("`access_ttl` must not be longer than `access_ttl_max`".to_owned());
        }
        if let (Some(default), Some(max)) = (limits.api_key_ttl_default, limits.api_key_ttl_max)
            && default > max
        {
            return Err("`api_key_ttl_default` must not be longer than `api_key_ttl_max`".to_owned());
        }
        Ok(())
    }
}

fn issuer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    check_issuer(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// Whether tokens may be issued in this name: a URL without query and fragment (RFC 8414 §2), or another absolute URI.
///
/// # Errors
/// The error says what is wrong with it.
pub fn check_issuer(text: &str) -> Result<(), &'static str> {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    if text.is_empty() || text.len() > ISSUER_BYTES_MAX || !is_plain {
        return Err(
            "expected 1 to 256 visible ASCII characters, such as https://auth.example.org/production",
        );
    }
    let Some((scheme, rest)) = text
        .split_once(':')
        .filter(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
    else {
        return Err("expected a URL, such as https://auth.example.org/production");
    };
    if text.contains(['?', '#']) {
        return Err("an issuer has no query and no fragment (RFC 8414, section 2)");
    }
    if !matches!(scheme, "http" | "https") {
        return Ok(());
    }
    let authority = rest
        .strip_prefix("//")
        .map(|rest| rest.split('/').next().unwrap_or_default());
    match authority.and_then(|authority| authority.parse::<Authority>().ok()) {
        Some(authority) if is_host_and_port(&authority) => Ok(()),
        _ => Err("expected a URL with a host, such as https://auth.example.org/production"),
    }
}

fn is_host_and_port(authority: &Authority) -> bool {
    let (text, host) = (authority.as_str(), authority.host());
    !host.is_empty() && (text == host || text.starts_with(host) && authority.port_u16().is_some())
}

/// RFC 3986 §3.1; capitals are excluded, as issuers are compared letter by letter.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_url_or_another_absolute_uri() {
        for right in [
            "https://auth.example.org",
            "https://auth.example.org:8443/a/b",
            "http://[::1]:7600/production",
            "urn:tessera:production",
        ] {
            assert_eq!(check_issuer(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "auth",
            "auth.example.org",
            "https:",
            "https:/auth.example.org",
            "https://",
            "https:///production",
            "https://user@auth.example.org",
            "https://auth.example.org:port",
            "https://auth.example.org?realm=production",
            "https://auth.example.org/#production",
            "HTTPS://auth.example.org",
            "://auth.example.org",
            "https://auth.example.org/a b",
        ] {
            assert!(check_issuer(wrong).is_err(), "{wrong}");
        }
    }
}
