//! Tests of routes: what calls need.

use tessera_core::{Audience, CalledPath, RealmName, Scope, ScopeSet};

use super::{
    call::{Access, Call, NoRoute},
    host,
    route::{Route, is_method},
    table::Routes,
};
use crate::{
    catalogue::Catalogue,
    code,
    diagnostic::{Findings, Place},
    document::{Entry, Table},
    nearest::{advice, did_you_mean},
    quote::{quote, quote_title},
};

const KEYS: [&str; 9] = [
    "name", "host", "method", "path", "scope", "audience", "realm", "open", "refused",
];
/// The keys for the expected answer; a test has one of them.
const ANSWERS: [&str; 3] = ["scope", "open", "refused"];
/// Requires no scope, only a valid token.
const ANY: &str = "any";

/// One `[[route]]` of a file of tests.
#[derive(Debug)]
pub(crate) struct CallCase {
    place: Place,
    name: Option<String>,
    host: Option<String>,
    method: Option<String>,
    path: String,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Open,
    Refused,
    Token {
        scopes: ScopeSet,
        audience: Option<Audience>,
        realm: Option<RealmName>,
    },
}

impl CallCase {
    fn call(&self) -> Call<'_> {
        Call {
            host: self.host.as_deref(),
            method: self.method.as_deref(),
            target: &self.path,
        }
    }

    /// The route that decides, if one does.
    pub(crate) fn deciding<'a>(&self, routes: &'a Routes) -> Option<&'a Route> {
        let path = CalledPath::parse(&self.path).ok()?;
        routes.deciding(&self.call(), &path).ok()
    }

    /// Adds a finding if the routes give another answer.
    pub(crate) fn run(&self, routes: Option<&Routes>, findings: &mut Findings) {
        let Some(routes) = routes else {
            let message = "the test asks what a call needs, and the policy has no `routes.toml`";
            findings.add(code::TEST_INCOMPLETE, &self.place, message);
            return;
        };
        let found = routes.access(&self.call());
        let is_unsaid = matches!(found, Err(NoRoute::HostUnknown | NoRoute::MethodUnknown));
        if !is_unsaid && self.expected.is(found.as_ref().ok()) {
            return;
        }
        let why = match &found {
            Err(NoRoute::HostUnknown) => "a route depends on the host: add `host` to the test".to_owned(),
            Err(NoRoute::MethodUnknown) => {
                "a route depends on the method: add `method` to the test".to_owned()
            }
            Err(problem) => problem.to_string(),
            Ok(_) => {
                let place = self.deciding(routes).map(|route| route.place.to_string());
                place.map_or_else(String::new, |place| format!("see {place}"))
            }
        };
        let message = format!(
            "the test {} fails: the call {}",
            self.title(),
            said(found.as_ref().ok())
        );
        findings.advise(code::TEST_FAILED, &self.place, message, why);
    }

    fn title(&self) -> String {
        let call = || {
            let method = self.method.as_ref().map(|method| format!("{method} "));
            let host = self.host.as_deref().unwrap_or_default();
            format!("{}{host}{}", method.unwrap_or_default(), self.path)
        };
        quote_title(&self.name.clone().unwrap_or_else(call)).to_string()
    }
}

impl Expected {
    fn is(&self, found: Option<&Access>) -> bool {
        match (self, found) {
            (Self::Refused, None) | (Self::Open, Some(Access::Open)) => true,
            (
                Self::Token {
                    scopes,
                    audience,
                    realm,
                },
                Some(Access::Token {
                    scopes: needed,
                    audience: of,
                    realm: within,
                }),
            ) => {
                // What the test does not name may be anything.
                scopes == needed
                    && (audience.is_none() || audience == of)
                    && (realm.is_none() || realm == within)
            }
            _ => false,
        }
    }
}

/// The needs of a call, in words.
fn said(found: Option<&Access>) -> String {
    match found {
        None => "is refused".to_owned(),
        Some(Access::Open) => "is open to everybody".to_owned(),
        Some(Access::Token {
            scopes,
            audience,
            realm,
        }) => {
            let mut text = if scopes.is_empty() {
                "needs any good token".to_owned()
            } else {
                let names: Vec<String> = scopes
                    .iter()
                    .map(|scope| quote(scope.as_str()).to_string())
                    .collect();
                format!("needs {}", names.join(" and "))
            };
            if let Some(audience) = audience {
                text += &format!(", for the audience {}", quote(audience.as_str()));
            }
            if let Some(realm) = realm {
                text += &format!(", of the realm {}", quote(realm.as_str()));
            }
            text
        }
    }
}

// === reading ===

/// Reads the `[[route]]` of a file of tests.
pub(crate) fn read(entry: &Entry<'_>, catalogue: &Catalogue, findings: &mut Findings) -> Vec<CallCase> {
    if entry.is_empty_list() {
        let message = "the file has no tests of routes: `route` is empty";
        findings.add(code::TEST_INCOMPLETE, &entry.place, message);
    }
    let tables = entry.tables(findings);
    let mut reader = Reader { catalogue, findings };
    tables.iter().filter_map(|table| reader.case(table)).collect()
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn case(&mut self, table: &Table<'_>) -> Option<CallCase> {
        if self.findings.is_full() {
            return None;
        }
        table.refuse_others(&KEYS, self.findings);
        let name = table.get("name").map(|entry| entry.text(self.findings));
        let host = table.get("host").map(|entry| self.host(entry));
        let method = table.get("method").map(|entry| self.method(entry));
        let path = table.get("path");
        if path.is_none() {
            self.incomplete(&table.place, "the test has no `path`");
        }
        let path = path.and_then(|entry| entry.text(self.findings));
        let expected = self.expected(table);
        Some(CallCase {
            place: table.place.clone(),
            name: name.flatten().map(str::to_owned),
            host: host.flatten(),
            method: method.flatten(),
            path: path?.to_owned(),
            expected: expected?,
        })
    }

    fn incomplete(&mut self, place: &Place, message: &str) {
        self.findings.add(code::TEST_INCOMPLETE, place, message);
    }

    fn host(&mut self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text(self.findings)?;
        if host::host(text).is_none() {
            let message = format!("{} is no host", quote(text));
            let help = "a call is to one host: write a name or an address".to_owned();
            self.findings
                .advise(code::ROUTE_HOST, &entry.value_place(), message, help);
        }
        Some(text.to_owned())
    }

    fn method(&mut self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text(self.findings)?;
        if !is_method(text) {
            let message = format!("{} is no method", quote(text));
            let capitals = text.to_ascii_uppercase();
            let help = is_method(&capitals).then(|| advice(text, &capitals));
            self.findings
                .advise(code::ROUTE_METHOD, &entry.value_place(), message, help);
        }
        Some(text.to_owned())
    }

    fn expected(&mut self, table: &Table<'_>) -> Option<Expected> {
        let answers: Vec<&Entry<'_>> = ANSWERS.iter().filter_map(|key| table.get(key)).collect();
        let answer = match answers.as_slice() {
            [answer] => answer,
            [] => {
                let message = "the test has none of `scope`, `open` and `refused`";
                self.incomplete(&table.place, message);
                return None;
            }
            [_, second, ..] => {
                let message = "the test has more than one of `scope`, `open` and `refused`";
                self.incomplete(&second.place, message);
                return None;
            }
        };
        if answer.key == "scope" {
            let scopes = self.scopes(answer);
            let audience = table.get("audience").map(|entry| self.audience(entry));
            let realm = table.get("realm").map(|entry| self.realm(entry));
            return Some(Expected::Token {
                scopes: scopes?,
                audience: audience.flatten(),
                realm: realm.flatten(),
            });
        }
        if !answer.bool(self.findings)? {
            let message = format!("`{}` is `true`, or is left out", answer.key);
            self.incomplete(&answer.place, &message);
        }
        for entry in ["audience", "realm"].iter().filter_map(|key| table.get(key)) {
            let message = format!(
                "the test expects no token, and so its `{}` asks nothing",
                entry.key
            );
            self.incomplete(&entry.place, &message);
        }
        Some(if answer.key == "open" {
            Expected::Open
        } else {
            Expected::Refused
        })
    }

    fn scopes(&mut self, entry: &Entry<'_>) -> Option<ScopeSet> {
        let text = entry.text(self.findings)?;
        if text == ANY {
            return Some(ScopeSet::default());
        }
        let names: Vec<&str> = text.split(' ').filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            let message = "the scope is empty";
            let help = format!("write `{ANY}` for any good token, `open = true` or `refused = true`");
            self.findings
                .advise(code::TEST_INCOMPLETE, &entry.value_place(), message, help);
            return None;
        }
        let scopes: Vec<Option<Scope>> = names.into_iter().map(|name| self.scope(name, entry)).collect();
        scopes.into_iter().collect()
    }

    fn scope(&mut self, text: &str, entry: &Entry<'_>) -> Option<Scope> {
        let known = Scope::parse(text)
            .ok()
            .filter(|scope| self.catalogue.has_scope(scope));
        if known.is_none() {
            let help = self
                .catalogue
                .nearest_scope(text)
                .map(|nearest| advice(text, &nearest));
            let message = format!("the catalogue has no scope {}", quote(text));
            self.findings
                .advise(code::UNKNOWN_SCOPE, &entry.value_place(), message, help);
        }
        known
    }

    fn audience(&mut self, entry: &Entry<'_>) -> Option<Audience> {
        let text = entry.text(self.findings)?;
        let known = Audience::parse(text)
            .ok()
            .filter(|audience| self.catalogue.has_audience(audience));
        if known.is_none() {
            let help = self
                .catalogue
                .nearest_audience(text)
                .map(|nearest| advice(text, &nearest));
            let message = format!("the catalogue has no audience {}", quote(text));
            self.findings
                .advise(code::UNKNOWN_AUDIENCE, &entry.value_place(), message, help);
        }
        known
    }

    fn realm(&mut self, entry: &Entry<'_>) -> Option<RealmName> {
        let text = entry.text(self.findings)?;
        let known = RealmName::parse(text)
            .ok()
            .filter(|realm| self.catalogue.has_realm(realm));
        if known.is_none() {
            let help = did_you_mean(text, self.catalogue.realms().iter().map(RealmName::as_str));
            let message = format!("the catalogue has no realm {}", quote(text));
            self.findings
                .advise(code::UNKNOWN_REALM, &entry.value_place(), message, help);
        }
        known
    }
}
