//! `tessera policy diff`: reports gains and losses.

use std::{collections::BTreeMap, process::ExitCode};

use serde_json::{Value, json};
use tessera_policy::{CatalogueChange, Change, ChangeKind, Policy, RuleAt};
use tessera_proto::v1;

use super::{
    directory::{load_right, shown},
    explain::short,
    plan, routes, rule, wire,
};
use crate::{
    arguments::{self, Connection, Output},
    failure::Failure,
    terminal::{Paint, counted, padded, visible, width},
};

pub(super) async fn run(
    arguments: &arguments::Diff,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let (old, new) = (load_right(&arguments.old)?, load_right(&arguments.new)?);
    let diff = tessera_policy::diff(&old, &new);
    let plan = if arguments.server {
        Some(plan::ask(Some(new.sources()), connection).await?)
    } else {
        None
    };
    let comparison = Comparison {
        diff,
        plan,
        paint: Paint::stdout(),
    };
    output.print(&comparison.to_json(), || {
        let title = format!("{} → {}", shown(&arguments.old), shown(&arguments.new));
        comparison.text(&title, &old, &new)
    })?;
    Ok(ExitCode::from(comparison.code(arguments.fail_on_gain)))
}

struct Comparison {
    diff: tessera_policy::Diff,
    /// The authority's plan for the new policy.
    plan: Option<v1::PlanResponse>,
    paint: Paint,
}

impl Comparison {
    /// As in Terraform: 0 the same, 2 changes.
    fn code(&self, fail_on_gain: bool) -> u8 {
        // A question that was not asked may be a gain.
        let is_unknown = self.diff.unasked > 0;
        match () {
            () if fail_on_gain && (self.diff.gained > 0 || self.diff.routes.gained > 0 || is_unknown) => 1,
            () if self.diff.is_empty() && !is_unknown => 0,
            () => 2,
        }
    }

    fn to_json(&self) -> Value {
        let diff = &self.diff;
        let mut answer = json!({
            "old_revision": diff.old,
            "new_revision": diff.new,
            "gained": diff.gained,
            "lost": diff.lost,
            "changes": diff.changes.iter().map(change_json).collect::<Value>(),
            "changes_left_out": diff.left_out(),
            "catalogue": diff.catalogue.iter().map(catalogue_json).collect::<Value>(),
            "unasked": diff.unasked,
            "sessions": self.plan.as_ref().and_then(|plan| plan.sessions.as_ref()).map(wire::effect),
        });
        routes::add_to(&mut answer, &diff.routes);
        answer
    }

    fn text(&self, title: &str, old: &Policy, new: &Policy) -> String {
        let diff = &self.diff;
        let revisions = format!("{} → {}", diff.old.short(), diff.new.short());
        let mut text = format!("{title}   revision {revisions}\n");
        text += &self.permissions();
        text += &self.realms();
        text += &routes::changes(&diff.routes, self.paint);
        text += &self.catalogue();
        text.push('\n');
        if diff.left_out() > 0 {
            text += &format!("and {} more changes\n", diff.left_out());
        }
        if diff.unasked > 0 {
            text += &format!(
                "{} {} not asked, since casbin itself answers: there may be more changes\n",
                self.paint.warn("warning:"),
                counted(diff.unasked, "question")
            );
        }
        text += &self.summary(old, new);
        text += &self.sessions();
        text
    }

    /// The authority's own permissions come first, since they are the most powerful.
    fn permissions(&self) -> String {
        // Most of them are the same in every realm. Gains come before losses.
        let mut lines: BTreeMap<(ChangeKind, String), Vec<&str>> = BTreeMap::new();
        for change in self.diff.changes.iter().filter(|change| change.is_permission()) {
            let verb = match change.kind {
                ChangeKind::Gained => "gains",
                ChangeKind::Lost => "loses",
            };
            let line = format!("{} {verb} {}", visible(&change.holder), visible(&change.scope));
            lines
                .entry((change.kind, line))
                .or_default()
                .push(change.realm.as_str());
        }
        let mark = self.paint.warn("!");
        let lines: String = lines
            .iter()
            .map(|((_, line), realms)| format!("{mark} {line}  ({})\n", realms.join(", ")))
            .collect();
        if lines.is_empty() {
            lines
        } else {
            format!("\n{lines}")
        }
    }

    /// The changes in each realm; realms with the same changes are grouped.
    fn realms(&self) -> String {
        let mut realms: BTreeMap<&str, BTreeMap<&str, Vec<&Change>>> = BTreeMap::new();
        for change in self.diff.changes.iter().filter(|change| !change.is_permission()) {
            let holders = realms.entry(change.realm.as_str()).or_default();
            holders.entry(change.holder.as_str()).or_default().push(change);
        }
        let mut sections: Vec<(Vec<&str>, String)> = Vec::new();
        for (realm, holders) in &realms {
            let section = self.holders(holders);
            match sections.iter_mut().find(|(_, known)| *known == section) {
                Some((same, _)) => same.push(realm),
                None => sections.push((vec![realm], section)),
            }
        }
        sections
            .into_iter()
            .map(|(realms, section)| format!("\n{}\n{section}", realms.join(", ")))
            .collect()
    }

    fn holders(&self, holders: &BTreeMap<&str, Vec<&Change>>) -> String {
        holders
            .iter()
            .map(|(holder, changes)| format!("  {}\n{}", visible(holder), self.changes(changes)))
            .collect()
    }

    fn changes(&self, changes: &[&Change]) -> String {
        let column = changes
            .iter()
            .map(|change| width(&change.scope))
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for change in changes {
            let rule = change.rule.as_ref().map(|rule| because(change.kind, rule));
            let rule = rule.unwrap_or_default();
            let scope = padded(&visible(&change.scope), column);
            let line = format!("{scope}   {rule}");
            let line = line.trim_end();
            text += &match change.kind {
                ChangeKind::Gained => format!("    {} {line}\n", self.paint.good("+")),
                ChangeKind::Lost => format!("    {} {line}\n", self.paint.bad("-")),
            };
        }
        text
    }

    fn catalogue(&self) -> String {
        if self.diff.catalogue.is_empty() {
            return String::new();
        }
        let mut text = "\ncatalogue\n".to_owned();
        for change in &self.diff.catalogue {
            let sign = if change.is_added {
                self.paint.good("+")
            } else {
                self.paint.bad("-")
            };
            text += &format!("    {sign} {} {}\n", change.kind, visible(&change.name));
        }
        text
    }

    fn summary(&self, old: &Policy, new: &Policy) -> String {
        let diff = &self.diff;
        if !diff.is_empty() {
            let names = match diff.catalogue.len() {
                0 => String::new(),
                count => format!("; {} of the catalogue changed", counted(count, "name")),
            };
            let routes = routes::summary(&diff.routes);
            return format!("{} gained, {} lost{names}{routes}\n", diff.gained, diff.lost);
        }
        if old.revision() == new.revision() {
            "the same files\n".to_owned()
        } else {
            "other files that allow the same\n".to_owned()
        }
    }

    fn sessions(&self) -> String {
        let Some(plan) = &self.plan else {
            return String::new();
        };
        let mut text = format!(
            "sessions of the API key's realm: {}\n",
            plan::impact(plan.sessions.as_ref(), plan::Tense::Future)
        );
        if plan.current_revision != self.diff.old.to_string() {
            text += &format!(
                "{} the authority has revision {} in force, not OLD's: the sessions are counted against that\n",
                self.paint.warn("note:"),
                short(&plan.current_revision)
            );
        }
        text
    }
}

/// The rule that allows it now, allowed it before, or denies it now.
fn because(kind: ChangeKind, rule: &RuleAt) -> String {
    let shown = visible(&rule.to_string()).into_owned();
    match kind {
        ChangeKind::Gained => shown,
        ChangeKind::Lost if rule.text.ends_with(", deny") => format!("now {shown}"),
        ChangeKind::Lost => format!("was {shown}"),
    }
}

fn change_json(change: &Change) -> Value {
    json!({
        "realm": change.realm,
        "holder": change.holder,
        "scope": change.scope,
        "kind": match change.kind {
            ChangeKind::Gained => "gained",
            ChangeKind::Lost => "lost",
        },
        "permission": change.is_permission(),
        "rule": change.rule.as_ref().map(rule::rule_json),
    })
}

fn catalogue_json(change: &CatalogueChange) -> Value {
    json!({ "kind": change.kind.to_string(), "name": change.name, "added": change.is_added })
}
