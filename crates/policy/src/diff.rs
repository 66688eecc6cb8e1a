//! The effect of a policy change: which holders gain or lose which scopes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use tessera_core::{PolicyRevision, RealmName};

use crate::{
    own,
    policy::Policy,
    routes::change::{self, RouteChanges},
    rule::RuleAt,
    served::AskingFor,
    work::{Stopped, Work},
};

mod asking;
mod catalogue;
mod outcome;
mod scopes;
mod side;

pub use catalogue::{CatalogueChange, CatalogueKind};
pub use outcome::ChangeKind;
use outcome::{Outcome, outcome};
use scopes::{Representatives, Template};
use side::{Meaning, Side};

/// How many changes are kept.
const CHANGES_MAX: usize = 10_000;

/// The difference between two policies in what they allow, regardless of the form of their rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The revision before.
    pub old: PolicyRevision,
    /// The revision after.
    pub new: PolicyRevision,
    /// The gains and losses, ordered by realm, holder and scope; the first 10,000.
    pub changes: Vec<Change>,
    /// How many gains there are, kept or not.
    pub gained: usize,
    /// How many losses there are, kept or not.
    pub lost: usize,
    /// The names that exist only before or only after, in order.
    pub catalogue: Vec<CatalogueChange>,
    /// The changes of what requests behind proxies need.
    pub routes: RouteChanges,
    /// How many questions were not asked. Always 0 for two compiled policies. If Casbin itself answers for one of them,
    /// each question takes milliseconds, and parameters are compared with examples.
    pub unasked: usize,
}

/// One holder gains or loses one scope in one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The realm.
    pub realm: RealmName,
    /// A subject that the rules name, or a role, which represents everyone to whom it is asserted.
    pub holder: String,
    /// The scope, or the authority's own permission below `tessera/`.
    ///
    /// A parameter represents every value that no rule of the holder singles out: `videos/{id}:play`, or
    /// `videos/premium-{id}:play` if a rule names `videos/premium-*`.
    pub scope: String,
    /// Gained or lost.
    pub kind: ChangeKind,
    /// The rule that allows it after, denies it after, or allowed it before.
    pub rule: Option<RuleAt>,
}

impl Change {
    /// Whether this is an action of the authority itself, such as issuing for others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        own::is_own(&self.scope)
    }
}

impl Diff {
    /// Whether nothing changes: neither what is allowed, nor a name, nor a route. Never true if a question was not
    /// asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gained == 0
            && self.lost == 0
            && self.unasked == 0
            && self.catalogue.is_empty()
            && self.routes.total == 0
    }

    /// The gains that are kept.
    pub fn gains(&self) -> impl Iterator<Item = &Change> {
        self.of_kind(ChangeKind::Gained)
    }

    /// The losses that are kept.
    pub fn losses(&self) -> impl Iterator<Item = &Change> {
        self.of_kind(ChangeKind::Lost)
    }

    /// How many changes were found beyond those that are kept.
    #[must_use]
    pub fn left_out(&self) -> usize {
        (self.gained + self.lost).saturating_sub(self.changes.len())
    }

    fn of_kind(&self, kind: ChangeKind) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.kind == kind)
    }
}

/// Compares two policies: every holder that either of them names, in every realm, for every scope of either catalogue
/// and every permission of the authority.
#[must_use]
pub fn diff(old: &Policy, new: &Policy) -> Diff {
    let mut diff = Diff::of(old, new);
    diff.compare(old, new, &Work::unbounded());
    diff
}

/// The same as work that can be stopped.
///
/// # Errors
/// Fails if it is stopped.
pub fn diff_within(old: &Policy, new: &Policy, work: &Work) -> Result<Diff, Stopped> {
    let _asking = AskingFor::new(work);
    let mut diff = Diff::of(old, new);
    diff.compare(old, new, work);
    work.check().map(|()| diff)
}

impl Diff {
    /// The part of the difference that needs no questions.
    fn of(old: &Policy, new: &Policy) -> Self {
        Self {
            old: *old.revision(),
            new: *new.revision(),
            changes: Vec::new(),
            gained: 0,
            lost: 0,
            catalogue: catalogue::compare(old.catalogue(), new.catalogue()),
            routes: RouteChanges::default(),
            unasked: 0,
        }
    }

    /// Adds the gains and losses. If the work is stopped, some are missing.
    fn compare(&mut self, old: &Policy, new: &Policy, work: &Work) {
        self.routes = change::compare(old, new, work);
        let holders: BTreeSet<&str> = [old, new].into_iter().flat_map(side::holders).collect();
        let representatives = Representatives::new(old, new);
        let realms: BTreeSet<&RealmName> = [old, new]
            .into_iter()
            .flat_map(|policy| policy.catalogue().realms())
            .collect();
        if !(old.is_compiled() && new.is_compiled()) {
            let add = |realm: &RealmName, holder: &str, outcomes: &[Outcome]| {
                self.add(realm, holder, outcomes);
            };
            self.unasked = asking::compare([old, new], &realms, &holders, &representatives, work, add);
            return;
        }
        for realm in realms {
            if work.is_over() {
                return;
            }
            let comparison = Comparison::new(old, new, realm, &representatives, work);
            // Most subjects have the same rules as many others.
            let mut known: HashMap<Rules<'_>, Rc<Vec<Outcome>>> = HashMap::new();
            for holder in holders.iter().take_while(|_| !work.is_over()) {
                let rules = comparison.rules(holder);
                if comparison.is_same(&rules) {
                    continue;
                }
                let outcomes = known
                    .entry(rules)
                    .or_insert_with_key(|rules| Rc::new(comparison.outcomes(holder, rules)));
                self.add(realm, holder, outcomes);
            }
        }
    }
}

impl Diff {
    fn add(&mut self, realm: &RealmName, holder: &str, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome.kind {
                ChangeKind::Gained => self.gained += 1,
                ChangeKind::Lost => self.lost += 1,
            }
            if self.changes.len() < CHANGES_MAX {
                self.changes.push(Change {
                    realm: realm.clone(),
                    holder: holder.to_owned(),
                    scope: outcome.scope.clone(),
                    kind: outcome.kind,
                    rule: outcome.rule.clone(),
                });
            }
        }
    }
}

/// The names whose rules a holder has, before and after: holders with the same names have the same changes.
type Rules<'a> = (Vec<&'a str>, Vec<&'a str>);

/// Two policies in one realm.
struct Comparison<'a> {
    old: Side<'a>,
    new: Side<'a>,
    /// The names with other rules before than after.
    changed: HashSet<&'a str>,
    representatives: &'a Representatives,
    work: &'a Work,
}

impl<'a> Comparison<'a> {
    fn new(
        old: &'a Policy,
        new: &'a Policy,
        realm: &'a RealmName,
        representatives: &'a Representatives,
        work: &'a Work,
    ) -> Self {
        let (old, new) = (Side::new(old, realm), Side::new(new, realm));
        let names: HashSet<&str> = old.names().chain(new.names()).collect();
        let changed = names
            .into_iter()
            .take_while(|_| !work.is_over())
            .filter(|name| old.meanings(&[name]) != new.meanings(&[name]))
            .collect();
        Self {
            old,
            new,
            changed,
            representatives,
            work,
        }
    }

    fn rules(&self, holder: &'a str) -> Rules<'a> {
        (
            self.old.names_with_rules(holder),
            self.new.names_with_rules(holder),
        )
    }

    /// Whether holders of these rules are allowed the same before and after.
    fn is_same(&self, (old, new): &Rules<'a>) -> bool {
        old == new
            && !self.representatives.has_changed_templates()
            && !old.iter().any(|name| self.changed.contains(name))
    }

    fn outcomes(&self, holder: &str, (old, new): &Rules<'a>) -> Vec<Outcome> {
        let (before, after) = (self.old.meanings(old), self.new.meanings(new));
        let mut objects: Vec<_> = before.union(&after).map(|(object, _, _)| *object).collect();
        objects.sort_unstable();
        objects.dedup();
        let mut outcomes = Vec::new();
        for template in self.touched(&before, &after) {
            if self.work.is_over() {
                break;
            }
            for (shown, resource) in self.representatives.of(template, &objects) {
                outcomes.extend(outcome(
                    [&self.old, &self.new],
                    holder,
                    template,
                    &resource,
                    &shown,
                ));
            }
        }
        outcomes.sort_by(|one, other| one.scope.cmp(&other.scope));
        outcomes
    }

    /// The templates whose decision may differ: those that a changed rule matches, and those that only one catalogue
    /// has and any rule matches. All other decisions stay the same.
    fn touched(&self, before: &HashSet<Meaning<'a>>, after: &HashSet<Meaning<'a>>) -> Vec<&'a Template> {
        let representatives = self.representatives;
        let met_by = |(object, action, _): &Meaning<'a>| representatives.met_by(object, action);
        let mut numbers: BTreeSet<usize> = before.symmetric_difference(after).flat_map(met_by).collect();
        if representatives.has_changed_templates() {
            let is_changed = |number: &usize| {
                let template = representatives.template(*number);
                template.is_some_and(|template| template.is_changed)
            };
            numbers.extend(before.union(after).flat_map(met_by).filter(is_changed));
        }
        numbers
            .into_iter()
            .filter_map(|number| representatives.template(number))
            .collect()
    }
}

#[cfg(test)]
mod tests;
