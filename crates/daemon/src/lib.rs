//! An authority as a process: how its parts are composed.
//!
//! [`Config`] is the file, [`launch`] opens what it names, and [`run`] serves that until told to stop, with the tasks
//! around it: the policy watcher, and purging. Only this crate knows which store is used and where files are; the
//! server and the authority know neither.
#![forbid(unsafe_code)]

mod admin_socket;
mod audit_sink;
pub mod backup_key;
mod blocking;
mod certificate_watcher;
mod check;
mod collector;
pub mod config;
mod data_directory;
pub mod database;
mod doctor;
mod error;
mod key_file;
pub mod launch;
mod outgoing_tls;
mod policy_watcher;
mod reason;
mod reseal;
pub mod restore;
mod run;
mod sealer;
mod server_key;
mod server_key_watcher;
mod service_manager;
pub mod store_copy;
mod surroundings;
pub mod telemetry;
mod unfinished;
mod witness;

pub use admin_socket::{ADMIN_TIME_MAX, admin_address, ask_admin, ask_admin_for_json};
pub use check::check;
pub use config::{Config, ConfigError};
pub use doctor::{Finding, Level, examine};
pub use error::{BackupProblem, LaunchError};
pub use key_file::KeyTextError;
pub use reseal::{KeptKey, Resealed, kept_keys, new_sealing_key, reseal};
pub use run::{RunError, RunOptions, run};
pub use sealer::{SealerError, let_sealer_rest};
pub use server_key::{SERVER_KEY_FILE_VARIABLE, SERVER_KEY_VARIABLE, new_server_key, server_key_beside};
pub use service_manager::ServiceManager;
pub use tessera_store_sled::StartProgress;
