//! `tessera restored`: before a data directory that was put back from a copy is served.

use serde_json::{Map, Value, json};
use tessera_server::{Config, launch, telemetry};

use crate::{
    arguments::{Output, Restored},
    failure::Failure,
    output::table,
};

pub(crate) async fn run(arguments: &Restored, output: &Output) -> Result<(), Failure> {
    let config = Config::read(&arguments.config).map_err(Failure::cannot_run)?;
    telemetry::init(config.log.format, "warn");
    let ended = launch::restored(&config).await.map_err(Failure::cannot_run)?;
    let sessions: Map<_, _> = ended
        .iter()
        .map(|(realm, count)| (realm.to_string(), Value::from(*count)))
        .collect();
    output.print(&json!({ "sessions_ended": sessions }), || {
        let rows: Vec<_> = ended
            .iter()
            .map(|(realm, count)| (realm.as_str(), format!("{count} sessions ended")))
            .collect();
        format!(
            "{}the log begins anew; every token from before is refused\nAPI keys are those of the copy: revoke again those that were revoked since\n",
            table(&rows)
        )
    })
}
