//! Tasks of the authority itself, and tasks for its operator.

pub(crate) mod backup;
pub(crate) mod purge;
pub(crate) mod restore;
pub(crate) mod timekeeping;
