//! `tessera config`: checks whether a configuration can be served.

use serde_json::json;
use tessera_daemon::{Config, ConfigError, check};

use crate::{
    arguments::{ConfigCommand, Output},
    failure::Failure,
};

pub(crate) async fn run(command: &ConfigCommand, output: &Output) -> Result<(), Failure> {
    let ConfigCommand::Check { config: path } = command;
    let config = Config::read(path).map_err(|error| match error {
        ConfigError::Unreadable { .. } => Failure::cannot_run(error),
        ConfigError::Wrong { .. } => Failure::refused(error),
    })?;
    let notes = check(&config).await.map_err(Failure::refused)?;
    let document = json!({ "realms": config.realms.keys().collect::<Vec<_>>(), "notes": notes });
    output.print(&document, || {
        let mut text = notes
            .iter()
            .map(|note| format!("note: {note}\n"))
            .collect::<String>();
        text += &format!("`{}` can be served\n", path.display());
        text
    })
}
