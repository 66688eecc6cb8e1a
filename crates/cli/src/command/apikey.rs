//! `tessera apikey …`.

mod create;
mod id;
mod list;
mod revoke;
mod roll;
mod show;

use serde_json::json;
use tessera_proto::v1::EnableClientRequest;

use crate::{
    arguments::{ApiKey, Connection, Output},
    failure::Failure,
};

pub(crate) async fn run(command: ApiKey, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        ApiKey::Create(create) => create::run(create, connection, output).await,
        ApiKey::List(list) => list::run(&list, connection, output).await,
        ApiKey::Show { id } => show::run(id::known(id)?, connection, output).await,
        ApiKey::Roll(roll) => roll::run(roll, connection, output).await,
        ApiKey::Revoke(revoke) => revoke::run(revoke, connection, output).await,
        ApiKey::Enable { name } => {
            let request = EnableClientRequest { name };
            connection.api_keys().await?.enable_client(request).await?;
            output.print(&json!({}), || "enabled".to_owned())
        }
    }
}
