//! What a request must bring.

use std::{borrow::Cow, collections::HashMap};

use tessera_core::{NameError, Scope, ScopeFromPath};

use super::refusal::Refusal;
use crate::Mode;

/// What one request must bring, and what is answered while the verifier is stale.
///
/// A [`Scope`] becomes one by itself: a good token that has this scope, refused when stale.
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

/// What each request must bring, by its path.
///
/// Made for gRPC, whose methods are paths without parameters. A path that is not listed is refused, so a
/// method that somebody adds later is closed until somebody decides about it.
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
    /// A good token with this scope.
    #[must_use]
    pub fn scope(scope: Scope) -> Self {
        Self::needing(Needs::Token(Scopes::One(scope)))
    }

    /// A good token with a scope whose parameters are segments of the path that is called: with
    /// `/videos/{id}/play` and `videos/{id}:play` a request to `/videos/v1/play` needs `videos/v1:play`.
    ///
    /// The path is the one that the layer sees: in a router that is nested it begins after what the router is nested
    /// at. `/*` at the end of a pattern is everything beneath. A request is refused (403) where its path does not
    /// match, or where services may read it differently: encoded slashes, `..`, `//` and `;`.
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
    /// Fails where the pattern or the scope is wrong, or the scope has a parameter that the path does not have.
    pub fn scope_from_path(path: &str, scope: &str) -> Result<Self, NameError> {
        let scope = ScopeFromPath::parse(path, scope)?;
        Ok(Self::needing(Needs::Token(Scopes::FromPath(scope))))
    }

    /// A good token, whatever its scopes: the service looks at its claims itself.
    #[must_use]
    pub fn any_token() -> Self {
        Self::needing(Needs::Token(Scopes::Any))
    }

    /// Nothing. Even where a token is sent it is not looked at, and there are no claims.
    #[must_use]
    pub fn open() -> Self {
        Self::needing(Needs::Nothing)
    }

    /// What to answer while the verifier is stale; [`Mode::FailClosed`] unless it is set.
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

    /// What the token of a request to this path must have; none where no token is needed.
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
    /// Only what is listed is let in.
    #[must_use]
    pub fn deny_unlisted() -> Self {
        Self::with_unlisted(None)
    }

    /// Every request needs this, but for those that are listed with something else.
    #[must_use]
    pub fn every(requirement: impl Into<Requirement>) -> Self {
        Self::with_unlisted(Some(requirement.into()))
    }

    /// What a method needs, such as `/shop.v1.Orders/Get`. Listed twice, the last one is in force.
    #[must_use]
    pub fn method(mut self, path: impl Into<String>, requirement: impl Into<Requirement>) -> Self {
        self.methods.insert(path.into(), requirement.into());
        self
    }

    /// What the methods of a gRPC service need that are not listed by themselves. The name is that of
    /// tonic's `NamedService::NAME`, such as `shop.v1.Orders`.
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

    /// What a request to `path` needs; none: it is refused.
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
