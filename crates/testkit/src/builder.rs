//! Setting up a test's authority.

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
    /// Panics if it can't be started.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// An authority with other settings.
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

    /// Uses the policy in this directory instead of that of `tessera dev`; it has the realm `production`. `client` is
    /// the client with which the kit calls: policy must permit it to issue for subjects, assert `roles`, watch, and
    /// revoke, as far as the test needs.
    #[must_use]
    pub fn with_policy(mut self, directory: impl Into<PathBuf>, client: &str, roles: &[&str]) -> Self {
        self.0.policy_directory = Some(directory.into());
        self.0.client = client.to_owned();
        self.0.roles = roles.iter().map(|&role| role.to_owned()).collect();
        self
    }

    /// A clock that is shared, for example with another authority.
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
    /// Panics if the policy is refused, or if it can't listen at the address.
    pub async fn start(self) -> TestAuthority {
        let disk = Disk::new();
        let served = self.0.serve(&disk).await;
        TestAuthority::of(self.0, disk, served).await
    }
}
