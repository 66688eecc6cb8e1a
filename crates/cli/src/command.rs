//! The verbs, one file each.

pub(crate) mod apikey;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod duration;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod restore;
pub(crate) mod revoke;
pub(crate) mod serve;
pub(crate) mod serverkey;
pub(crate) mod session;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod subscribers;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod watch;

use std::path::Path;

use clap::CommandFactory;

use crate::{arguments::Arguments, failure::Failure, output::print_line};

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    // Made as a whole, since the generator panics if it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tessera", &mut script);
    print_line(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages.
pub(crate) fn man(directory: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written
        .map_err(|error| Failure::cannot_run(format!("`{}` can't be written: {error}", directory.display())))
}
