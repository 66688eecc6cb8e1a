//! Credentials: the calling client, and the API keys that identify it.

pub(crate) mod api_key;
pub(crate) mod authenticate;
pub(crate) mod commit;
pub(crate) mod credentials;
pub(crate) mod disabled;
pub(crate) mod end;
pub(crate) mod ending;
pub(crate) mod ending_count;
pub(crate) mod error;
pub(crate) mod lifetime;
pub(crate) mod list;
pub(crate) mod note_use;
pub(crate) mod purge;
pub(crate) mod recent;
pub(crate) mod right;
pub(crate) mod used;
