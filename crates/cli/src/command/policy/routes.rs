//! What `tessera policy diff` says of routes.

use serde_json::{Value, json};
use tessera_policy::{Demand, RouteChange, RouteChanges, RuleAt};

use super::wire;
use crate::terminal::{Paint, counted, padded, visible, width};

/// The changes, one in a line; `!` is before what counts as a gain.
pub(super) fn changes(routes: &RouteChanges, paint: Paint) -> String {
    if routes.total == 0 {
        return String::new();
    }
    let rows: Vec<(&RouteChange, String, String)> = routes
        .changes
        .iter()
        .map(|change| (change, call(change), demands(change)))
        .collect();
    let calls = rows.iter().map(|(_, call, _)| width(call)).max().unwrap_or(0);
    let demands = rows
        .iter()
        .map(|(_, _, demands)| width(demands))
        .max()
        .unwrap_or(0);
    let mut text = "\nroutes\n".to_owned();
    for (change, call, demand) in &rows {
        let mark = if change.is_gain() {
            paint.warn("!")
        } else {
            " ".to_owned()
        };
        let sign = match kind(change) {
            "added" => paint.good("+"),
            "removed" => paint.bad("-"),
            _ => "~".to_owned(),
        };
        let place = place(change);
        let line = format!("{}   {}   {place}", padded(call, calls), padded(demand, demands));
        text += &format!("  {mark} {sign} {}\n", line.trim_end());
    }
    if routes.left_out() > 0 {
        text += &format!("    and {} more\n", routes.left_out());
    }
    text
}

/// The end of the last line.
pub(super) fn summary(routes: &RouteChanges) -> String {
    let gains = match routes.gained {
        0 => String::new(),
        1 => ", 1 of them a gain".to_owned(),
        count => format!(", {count} of them gains"),
    };
    match routes.total {
        0 => String::new(),
        count => format!("; {} of routes{gains}", counted(count, "change")),
    }
}

pub(super) fn change_json(change: &RouteChange) -> Value {
    json!({
        "kind": kind(change),
        "host": change.host,
        "methods": change.methods,
        "path": change.path,
        "before": demand_json(&change.before),
        "after": demand_json(&change.after),
        "gain": change.is_gain(),
        "loss": change.loses,
        "gone": change.is_gone,
        "old_route": change.old.as_ref().map(wire::rule_json),
        "new_route": change.new.as_ref().map(wire::rule_json),
    })
}

fn kind(change: &RouteChange) -> &'static str {
    match (&change.old, &change.new) {
        (None, Some(_)) => "added",
        (Some(_), None) => "removed",
        _ => "changed",
    }
}

fn call(change: &RouteChange) -> String {
    let host = change.host.as_deref().unwrap_or_default();
    let call = match change.methods.as_slice() {
        [] => format!("{host}{}", change.path),
        methods => format!("{} {host}{}", methods.join(","), change.path),
    };
    visible(&call).into_owned()
}

fn demands(change: &RouteChange) -> String {
    let (before, after) = (demand(&change.before), demand(&change.after));
    if !change.is_gain() && !change.loses {
        format!("{after}, as before")
    } else {
        format!("{before} → {after}")
    }
}

fn demand(demand: &Demand) -> String {
    let (scopes, audience, realm) = match demand {
        Demand::Unsaid => return "no routes.toml".to_owned(),
        Demand::Refused => return "refused".to_owned(),
        Demand::Open => return "open".to_owned(),
        Demand::Token {
            scopes,
            audience,
            realm,
        } => (scopes, audience, realm),
    };
    let mut text = if scopes.is_empty() {
        "any token".to_owned()
    } else {
        scopes.join(" ")
    };
    if let Some(audience) = audience {
        text += &format!(" (audience {audience})");
    }
    if let Some(realm) = realm {
        text += &format!(" (realm {realm})");
    }
    text
}

fn demand_json(demand: &Demand) -> Value {
    match demand {
        Demand::Unsaid => json!({ "needs": "unsaid" }),
        Demand::Refused => json!({ "needs": "refused" }),
        Demand::Open => json!({ "needs": "nothing" }),
        Demand::Token {
            scopes,
            audience,
            realm,
        } => json!({
            "needs": "token",
            "scopes": scopes,
            "audience": audience,
            "realm": realm,
        }),
    }
}

/// Where the route is that decides after, or decided before.
fn place(change: &RouteChange) -> String {
    let at = |rule: &RuleAt| format!("{}:{}", visible(&rule.file), rule.line);
    match (&change.old, &change.new) {
        (_, Some(new)) => at(new),
        (Some(old), None) => format!("was {}", at(old)),
        (None, None) => String::new(),
    }
}
