//! What the authority does by itself, or for its operator.

pub(crate) mod backup;
pub(crate) mod purge;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod timekeeping;
