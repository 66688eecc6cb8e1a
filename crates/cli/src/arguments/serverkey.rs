//! The arguments of `tessera serverkey …`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum ServerKey {
    /// Make a server key in a new file that only its owner can read, and print its id.
    ///
    /// To replace the current key, set `[keys] file` to the new file and add the old file to `previous`. The authority
    /// reads them within seconds, or at SIGHUP.
    New {
        /// The file, which must not exist yet.
        file: PathBuf,
        /// The configuration whose `[keys.sealer]` seals the key; without it, the key is not sealed.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Make a key that seals server keys, for the file or the variable of `[keys.sealer]`, and print its id.
    NewSealingKey {
        /// The file, which must not exist yet.
        file: PathBuf,
    },
    /// Seal the server keys with another key, or remove the seal, as the configuration now says.
    ///
    /// A file is replaced only after the new file has been read and opened. A running authority continues to serve. If
    /// the command is interrupted, run it again.
    Reseal {
        /// The configuration with the new `[keys.sealer]`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The old configuration, whose `[keys.sealer]` opens the files. Not needed if they are not sealed.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The key files (default: `[keys] file` and `previous` of the configuration).
        files: Vec<PathBuf>,
    },
    /// Show what each server key of a running authority is needed for, and until when.
    Status {
        /// The configuration, which has the address of the admin socket (`admin_listen`).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
