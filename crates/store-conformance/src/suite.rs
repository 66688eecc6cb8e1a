//! The behaviour that every backend must have. Each check gets a separate empty store.

mod credentials;
mod log;
mod policies;
mod records;
mod revocations;
mod sessions;
mod state;
mod units;

pub use self::{credentials::*, log::*, policies::*, records::*, revocations::*, sessions::*, units::*};
