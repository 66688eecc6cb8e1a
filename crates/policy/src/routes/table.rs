//! The routes of a policy, in the order in which they are checked.

use tessera_core::CalledPath;

use super::{
    call::{Access, Call, NoRoute},
    host,
    route::{Route, is_method},
};

/// The routes of a policy, `routes.toml`. Routes of a host are checked first, then those of a wildcard, then those
/// without a host; of each kind the first match decides.
///
/// They are kept in the order in which they are checked.
#[derive(Clone, Debug, Default)]
pub struct Routes(pub(super) Vec<Route>);

impl Routes {
    /// Routes in the order of their file.
    pub(super) fn new(mut routes: Vec<Route>) -> Self {
        // The sort is stable: within each kind of host the order of the file remains.
        routes.sort_by_key(|route| route.host.rank());
        Self(routes)
    }

    /// What a request needs, by the first route that matches.
    ///
    /// # Errors
    /// Fails if no route matches, and if it is not known how the service would read the request.
    pub fn access(&self, call: &Call<'_>) -> Result<Access, NoRoute> {
        let path = CalledPath::parse(call.target)?;
        let route = self.deciding(call, &path)?;
        let parameters = route.path.parameters(&path).unwrap_or_default();
        route.needs.access(&parameters).map_err(NoRoute::Scope)
    }

    /// The route that decides a request.
    pub(crate) fn deciding(&self, call: &Call<'_>, path: &CalledPath) -> Result<&Route, NoRoute> {
        let host = call
            .host
            .map(|text| host::host(text).ok_or(NoRoute::Host))
            .transpose()?;
        if call.method.is_some_and(|method| !is_method(method)) {
            return Err(NoRoute::Method);
        }
        for route in &self.0 {
            if route.path.parameters(path).is_none() {
                continue;
            }
            if !route.host.is_any() && !route.host.matches(host.as_ref().ok_or(NoRoute::HostUnknown)?) {
                continue;
            }
            if let Some(methods) = &route.methods {
                let method = call.method.ok_or(NoRoute::MethodUnknown)?;
                if !methods.iter().any(|known| known == method) {
                    continue;
                }
            }
            return Ok(route);
        }
        Err(NoRoute::Unlisted)
    }

    /// The routes in the order in which they are checked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// How many routes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
