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
        /// The configuration whose `[keys.sealer]` seals the key; unset, nothing does.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Make a key that seals server keys, for the file or the variable of `[keys.sealer]`, and print its id.
    NewSealingKey {
        /// The file, which must not be there yet.
        file: PathBuf,
    },
    /// Seal the same server keys by another key, or by none, as the configuration says now.
    ///
    /// A file is replaced once the new one was read again and opened. A running authority goes on meanwhile. Run again, it
    /// goes on where it was cut off.
    Reseal {
        /// The configuration: `[keys.sealer]` as it is to be.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The configuration before, whose `[keys.sealer]` opens the files; not needed where they are not sealed.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The key files; unless given, `[keys] file` and `previous` of the configuration.
        files: Vec<PathBuf>,
    },
    /// Show what each server key of a running authority is needed for, and until when.
    Status {
        /// The configuration, whose `admin_listen` is asked.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
