//! `tessera apikey show`: a key, and its descendants as a tree.

use std::collections::BTreeSet;

use serde_json::json;
use tessera_proto::v1::{ApiKey, GetApiKeyRequest};

use crate::{
    arguments::{Connection, Output},
    failure::Failure,
    json,
    terminal::visible,
};

pub(super) async fn run(id: String, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let request = GetApiKeyRequest {
        id,
        with_descendants: true,
    };
    let got = connection
        .api_keys()
        .await?
        .get_api_key(request)
        .await?
        .into_inner();
    let key = got.api_key.unwrap_or_default();
    let descendants = &got.descendants;
    let document = json!({
        "api_key": json::api_key(&key),
        "descendants": descendants.iter().map(json::api_key).collect::<Vec<_>>(),
        "has_more_descendants": got.has_more_descendants,
    });
    output.print(&document, || {
        let mut lines = described(&key);
        lines.push(String::new());
        if descendants.is_empty() {
            lines.push("no API key was made by it or rolled from it".to_owned());
        } else {
            lines.push("API keys made by it or rolled from it:".to_owned());
            draw(&key, descendants, 1, &mut BTreeSet::new(), &mut lines);
        }
        if got.has_more_descendants {
            lines.push("and more, not shown: run `tessera apikey show` for the keys above".to_owned());
        }
        lines.join("\n")
    })
}

fn described(key: &ApiKey) -> Vec<String> {
    let time = |time, none: &str| json::time(time).unwrap_or_else(|| none.to_owned());
    let mut rows = vec![
        ("id", key.id.clone()),
        ("status", json::api_key_status(key)),
        ("client", key.client.clone()),
        ("created", time(key.create_time.as_ref(), "")),
        ("made by", maker(key)),
        ("last used", json::last_used(key)),
        ("ends", time(key.expire_time.as_ref(), "never")),
    ];
    let others = [
        ("revoked", time(key.revoke_time.as_ref(), "")),
        ("from", key.allow_from.join(" ")),
        ("replaces", key.replaces_id.clone()),
        ("successor", key.successor_id.clone()),
    ];
    rows.extend(others.into_iter().filter(|(_, value)| !value.is_empty()));
    let row = |(name, value): (&str, String)| format!("{name:<11}{}", visible(&value));
    rows.into_iter().map(row).collect()
}

fn maker(key: &ApiKey) -> String {
    if key.made_by.is_empty() {
        return "the operator".to_owned();
    }
    format!("{} with key {}", key.made_by, key.made_with_id)
}

/// Each key is drawn once, below its origin: the key that it replaced, otherwise the key that it was made with.
fn draw<'a>(
    parent: &ApiKey,
    keys: &'a [ApiKey],
    depth: usize,
    drawn: &mut BTreeSet<&'a str>,
    lines: &mut Vec<String>,
) {
    for key in keys.iter().filter(|key| parent_of(key) == parent.id) {
        if !drawn.insert(&key.id) {
            continue;
        }
        let how = if key.replaces_id == parent.id {
            "successor"
        } else {
            "made"
        };
        // A key that was rolled a hundred times stays within the screen.
        let indent = "  ".repeat(depth.min(INDENT_MAX));
        let (id, client, status) = (&key.id, &key.client, json::api_key_status(key));
        lines.push(format!("{indent}{how} {id}  {}  {status}", visible(client)));
        draw(key, keys, depth + 1, drawn, lines);
    }
}

/// How deep the tree is indented.
const INDENT_MAX: usize = 12;

fn parent_of(key: &ApiKey) -> &str {
    if key.replaces_id.is_empty() {
        &key.made_with_id
    } else {
        &key.replaces_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, made_with: &str, replaces: &str) -> ApiKey {
        ApiKey {
            id: id.to_owned(),
            client: "client:shop".to_owned(),
            made_with_id: made_with.to_owned(),
            replaces_id: replaces.to_owned(),
            ..ApiKey::default()
        }
    }

    #[test]
    fn each_key_is_drawn_below_what_it_came_of() {
        let keys = [
            key("b", "a", ""),
            key("c", "a", "a"),
            key("d", "b", ""),
            key("e", "admin", "c"),
        ];
        let mut lines = Vec::new();
        draw(&key("a", "", ""), &keys, 1, &mut BTreeSet::new(), &mut lines);
        let drawn: Vec<_> = lines
            .iter()
            .map(|line| line.split("  client").next().unwrap())
            .collect();
        assert_eq!(
            drawn,
            ["  made b", "    made d", "  successor c", "    successor e"]
        );
    }
}
