//! Scopes: `resource:action`, concrete.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    limits::SCOPE_BYTES_MAX,
    spelling::{NameError, check},
};

/// A concrete scope such as `videos:read` or `videos/v42:play`. Never a wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Arc<str>);

const EXPECTED: &str = "`resource:action`, its resource made of non-empty segments joined by `/`";
const ALLOWED: &str = "`A-Za-z0-9._~:@/-`";

impl Scope {
    /// Parses a scope.
    ///
    /// # Errors
    /// Fails if `text` is not `resource:action`: a missing part, an empty path segment, a wildcard, a space, or more
    /// than [`SCOPE_BYTES_MAX`] characters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check("scope", text, SCOPE_BYTES_MAX, ALLOWED, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | ':' | '@' | '/' | '-')
        })?;
        let shape = NameError::shape("scope", EXPECTED);
        let Some((resource, action)) = text.rsplit_once(':') else {
            return Err(shape);
        };
        let is_action = !action.is_empty()
            && action
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !is_action
            || resource
                .split('/')
                .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(shape);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource: everything before the last colon.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.split().0
    }

    /// The action: everything after the last colon.
    #[must_use]
    pub fn action(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once(':').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Scope {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.0.as_ref().to_owned()
    }
}

/// A sorted set of scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Whether the set has no scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scopes the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// The scopes of this set that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

/// Separated by single spaces, as in the `scope` claim (RFC 6749 §3.3).
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_splits_at_its_last_colon() {
        let scope = Scope::parse("streams/ls:42:watch").unwrap();
        assert_eq!((scope.resource(), scope.action()), ("streams/ls:42", "watch"));
    }

    #[test]
    fn what_is_not_concrete_is_no_scope() {
        for bad in [
            "",
            "videos",
            "videos:",
            ":read",
            "videos/*:read",
            "videos:*",
            "videos//a:read",
            "/videos:read",
            "videos/:read",
            "videos/../x:read",
            "videos: read",
            "videos:re.ad",
            "vidéos:read",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_set_is_written_sorted() {
        let set: ScopeSet = ["b:x", "a:x"]
            .iter()
            .map(|text| Scope::parse(text).unwrap())
            .collect();
        assert_eq!(set.to_string(), "a:x b:x");
    }
}
