//! The parameters of a request: a body of `application/x-www-form-urlencoded` (RFC 6749 §3.2, appendix B).

use super::error::Failure;

/// The parameters that have a value, as they came; those that are not known are ignored.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        // Otherwise what is no UTF-8 would be read as something else.
        let body =
            std::str::from_utf8(body).map_err(|_| Failure::invalid_request("the body must be UTF-8"))?;
        Ok(Self(
            form_urlencoded::parse(body.as_bytes()).into_owned().collect(),
        ))
    }

    /// A parameter that comes once at most; one without a value is as if it were omitted.
    pub(super) fn one(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(Failure::invalid_request(&format!("{name} is given twice"))),
        }
    }

    /// A parameter that must have a value.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Failure> {
        self.one(name)?.ok_or_else(|| missing(name))
    }

    /// A parameter that must be there, and may be empty.
    pub(super) fn present(&self, name: &'static str) -> Result<&str, Failure> {
        if let Some(value) = self.one(name)? {
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

fn missing(name: &str) -> Failure {
    Failure::invalid_request(&format!("{name} must be given"))
}
