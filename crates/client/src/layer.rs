//! tower layers: one protects a service, the other calls one.

mod attach;
mod authorize;
mod bearer;
mod protocol;
mod refusal;
mod requirements;

pub use attach::{AttachToken, AttachTokenLayer};
pub use authorize::{Authorize, AuthorizeLayer, Claims};
pub use requirements::{Requirement, Requirements};
