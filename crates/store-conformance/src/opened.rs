//! A store for one check.

use std::{any::Any, sync::Arc};

use tessera_store::Store;

/// An empty store, and the resources that it needs.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its directory or server, if it has one.
    pub kept: Box<dyn Any + Send + Sync>,
}
