//! A comparison of two policies by questions to both, if Casbin itself answers for one of them.

use std::collections::BTreeSet;

use tessera_core::RealmName;

use super::{
    outcome::{Outcome, outcome},
    scopes::Representatives,
    side::Side,
};
use crate::{policy::Policy, rule::Object, work::Work};

/// The limit of the questions' total cost, in rules that Casbin evaluates: some microseconds each.
const COST_MAX: usize = 1_000_000;

/// Passes the differences to `add`, until the questions cost too much; returns how many were not asked.
pub(super) fn compare(
    [old, new]: [&Policy; 2],
    realms: &BTreeSet<&RealmName>,
    holders: &BTreeSet<&str>,
    representatives: &Representatives,
    work: &Work,
    mut add: impl FnMut(&RealmName, &str, &[Outcome]),
) -> usize {
    let objects: BTreeSet<Object> = [old, new].into_iter().flat_map(Policy::objects).collect();
    let any = Object::Prefix("".into());
    let objects: Vec<&Object> = objects.iter().chain([&any]).collect();
    let scopes: Vec<_> = representatives
        .templates()
        .flat_map(|template| {
            let resources = representatives.of(template, &objects);
            resources.into_iter().map(move |resource| (template, resource))
        })
        .collect();
    let mut unasked = 0;
    let mut left = COST_MAX / (old.rule_count() + new.rule_count()).max(1);
    for realm in realms {
        let (old, new) = (Side::new(old, realm), Side::new(new, realm));
        for holder in holders {
            if work.is_over() {
                return unasked;
            }
            if left < scopes.len() {
                unasked += scopes.len();
                continue;
            }
            left -= scopes.len();
            let outcomes = scopes
                .iter()
                .take_while(|_| !work.is_over())
                .filter_map(|(template, (shown, resource))| {
                    outcome([&old, &new], holder, template, resource, shown)
                })
                .collect::<Vec<_>>();
            add(realm, holder, &outcomes);
        }
    }
    unasked
}
