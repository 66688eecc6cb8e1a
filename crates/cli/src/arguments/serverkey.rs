//! The arguments of `tessera serverkey …`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum ServerKey {
    /// Make a server key in a new file that only its owner can read, and print its id.
    ///
    /// To put it in another's place: name it as `[keys] file`, and the one before in `previous`; the authority follows
    /// within seconds, or at SIGHUP.
    New {
        /// The file, which must not be there yet.
        file: PathBuf,
    },
    /// Show what each server key of a running authority is needed for, and until when.
    Status {
        /// The configuration, whose `admin_listen` is asked.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
