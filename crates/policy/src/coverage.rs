//! Which rules the policy's own tests cover.

use std::collections::{HashMap, HashSet};

use crate::{
    diagnostic::Place,
    explain::reach::Reach,
    policy::Policy,
    roles::RoleGraph,
    routes::Route,
    rule::{RoleEdge, RuleAt},
    suite::Case,
};

/// The tests of a policy, and the rules that they don't cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// How many `[[test]]` there are.
    pub tests: usize,
    /// How many scopes they expect to be allowed or denied.
    pub expectations: usize,
    /// The rules that no test covers, in the order of files and lines.
    ///
    /// A `p` rule is covered if it matches a question of a test, whether it decides or not; with a model that Casbin
    /// itself serves, only if it decides. A `g` rule is covered if it is on the shortest path from the subject, or an
    /// asserted role, of some test to the holder of a `p` rule that matches a question of the test.
    /// holder of a `p` rule that matches what the test asks.
    pub uncovered: Vec<RuleAt>,
    /// How many calls the tests of routes have.
    pub calls: usize,
    /// The routes that decide no call of a test, in the order of the file.
    pub uncovered_routes: Vec<RuleAt>,
}

impl Policy {
    /// Counts the policy's own tests, all of which pass, and finds the rules that they don't cover.
    #[must_use]
    pub fn test_report(&self) -> TestReport {
        let mut coverage = Coverage::new(self);
        for case in &self.cases {
            coverage.cover(case);
        }
        TestReport {
            tests: self.cases.len(),
            expectations: self.cases.iter().map(|case| case.expectations.len()).sum(),
            uncovered: coverage.uncovered(),
            calls: self.calls.len(),
            uncovered_routes: self.uncovered_routes(),
        }
    }

    fn uncovered_routes(&self) -> Vec<RuleAt> {
        let Some(routes) = self.routes() else {
            return Vec::new();
        };
        let covered: Vec<&Route> = self
            .calls
            .iter()
            .filter_map(|call| call.deciding(routes))
            .collect();
        let is_covered = |route: &Route| covered.iter().any(|known| std::ptr::eq(*known, route));
        let uncovered = routes.iter().filter(|route| !is_covered(route));
        let mut uncovered: Vec<RuleAt> = uncovered.map(Route::at).collect();
        uncovered.sort_by_key(|route| route.line);
        uncovered
    }
}

/// What the tests so far cover.
struct Coverage<'a> {
    policy: &'a Policy,
    graphs: HashMap<&'a str, RoleGraph<'a>>,
    policies: HashSet<u32>,
    edges: HashSet<(&'a str, u32)>,
}

impl<'a> Coverage<'a> {
    fn new(policy: &'a Policy) -> Self {
        let realms = policy.catalogue.realms().iter();
        let graph = |realm: &'a str| (realm, RoleGraph::new(&policy.rules.edges, realm));
        Self {
            policy,
            graphs: realms.map(|realm| graph(realm.as_str())).collect(),
            policies: HashSet::new(),
            edges: HashSet::new(),
        }
    }

    fn cover(&mut self, case: &'a Case) {
        let Some(graph) = self.graphs.get(case.realm.as_str()) else {
            return;
        };
        let subject = case.subject.as_deref().unwrap_or_default();
        let reach = Reach::in_graph(graph, subject, case.roles.iter().map(String::as_str));
        for expectation in &case.expectations {
            let question = case.question(expectation);
            let matching = if self.policy.is_compiled() {
                self.policy.index.matching(&question)
            } else {
                self.policy.answer_raw(&question).rule().into_iter().collect()
            };
            for number in matching {
                self.policies.insert(number);
                let holder = self.policy.holder(number);
                let edges = holder.map(|holder| reach.edges_to(holder)).unwrap_or_default();
                self.edges.extend(edges.into_iter().map(key));
            }
        }
    }

    fn uncovered(&self) -> Vec<RuleAt> {
        let rules = &self.policy.rules;
        let count = u32::try_from(rules.count() - rules.edges.len()).unwrap_or(u32::MAX);
        let policies = (0..count).filter(|number| !self.policies.contains(number));
        let edges = rules.edges.iter().filter(|edge| !self.edges.contains(&key(edge)));
        let mut uncovered: Vec<(&Place, RuleAt)> = policies
            .filter_map(|number| Some((rules.place(number)?, rules.at(number)?)))
            .chain(edges.map(|edge| (&edge.place, edge.at())))
            .collect();
        uncovered.sort_by_key(|(place, _)| (place.file.as_ref(), place.line));
        uncovered.into_iter().map(|(_, rule)| rule).collect()
    }
}

/// The identity of an edge.
fn key(edge: &RoleEdge) -> (&str, u32) {
    (&edge.place.file, edge.place.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &[u8] = br#"
realms.production = "p"
realms.sandbox = "s"
audiences.api = "x"
roles."role:viewer" = "x"
roles."role:editor" = "x"
roles."role:other" = "x"
scopes."videos:read" = "x"
scopes."videos:write" = "x"
"#;

    const RULES: &[u8] = b"\
p, role:viewer, *, videos, read, allow
p, role:editor, *, videos, write, allow
p, role:viewer, production, videos, *, deny
g, role:editor, role:viewer, *
g, user:ann, role:editor, sandbox
g, user:ann, role:viewer, sandbox
g, user:bob, role:editor, sandbox
p, role:other, *, videos, read, deny
";

    fn uncovered(tests: &str) -> (usize, usize, Vec<u32>) {
        let mut files = vec![
            Policy::default_files()[0],
            ("catalogue.toml", CATALOGUE),
            ("policy.csv", RULES),
        ];
        if !tests.is_empty() {
            files.push(("tests/t.toml", tests.as_bytes()));
        }
        let report = Policy::from_files(&files).unwrap().test_report();
        let lines = report.uncovered.iter().map(|rule| rule.line).collect();
        (report.tests, report.expectations, lines)
    }

    #[test]
    fn what_no_test_reaches_is_uncovered() {
        assert_eq!(uncovered(""), (0, 0, (1..=8).collect()));
        let ann = "[[test]]\nname = \"ann\"\nrealm = \"sandbox\"\nsubject = \"user:ann\"\nallow = [\"videos:read\"]\n";
        // Her direct edge is the shortest path; a rule of another realm does not match.
        assert_eq!(uncovered(ann), (1, 1, vec![2, 3, 4, 5, 7, 8]));
        let role = "[[test]]\nname = \"role\"\nrealm = \"production\"\nroles = [\"role:editor\"]\ndeny = [\"videos:read\", \"videos:write\"]\n";
        // A rule that a denial overrules still matches.
        assert_eq!(uncovered(role), (1, 2, vec![5, 6, 7, 8]));
        assert_eq!(uncovered(&format!("{ann}{role}")), (2, 3, vec![5, 7, 8]));
    }
}
