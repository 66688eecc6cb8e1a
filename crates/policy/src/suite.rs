//! Policy tests: what must be allowed and what must be denied.

use std::collections::HashMap;

use tessera_core::{RealmName, RoleName, Scope};

use crate::{
    catalogue::Catalogue,
    code,
    diagnostic::{Findings, Place},
    document::{self, Entry, Table},
    nearest::{advice, did_you_mean},
    oracle::RawQuestion,
    own,
    quote::{quote, quote_title},
    routes::case::{self, CallCase},
    rule::{Object, Star},
    subject::{self, Problem},
    text::Text,
};

const KEYS: [&str; 6] = ["name", "realm", "subject", "roles", "allow", "deny"];

/// One `[[test]]`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) subject: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) expectations: Vec<Expectation>,
}

/// A scope with the expected verdict.
#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) place: Place,
    pub(crate) scope: String,
    pub(crate) is_allowed: bool,
}

impl Case {
    /// The question of an expectation.
    pub(crate) fn question<'a>(&'a self, expectation: &'a Expectation) -> RawQuestion<'a> {
        let (resource, action) = expectation
            .scope
            .rsplit_once(':')
            .unwrap_or((&expectation.scope, ""));
        let names = self
            .subject
            .iter()
            .chain(&self.roles)
            .map(String::as_str)
            .collect();
        RawQuestion {
            realm: &self.realm,
            names,
            resource,
            action,
        }
    }
}

/// Reads one file of tests. `names` has the positions of tests by name, in this file and the previous ones.
pub(crate) fn read(
    text: &Text<'_>,
    catalogue: &Catalogue,
    names: &mut HashMap<String, Place>,
    findings: &mut Findings,
) -> Tests {
    let Some(document) = document::parse(text, findings) else {
        return Tests::default();
    };
    let root = Table::root(text, &document);
    root.refuse_others(&["test", "route"], findings);
    if root.get("test").is_none() && root.get("route").is_none() {
        let message = "the file has neither a `[[test]]` nor a `[[route]]`";
        findings.add(code::TEST_INCOMPLETE, &root.place, message);
    }
    let calls = root
        .get("route")
        .map(|entry| case::read(entry, catalogue, findings));
    let cases = root
        .get("test")
        .map(|entry| tests(entry, catalogue, names, findings));
    Tests {
        cases: cases.unwrap_or_default(),
        calls: calls.unwrap_or_default(),
    }
}

/// The parsed files of tests.
#[derive(Debug, Default)]
pub(crate) struct Tests {
    /// The tests of decisions.
    pub(crate) cases: Vec<Case>,
    /// The tests of routes.
    pub(crate) calls: Vec<CallCase>,
}

fn tests(
    tests: &Entry<'_>,
    catalogue: &Catalogue,
    names: &mut HashMap<String, Place>,
    findings: &mut Findings,
) -> Vec<Case> {
    if tests.is_empty_list() {
        findings.add(
            code::TEST_INCOMPLETE,
            &tests.place,
            "the file has no tests: `test` is empty",
        );
    }
    let tables = tests.tables(findings);
    let mut reader = Reader { catalogue, findings };
    let cases: Vec<(Place, Case)> = tables
        .iter()
        .filter_map(|table| {
            let is_wanted = !reader.findings.is_full();
            is_wanted
                .then(|| reader.case(table))
                .flatten()
                .map(|case| (table.place.clone(), case))
        })
        .collect();
    for (place, case) in &cases {
        if let Some(first) = names.insert(case.name.clone(), place.clone()) {
            let message = format!("the test {} is in {first} already", quote_title(&case.name));
            findings.add(code::TEST_TWICE, place, message);
        }
    }
    cases.into_iter().map(|(_, case)| case).collect()
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn case(&mut self, table: &Table<'_>) -> Option<Case> {
        table.refuse_others(&KEYS, self.findings);
        let name = self.required(table, "name");
        let realm = self.required(table, "realm").and_then(|entry| self.realm(entry));
        let name = name.and_then(|entry| entry.text(self.findings));
        let subject = table.get("subject").map(|entry| self.subject(entry));
        let roles = self.roles(table);
        let mut expectations = self.expectations(table, "allow", true);
        expectations.extend(self.expectations(table, "deny", false));
        self.require_either(table, ["allow", "deny"]);
        if subject.is_none() {
            self.require_either(table, ["subject", "roles"]);
        }
        Some(Case {
            name: name?.to_owned(),
            realm: realm?,
            subject: subject.flatten(),
            roles,
            expectations,
        })
    }

    fn required<'t>(&mut self, table: &'t Table<'_>, key: &str) -> Option<&'t Entry<'t>> {
        let entry = table.get(key);
        if entry.is_none() {
            self.findings.add(
                code::TEST_INCOMPLETE,
                &table.place,
                format!("the test has no `{key}`"),
            );
        }
        entry
    }

    /// Adds a finding if a test has neither of two keys, or if they are empty: it would pass with any rules.
    fn require_either(&mut self, table: &Table<'_>, keys: [&str; 2]) {
        let [one, other] = keys;
        let entries: Vec<&Entry<'_>> = keys.iter().filter_map(|key| table.get(key)).collect();
        let (place, message) = match entries.as_slice() {
            [] => (
                &table.place,
                format!("the test has neither `{one}` nor `{other}`"),
            ),
            [first, ..] if entries.iter().all(|entry| entry.is_empty_list()) => (
                &first.place,
                format!("the test has nothing in `{one}` or `{other}`"),
            ),
            _ => return,
        };
        self.findings.add(code::TEST_INCOMPLETE, place, message);
    }

    fn realm(&mut self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text(self.findings)?;
        if RealmName::parse(text).is_ok_and(|realm| self.catalogue.has_realm(&realm)) {
            return Some(text.to_owned());
        }
        let help = did_you_mean(text, self.catalogue.realms().iter().map(RealmName::as_str));
        let message = format!("the catalogue has no realm {}", quote(text));
        self.findings
            .advise(code::UNKNOWN_REALM, &entry.value_place(), message, help);
        None
    }

    fn subject(&mut self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text(self.findings)?;
        match subject::check(text, self.catalogue) {
            Ok(()) => Some(text.to_owned()),
            Err(Problem { code, message, help }) => {
                self.findings.advise(code, &entry.value_place(), message, help);
                None
            }
        }
    }

    fn roles(&mut self, table: &Table<'_>) -> Vec<String> {
        let texts = table
            .get("roles")
            .map(|entry| entry.texts(self.findings))
            .unwrap_or_default();
        for (place, text) in &texts {
            // The search for the nearest of many names takes time in proportion to their number.
            if self.findings.is_full() {
                break;
            }
            if !RoleName::parse(text).is_ok_and(|role| self.catalogue.has_role(&role)) {
                let help = self.catalogue.nearest_role(text).map(|role| advice(text, &role));
                let message = format!("the catalogue has no role {}", quote(text));
                self.findings.advise(code::UNKNOWN_ROLE, place, message, help);
            }
        }
        texts.into_iter().map(|(_, text)| text.to_owned()).collect()
    }

    fn expectations(&mut self, table: &Table<'_>, key: &str, is_allowed: bool) -> Vec<Expectation> {
        let Some(entry) = table.get(key) else {
            return Vec::new();
        };
        let texts = entry.texts(self.findings);
        for (place, text) in texts.iter().filter(|(_, text)| !is_known(self.catalogue, text)) {
            if self.findings.is_full() {
                break;
            }
            let nearest = self.catalogue.nearest_scope(text).or_else(|| own::nearest(text));
            let help = nearest
                .or_else(|| with_other_action(self.catalogue, text))
                .map(|scope| advice(text, &scope));
            let message = format!("the catalogue has no scope {}", quote(text));
            self.findings.advise(code::UNKNOWN_SCOPE, place, message, help);
        }
        let expectation = |(place, scope): (Place, &str)| Expectation {
            place,
            scope: scope.to_owned(),
            is_allowed,
        };
        texts.into_iter().map(expectation).collect()
    }
}

/// The scope with the action that was most likely meant.
fn with_other_action(catalogue: &Catalogue, text: &str) -> Option<String> {
    let (resource, action) = text.rsplit_once(':')?;
    let action = catalogue.nearest_action(&Object::Exactly(resource.into()), action)?;
    Some(format!("{resource}:{action}"))
}

/// Whether a text is a concrete scope, or one of the authority's own.
fn is_known(catalogue: &Catalogue, text: &str) -> bool {
    if Scope::parse(text).is_ok_and(|scope| catalogue.has_scope(&scope)) {
        return true;
    }
    let Some((resource, action)) = text.rsplit_once(':') else {
        return false;
    };
    own::matches(
        catalogue,
        &Object::Exactly(resource.into()),
        &Star::Only(action.into()),
    )
}
