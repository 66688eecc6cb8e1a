//! `tessera apikey list`.

use serde_json::json;
use tessera_proto::v1::{ApiKey, ListApiKeysRequest};

use crate::{
    arguments::{Connection, ListApiKeys, Output},
    command::duration::duration,
    failure::Failure,
    json,
    output::columns,
};

pub(super) async fn run(list: &ListApiKeys, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let mut client = connection.api_keys().await?;
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_api_keys(ListApiKeysRequest {
                page_size: 500,
                page_token,
                unused_for: list.stale.map(duration),
                ends_within: list.expiring.map(duration),
            })
            .await?
            .into_inner();
        keys.extend(page.api_keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let document = json!({ "api_keys": keys.iter().map(json::api_key).collect::<Vec<_>>() });
    output.print(&document, || match keys.is_empty() {
        true => "no API keys".to_owned(),
        false => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            columns(["ID", "STATUS", "CLIENT", "CREATED", "USED", "ENDS"], &rows)
        }
    })
}

fn row(key: &ApiKey) -> [String; 6] {
    let end = key.revoke_time.as_ref().or(key.expire_time.as_ref());
    [
        key.id.clone(),
        json::api_key_status(key),
        key.client.clone(),
        json::time(key.create_time.as_ref()).unwrap_or_default(),
        json::last_used(key),
        json::time(end).unwrap_or_else(|| "never".to_owned()),
    ]
}
