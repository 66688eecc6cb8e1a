//! The policy with which tests begin, in a directory that they can edit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tessera_policy::Policy;

/// `client:admin` may do everything, `client:app` acts for itself and asserts one role, `client:other` only acts for
/// itself, `client:none` has no scope at all.
const RULES: &str = "\
p, role:viewer, *, videos, read, allow
p, role:viewer, *, videos/*, play, allow
p, role:trial, *, videos/premium/*, play, deny
p, role:editor, *, videos, write, allow
g, role:editor, role:viewer, *
g, client:admin, role:editor, *
g, client:app, role:editor, *
g, client:other, role:viewer, *
p, client:app, *, tessera/subjects/*, issue, allow
p, client:app, *, tessera/roles/role:viewer, assert, allow
p, client:app, *, tessera/roles/role:trial, assert, allow
p, client:admin, *, tessera/subjects/*, issue, allow
p, client:admin, *, tessera/roles/*, assert, allow
p, client:admin, *, tessera/tokens, introspect, allow
p, client:admin, *, tessera/revocations, watch, allow
p, client:admin, *, tessera/revocations, require, allow
p, client:admin, *, tessera/api-keys, *, allow
p, client:admin, *, tessera/subscribers, *, allow
p, client:admin, *, tessera/api-keys/*, *, allow
p, client:admin, *, tessera/sessions, *, allow
p, client:admin, *, tessera/keys, *, allow
p, client:admin, *, tessera/realm, revoke, allow
p, client:admin, *, tessera/audit, read, allow
p, client:admin, *, tessera/policies, *, allow
p, client:admin, *, tessera/backup, create, allow
";

const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
sandbox = "for trying out"
[roles]
"role:viewer" = "watches"
"role:trial" = "tries"
"role:editor" = "changes"
[scopes]
"videos:read" = "list videos"
"videos:write" = "change videos"
"videos/{id}:play" = "play one video"
"videos/premium/{id}:play" = "play one premium video"
[audiences]
api = "the API"
player = "the player"
"#;

/// A directory with a policy, which a test can edit.
#[derive(Debug)]
pub struct PolicyDirectory {
    path: PathBuf,
    /// Removes the directory at the end.
    _made: Option<TempDir>,
}

impl PolicyDirectory {
    /// A new directory with these rules: `client:admin` may do everything, `client:app` acts for itself and asserts one
    /// role, `client:other` only acts for itself, `client:none` has no scope at all.
    ///
    /// # Panics
    /// Panics if it can't be written.
    #[must_use]
    pub fn new() -> Self {
        let made = TempDir::new().expect("a directory");
        let directory = Self {
            path: made.path().to_owned(),
            _made: Some(made),
        };
        let model = Policy::default_files()
            .iter()
            .find(|(name, _)| *name == "model.conf")
            .expect("a policy has a model");
        directory.write("model.conf", &String::from_utf8_lossy(model.1));
        directory.write("catalogue.toml", CATALOGUE);
        directory.write("policy.csv", RULES);
        directory
    }

    /// An existing directory.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _made: None,
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one of its files.
    ///
    /// # Panics
    /// Panics if it can't be written.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).expect("a file is written");
    }

    /// Removes the lines with this start from the rules.
    ///
    /// # Panics
    /// Panics if no line has it.
    pub fn take(&self, start: &str) {
        let left: Vec<_> = RULES.lines().filter(|line| !line.starts_with(start)).collect();
        assert!(left.len() < RULES.lines().count(), "no rule begins with {start}");
        self.write("policy.csv", &(left.join("\n") + "\n"));
    }

    /// Adds lines to the rules.
    pub fn add(&self, lines: &str) {
        self.write("policy.csv", &format!("{RULES}{lines}\n"));
    }

    /// Restores the original rules.
    pub fn restore(&self) {
        self.write("policy.csv", RULES);
    }
}

impl Default for PolicyDirectory {
    fn default() -> Self {
        Self::new()
    }
}
