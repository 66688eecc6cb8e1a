//! One route, as it is written.

use std::fmt;

use tessera_core::{Audience, NameError, PathParameters, PathPattern, RealmName, ScopeTemplate};

use super::{call::Access, host::HostPattern};
use crate::diagnostic::Place;

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(super) place: Place,
    pub(super) host: HostPattern,
    pub(super) path: PathPattern,
    /// `None`: every method.
    pub(super) methods: Option<Vec<String>>,
    pub(super) needs: Needs,
}

#[derive(Clone, Debug)]
pub(super) enum Needs {
    Nothing,
    Token {
        /// Empty: any valid token.
        scopes: Vec<ScopeTemplate>,
        audience: Option<Audience>,
        realm: Option<RealmName>,
    },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            write!(f, "{} ", methods.join(","))?;
        }
        write!(f, "{}{}", self.host, self.path)
    }
}

impl Needs {
    pub(super) fn access(&self, parameters: &PathParameters<'_>) -> Result<Access, NameError> {
        Ok(match self {
            Self::Nothing => Access::Open,
            Self::Token {
                scopes,
                audience,
                realm,
            } => Access::Token {
                scopes: scopes
                    .iter()
                    .map(|scope| scope.fill(parameters))
                    .collect::<Result<_, _>>()?,
                audience: audience.clone(),
                realm: realm.clone(),
            },
        })
    }
}

/// Whether a text is a method (RFC 9110 §9.1: case matters, and all registered methods are in capitals).
pub(super) fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}
