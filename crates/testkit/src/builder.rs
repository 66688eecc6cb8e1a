//! How a test's authority is set up.

use std::path::PathBuf;

use crate::{
    authority::TestAuthority,
    clock::TestClock,
    process::{Disk, Settings},
};

/// Sets up a [`TestAuthority`].
#[derive(Clone, Debug)]
pub struct TestAuthorityBuilder(Settings);

impl TestAuthority {
    /// An authority with the policy of `tessera dev`: the audience `api`, scopes such as `videos:read` and
    /// `videos:write`, the roles `role:viewer` and `role:editor`.
    ///
    /// # Panics
    /// Panics where it can't be started.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// An authority that is set up otherwise.
    #[must_use]
    pub fn builder() -> TestAuthorityBuilder {
        TestAuthorityBuilder::new()
    }
}

impl TestAuthorityBuilder {
    fn new() -> Self {
        Self(Settings {
            policy_directory: None,
            client: "client:dev".to_owned(),
            roles: vec!["role:editor".to_owned()],
            clock: TestClock::new(),
            listen: "127.0.0.1:0".to_owned(),
        })
    }

    /// The policy in this directory instead of that of `tessera dev`; it has the realm `production`. `client`
    /// is who the kit calls as: policy must let it issue for subjects, assert `roles`, watch, and revoke, as
    /// far as the test needs.
    #[must_use]
    pub fn with_policy(mut self, directory: impl Into<PathBuf>, client: &str, roles: &[&str]) -> Self {
        self.0.policy_directory = Some(directory.into());
        self.0.client = client.to_owned();
        self.0.roles = roles.iter().map(|&role| role.to_owned()).collect();
        self
    }

    /// A clock that something else has too: another authority, perhaps.
    #[must_use]
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.0.clock = clock;
        self
    }

    /// The address to listen at, such as `127.0.0.1:7600`, instead of a free one.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.0.listen = address.to_owned();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Panics where the policy is refused, or the address can't be listened at.
    pub async fn start(self) -> TestAuthority {
        let disk = Disk::new();
        let served = self.0.serve(&disk).await;
        TestAuthority::of(self.0, disk, served).await
    }
}
