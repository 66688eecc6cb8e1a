//! What requests to a service need, by host, method and path: for proxies whose configuration can't express it.

mod call;
pub(crate) mod case;
pub(crate) mod change;
mod host;
pub(crate) mod read;
mod region;
mod route;
mod table;

pub use call::{Access, Call, NoRoute};
pub(crate) use route::Route;
pub use table::Routes;

#[cfg(test)]
mod tests;
