//! The output of `tessera policy diff` and `tessera policy plan` about routes.

use serde_json::{Value, json};
use tessera_core::{Audience, NameError, RealmName};
use tessera_policy::{Demand, RouteChange, RouteChanges, RuleAt};
use tessera_proto::v1::{self, RouteNeeds};

use super::rule;
use crate::{
    failure::Failure,
    terminal::{Paint, counted, padded, visible, width},
};

// === from an authority ===

/// The changes of routes in a plan of an authority.
pub(super) fn of_plan(plan: &v1::PlanResponse) -> Result<RouteChanges, Failure> {
    let changes: Option<Vec<_>> = plan.routes.iter().cloned().map(change).collect();
    let changes = changes.ok_or_else(|| {
        Failure::cannot_run(
            "the authority's plan has a change of routes that this version can't read; use the version of the authority",
        )
    })?;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(RouteChanges {
        changes,
        total: count(plan.routes_total),
        gained: count(plan.routes_gained),
        lost: count(plan.routes_lost),
    })
}

fn change(sent: v1::RouteChange) -> Option<RouteChange> {
    Some(RouteChange {
        host: (!sent.host.is_empty()).then_some(sent.host),
        methods: sent.methods,
        path: sent.path,
        before: demand_of(sent.before)?,
        after: demand_of(sent.after)?,
        old: sent.old_route.map(rule::rule_at),
        new: sent.new_route.map(rule::rule_at),
        gains: sent.gain,
        loses: sent.loss,
        is_gone: sent.gone,
    })
}

fn demand_of(sent: Option<v1::RouteDemand>) -> Option<Demand> {
    fn named<T>(text: &str, parse: impl Fn(&str) -> Result<T, NameError>) -> Option<Option<T>> {
        match text {
            "" => Some(None),
            text => parse(text).ok().map(Some),
        }
    }
    let sent = sent?;
    match sent.needs() {
        RouteNeeds::Unspecified => None,
        RouteNeeds::Unsaid => Some(Demand::Unsaid),
        RouteNeeds::Refused => Some(Demand::Refused),
        RouteNeeds::Nothing => Some(Demand::Open),
        RouteNeeds::Token => Some(Demand::Token {
            audience: named(&sent.audience, Audience::parse)?,
            realm: named(&sent.realm, RealmName::parse)?,
            scopes: sent.scopes,
        }),
    }
}

// === for people ===

/// The changes, one per line; `!` is before a gain.
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

// === for programs ===

/// Adds the changes to the JSON of a whole answer.
pub(super) fn add_to(answer: &mut Value, routes: &RouteChanges) {
    let Some(members) = answer.as_object_mut() else {
        return;
    };
    let changes: Value = routes.changes.iter().map(change_json).collect();
    let of_routes = [
        ("routes", changes),
        ("routes_gained", json!(routes.gained)),
        ("routes_left_out", json!(routes.left_out())),
        ("routes_lost", json!(routes.lost)),
    ];
    members.extend(of_routes.map(|(name, value)| (name.to_owned(), value)));
}

fn change_json(change: &RouteChange) -> Value {
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
        "old_route": change.old.as_ref().map(rule::rule_json),
        "new_route": change.new.as_ref().map(rule::rule_json),
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

/// The position of the route that decides after, or that decided before.
fn place(change: &RouteChange) -> String {
    let at = |rule: &RuleAt| format!("{}:{}", visible(&rule.file), rule.line);
    match (&change.old, &change.new) {
        (_, Some(new)) => at(new),
        (Some(old), None) => format!("was {}", at(old)),
        (None, None) => String::new(),
    }
}
