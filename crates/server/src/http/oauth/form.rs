//! The parameters of a request: a body of `application/x-www-form-urlencoded` (RFC 6749 §3.2, appendix B).

use std::collections::BTreeSet;

use percent_encoding::percent_decode;

use super::error::Failure;

/// The parameter that may come several times (RFC 8707 §2).
const REPEATED: &str = "resource";

/// The parameters as they came; unknown ones are ignored. Only `resource`, or one without a value, may come twice.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        // Otherwise invalid UTF-8 would be read as something else.
        let body =
            std::str::from_utf8(body).map_err(|_| Failure::invalid_request("the body must be UTF-8"))?;
        let is_text = |part: &str| percent_decode(part.as_bytes()).decode_utf8().is_ok();
        // Text that is not a token is not active, whatever it is (RFC 7662 §2.2, RFC 7009 §2.2).
        let mut decided = body.split('&').filter(|pair| !pair.starts_with("token="));
        if !decided.all(is_text) {
            return Err(Failure::invalid_request("each parameter must be UTF-8"));
        }
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let mut seen = BTreeSet::new();
        let once = parameters
            .iter()
            .filter(|(name, value)| name != REPEATED && !value.is_empty());
        for (name, _) in once {
            if !seen.insert(name) {
                return Err(Failure::invalid_request(&format!(
                    "the parameter {} is given twice",
                    shown(name)
                )));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter that comes once; one without a value counts as omitted.
    pub(super) fn one(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }

    /// A parameter that must have a value.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Failure> {
        self.one(name).ok_or_else(|| missing(name))
    }

    /// A parameter that must be present, and may be empty.
    pub(super) fn present(&self, name: &'static str) -> Result<&str, Failure> {
        if let Some(value) = self.one(name) {
            return Ok(value);
        }
        let is_there = self.0.iter().any(|(given, _)| given == name);
        is_there.then_some("").ok_or_else(|| missing(name))
    }

    /// Every value of a parameter that may come several times.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter();
        values
            .filter(move |(given, value)| given == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// A parameter name that is safe in a description: not one that may be a secret.
fn shown(name: &str) -> &str {
    let is_name = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name { name } else { "with that name" }
}

fn missing(name: &str) -> Failure {
    Failure::invalid_request(&format!("{name} must be given"))
}
