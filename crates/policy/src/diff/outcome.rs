//! The change of one decision.

use super::{scopes::Template, side::Side};
use crate::rule::RuleAt;

/// Whether something is allowed only after, or only before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Allowed only after.
    Gained,
    /// Allowed only before.
    Lost,
}

/// A change without its holder.
pub(super) struct Outcome {
    pub(super) scope: String,
    pub(super) kind: ChangeKind,
    pub(super) rule: Option<RuleAt>,
}

/// The change of the decision about a scope, if there is one.
pub(super) fn outcome(
    [old, new]: [&Side<'_>; 2],
    holder: &str,
    template: &Template,
    resource: &str,
    shown: &str,
) -> Option<Outcome> {
    let before = old.decide(holder, template, resource);
    let after = new.decide(holder, template, resource);
    let kind = match (before.is_allowed(), after.is_allowed()) {
        (false, true) => ChangeKind::Gained,
        (true, false) => ChangeKind::Lost,
        _ => return None,
    };
    let rule = match after.rule() {
        Some(number) => new.rule(number),
        None => before.rule().and_then(|number| old.rule(number)),
    };
    Some(Outcome {
        scope: format!("{shown}:{}", template.action()),
        kind,
        rule,
    })
}
