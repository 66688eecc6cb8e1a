//! The requirements of requests.

use std::{borrow::Cow, collections::HashMap};

use tessera_core::{NameError, Scope, ScopeFromPath};

use super::refusal::Refusal;
use crate::Mode;

/// The requirement of one request, and the answer while the verifier is stale.
///
/// A [`Scope`] converts to a requirement: a valid token that has this scope, refused when stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    needs: Needs,
    mode: Mode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Token(Scopes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scopes {
    Any,
    One(Scope),
    FromPath(ScopeFromPath),
}

/// What the token of one request must have: a scope, or none; and the mode.
pub(super) type OfToken<'a> = (Option<Cow<'a, Scope>>, Mode);

/// The requirement of each request, by its path.
///
/// Made for gRPC, whose methods are paths without parameters. A path that is not listed is refused, so a method that is
/// added later is closed until its requirement is listed.
///
/// ```
/// use tessera_client::{Mode, Requirement, Requirements, Scope};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let read = Scope::parse("orders:read")?;
/// let write = Scope::parse("orders:write")?;
/// let requirements = Requirements::deny_unlisted()
///     .method("/shop.v1.Orders/Get", read)
///     .method("/shop.v1.Orders/Cancel", Requirement::scope(write).mode(Mode::Introspect))
///     .method("/shop.v1.Orders/WhoAmI", Requirement::any_token())
///     .open("/grpc.health.v1.Health/Check");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Requirements {
    methods: HashMap<String, Requirement>,
    services: HashMap<String, Requirement>,
    unlisted: Option<Requirement>,
}

// === impl Requirement ===

impl Requirement {
    /// A valid token with this scope.
    #[must_use]
    pub fn scope(scope: Scope) -> Self {
        Self::needing(Needs::Token(Scopes::One(scope)))
    }

    /// A valid token with a scope whose parameters are segments of the path that is called: with `/videos/{id}/play`
    /// and `videos/{id}:play` a request to `/videos/v1/play` needs `videos/v1:play`.
    ///
    /// The path is the one that the layer sees: in a nested router it begins after the prefix of the router. `/*` at
    /// the end of a pattern matches everything beneath. A request is refused (403) if its path does not match, or if
    /// services may read it differently: encoded slashes, `..`, `//` and `;`.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tessera_client::{Requirement, Verifier};
    ///
    /// fn router(verifier: &Verifier) -> Result<Router, Box<dyn std::error::Error>> {
    ///     let path = "/videos/{id}/play";
    ///     let play = Requirement::scope_from_path(path, "videos/{id}:play")?;
    ///     Ok(Router::new().route(path, get("a film").layer(verifier.require(play))))
    /// }
    /// ```
    ///
    /// # Errors
    /// Fails if the pattern or the scope is wrong, or if the scope has a parameter that the path does not have.
    pub fn scope_from_path(path: &str, scope: &str) -> Result<Self, NameError> {
        let scope = ScopeFromPath::parse(path, scope)?;
        Ok(Self::needing(Needs::Token(Scopes::FromPath(scope))))
    }

    /// A valid token, with any scopes: the service checks its claims itself.
    #[must_use]
    pub fn any_token() -> Self {
        Self::needing(Needs::Token(Scopes::Any))
    }

    /// Nothing. A token that is sent is not checked, and there are no claims.
    #[must_use]
    pub fn open() -> Self {
        Self::needing(Needs::Nothing)
    }

    /// The answer while the verifier is stale; [`Mode::FailClosed`] unless it is set.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    fn needing(needs: Needs) -> Self {
        Self {
            needs,
            mode: Mode::default(),
        }
    }

    /// The requirement of a token for a request to this path; `None` if no token is needed.
    pub(super) fn of_token(&self, path: &str) -> Result<Option<OfToken<'_>>, Refusal> {
        let Needs::Token(scopes) = &self.needs else {
            return Ok(None);
        };
        let scope = match scopes {
            Scopes::Any => None,
            Scopes::One(scope) => Some(Cow::Borrowed(scope)),
            Scopes::FromPath(scope) => {
                let scope = scope.scope(path);
                let scope = scope.map_err(|error| Refusal::Unclear(error.to_string()))?;
                Some(Cow::Owned(scope))
            }
        };
        Ok(Some((scope, self.mode)))
    }
}

impl From<Scope> for Requirement {
    fn from(scope: Scope) -> Self {
        Self::scope(scope)
    }
}

// === impl Requirements ===

impl Requirements {
    /// Admits only listed paths.
    #[must_use]
    pub fn deny_unlisted() -> Self {
        Self::with_unlisted(None)
    }

    /// Every request needs this, except those that are listed with something else.
    #[must_use]
    pub fn every(requirement: impl Into<Requirement>) -> Self {
        Self::with_unlisted(Some(requirement.into()))
    }

    /// The requirement of a method, such as `/shop.v1.Orders/Get`. If it is listed twice, the last one applies.
    #[must_use]
    pub fn method(mut self, path: impl Into<String>, requirement: impl Into<Requirement>) -> Self {
        self.methods.insert(path.into(), requirement.into());
        self
    }

    /// The requirement of the methods of a gRPC service that are not listed individually. The name is that of tonic's
    /// `NamedService::NAME`, such as `shop.v1.Orders`.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, requirement: impl Into<Requirement>) -> Self {
        self.services.insert(name.into(), requirement.into());
        self
    }

    /// A method that needs nothing: [`Requirement::open`].
    #[must_use]
    pub fn open(self, path: impl Into<String>) -> Self {
        self.method(path, Requirement::open())
    }

    fn with_unlisted(unlisted: Option<Requirement>) -> Self {
        Self {
            methods: HashMap::new(),
            services: HashMap::new(),
            unlisted,
        }
    }

    /// The requirement of a request to `path`; `None`: it is refused.
    pub(super) fn of(&self, path: &str) -> Option<&Requirement> {
        let of_service = || {
            let (service, _method) = path.strip_prefix('/')?.split_once('/')?;
            self.services.get(service)
        };
        self.methods
            .get(path)
            .or_else(of_service)
            .or(self.unlisted.as_ref())
    }
}

impl From<Requirement> for Requirements {
    fn from(requirement: Requirement) -> Self {
        Self::every(requirement)
    }
}

impl From<Scope> for Requirements {
    fn from(scope: Scope) -> Self {
        Self::every(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_whole_path_then_by_its_service() {
        let any = Requirement::any_token;
        let listed = Requirements::deny_unlisted()
            .method("/shop.v1.Orders/Get", any())
            .service("shop.v1.Stock", any())
            .open("/shop.v1.Stock/Count");
        let needs_token = |path| {
            listed
                .of(path)
                .map(|found| found.of_token(path).is_ok_and(|needs| needs.is_some()))
        };
        assert_eq!(needs_token("/shop.v1.Orders/Get"), Some(true));
        assert_eq!(needs_token("/shop.v1.Stock/Count"), Some(false));
        assert_eq!(needs_token("/shop.v1.Stock/List"), Some(true));
        for path in [
            "/shop.v1.Orders/Cancel",
            "/shop.v1.Orders/Get/",
            "/shop.v1.Orders/get",
            "//shop.v1.Orders/Get",
            "shop.v1.Orders/Get",
            "/shop.v1.Stock",
            "/shop.v1.Stocks/List",
            "/",
            "",
            "*",
        ] {
            assert_eq!(needs_token(path), None, "{path}");
        }
        let every = Requirements::every(any()).open("/open");
        assert!(every.of("/anything").is_some_and(|found| *found == any()));
        assert_eq!(every.of("/open"), Some(&Requirement::open()));
    }
}
