//! File descriptors: as many as the system allows, with some reserved for essential parts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Reserved for the store, the policy, the admin socket and its connections.
pub(crate) const RESERVED: usize = 192;

/// Raises the soft limit of open files to the hard one, and returns how many connections fit below it.
pub(crate) fn connections_that_fit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    match getrlimit(Resource::Nofile).current {
        Some(files) => usize::try_from(files)
            .unwrap_or(usize::MAX)
            .saturating_sub(RESERVED)
            .max(1),
        None => usize::MAX,
    }
}
