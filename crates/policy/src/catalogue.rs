//! The catalogue: every realm, role, scope and audience that exists.

mod names;
pub(crate) mod read;
mod template;

pub use names::Catalogue;
pub(crate) use template::{Segment, Template};
