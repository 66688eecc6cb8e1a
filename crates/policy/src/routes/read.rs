//! Reads `routes.toml`.

use tessera_core::{Audience, PathPattern, RealmName, ScopeTemplate};

use super::{
    host::HostPattern,
    region::{Region, Unnamed},
    route::{Needs, Route, is_method},
    table::Routes,
};
use crate::{
    catalogue::{Catalogue, Template},
    code,
    diagnostic::{Findings, Place},
    document::{self, Entry, Table},
    nearest::{advice, did_you_mean},
    quote::quote,
    text::Text,
};

const KEYS: [&str; 7] = ["host", "path", "methods", "scope", "audience", "realm", "open"];
/// The keys of a route for a token.
const TOKEN_KEYS: [&str; 3] = ["scope", "audience", "realm"];
/// Requires no scope, only a valid token. It can't be confused with a scope, which has a colon.
const ANY: &str = "any";
/// The most routes: each request is checked against them.
const ROUTES_MAX: usize = 1_000;

/// Reads the routes; mistakes become findings.
pub(crate) fn read(text: &Text<'_>, catalogue: &Catalogue, findings: &mut Findings) -> Option<Routes> {
    let document = document::parse(text, findings)?;
    let root = Table::root(text, &document);
    root.refuse_others(&["route"], findings);
    let Some(entry) = root.get("route") else {
        findings.add(code::ROUTE_INCOMPLETE, &root.place, "the file has no `[[route]]`");
        return None;
    };
    if entry.is_empty_list() {
        let message = "the file has no routes: `route` is empty";
        findings.add(code::ROUTE_INCOMPLETE, &entry.place, message);
    }
    let tables = entry.tables(findings);
    if let Some(table) = tables.get(ROUTES_MAX) {
        let message = format!("the file has more than {ROUTES_MAX} routes");
        findings.add(code::TOO_LARGE, &table.place, message);
        return None;
    }
    let mut reader = Reader { catalogue, findings };
    let routes: Vec<Route> = tables.iter().filter_map(|table| reader.route(table)).collect();
    let routes = Routes::new(routes);
    refuse_covered(&routes.0, findings);
    Some(routes)
}

/// The first route that matches decides, so a route after a covering one would have no effect.
fn refuse_covered(routes: &[Route], findings: &mut Findings) {
    let unnamed = Unnamed::by(routes.iter());
    for (position, route) in routes.iter().enumerate() {
        if findings.is_full() {
            return;
        }
        let before = routes.get(..position).unwrap_or_default();
        let Some(places) = covering(route, before, &unnamed) else {
            continue;
        };
        let message = match places.as_slice() {
            [place] => format!(
                "the route is never used: the one in {place} matches every request that it would match"
            ),
            [first, .., last] => format!(
                "the route is never used: those from {first} to {last} match every request that it would match"
            ),
            [] => continue,
        };
        let help = if places.len() == 1 {
            "the first route that matches decides: put this one before it, or remove it"
        } else {
            "the first route that matches decides: put this one before them, or remove it"
        };
        findings.advise(code::ROUTE_COVERED, &route.place, message, help.to_owned());
    }
}

/// The positions of the routes that cover all requests of a later one, if they do.
fn covering<'a>(route: &Route, before: &'a [Route], unnamed: &Unnamed) -> Option<Vec<&'a Place>> {
    let region = Region::of(route);
    let near: Vec<&Route> = before
        .iter()
        .filter(|first| region.intersection(&Region::of(first)).is_some())
        .collect();
    let mut places: Vec<&Place> = Vec::new();
    for example in region.examples(unnamed) {
        let first = near.iter().find(|first| first.matches(&example))?;
        if !places.contains(&&first.place) {
            places.push(&first.place);
        }
    }
    places.sort_by_key(|place| place.line);
    Some(places)
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn route(&mut self, table: &Table<'_>) -> Option<Route> {
        if self.findings.is_full() {
            return None;
        }
        table.refuse_others(&KEYS, self.findings);
        let host = table.get("host").map(|entry| self.host(entry));
        let methods = table.get("methods").map(|entry| self.methods(entry));
        let path = table.get("path");
        if path.is_none() {
            self.incomplete(&table.place, "the route has no `path`");
        }
        let path = path.and_then(|entry| self.path(entry));
        let needs = self.needs(table, path.as_ref());
        Some(Route {
            place: table.place.clone(),
            host: match host {
                Some(host) => host?,
                None => HostPattern::Any,
            },
            path: path?,
            methods,
            needs: needs?,
        })
    }

    fn incomplete(&mut self, place: &Place, message: &str) {
        self.findings.add(code::ROUTE_INCOMPLETE, place, message);
    }

    fn host(&mut self, entry: &Entry<'_>) -> Option<HostPattern> {
        let text = entry.text(self.findings)?;
        if let Some(host) = HostPattern::parse(text) {
            return Some(host);
        }
        let message = format!("{} is no host", quote(text));
        let help = if text.contains('*') {
            "write `*.` before a name, for one label more: `*.example.org`; without `host` the route is for every host"
        } else {
            "write a name or an address, in lower case and without a port"
        }
        .to_owned();
        self.findings
            .advise(code::ROUTE_HOST, &entry.value_place(), message, help);
        None
    }

    fn path(&mut self, entry: &Entry<'_>) -> Option<PathPattern> {
        let text = entry.text(self.findings)?;
        match PathPattern::parse(text) {
            Ok(path) => Some(path),
            Err(error) => {
                self.findings
                    .add(code::ROUTE_PATH, &entry.value_place(), error.to_string());
                None
            }
        }
    }

    fn methods(&mut self, entry: &Entry<'_>) -> Vec<String> {
        if entry.is_empty_list() {
            self.incomplete(&entry.place, "the route has no methods: `methods` is empty");
        }
        let texts = entry.texts(self.findings);
        for (place, text) in &texts {
            if !is_method(text) {
                let message = format!("{} is no method", quote(text));
                let capitals = text.to_ascii_uppercase();
                let help = is_method(&capitals).then(|| advice(text, &capitals));
                self.findings.advise(code::ROUTE_METHOD, place, message, help);
            }
        }
        texts.into_iter().map(|(_, text)| text.to_owned()).collect()
    }

    fn needs(&mut self, table: &Table<'_>, path: Option<&PathPattern>) -> Option<Needs> {
        let Some(open) = table.get("open") else {
            let scope = table.get("scope");
            if scope.is_none() {
                let message = "the route has neither `scope` nor `open`";
                self.incomplete(&table.place, message);
            }
            let scopes = scope.and_then(|entry| self.scopes(entry, path));
            let audience = table.get("audience").map(|entry| self.audience(entry));
            let realm = table.get("realm").map(|entry| self.realm(entry));
            return Some(Needs::Token {
                scopes: scopes?,
                audience: audience.flatten(),
                realm: realm.flatten(),
            });
        };
        if !open.bool(self.findings)? {
            // A route that is not open must name its needs.
            self.incomplete(&open.place, "`open` is `true`, or is left out");
        }
        for entry in TOKEN_KEYS.iter().filter_map(|key| table.get(key)) {
            let message = format!("the route is open, and so its `{}` asks nothing", entry.key);
            self.incomplete(&entry.place, &message);
        }
        Some(Needs::Nothing)
    }

    fn scopes(&mut self, entry: &Entry<'_>, path: Option<&PathPattern>) -> Option<Vec<ScopeTemplate>> {
        let text = entry.text(self.findings)?;
        if text == ANY {
            return Some(Vec::new());
        }
        let place = entry.value_place();
        let names: Vec<&str> = text.split(' ').filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            let message = "the scope is empty";
            let help = format!("write `{ANY}` for any good token, or `open = true` for no token");
            self.findings
                .advise(code::ROUTE_INCOMPLETE, &place, message, help);
            return None;
        }
        names
            .into_iter()
            .map(|name| self.scope(name, &place, path))
            .collect()
    }

    fn scope(&mut self, text: &str, place: &Place, path: Option<&PathPattern>) -> Option<ScopeTemplate> {
        let known = ScopeTemplate::parse(text)
            .ok()
            .filter(|_| self.catalogue.has_template(&Template::split(text)));
        let Some(template) = known else {
            let nearest = self.catalogue.nearest_scope(text);
            let message = format!("the catalogue has no scope {}", quote(text));
            let help = nearest.map(|nearest| advice(text, &nearest));
            self.findings.advise(code::UNKNOWN_SCOPE, place, message, help);
            return None;
        };
        let path = path?;
        for name in template.parameters().filter(|name| !path.has_parameter(name)) {
            let message = format!(
                "the scope {} has the parameter {}, which the path does not have",
                quote(text),
                quote(name)
            );
            let help = format!("write a segment `{{{name}}}` in the path, or the value in the scope");
            self.findings.advise(code::ROUTE_PARAMETER, place, message, help);
        }
        Some(template)
    }

    fn audience(&mut self, entry: &Entry<'_>) -> Option<Audience> {
        let text = entry.text(self.findings)?;
        let audience = Audience::parse(text).ok();
        let known = audience.filter(|audience| self.catalogue.has_audience(audience));
        if known.is_none() {
            let nearest = self.catalogue.nearest_audience(text);
            let message = format!("the catalogue has no audience {}", quote(text));
            let help = nearest.map(|nearest| advice(text, &nearest));
            self.findings
                .advise(code::UNKNOWN_AUDIENCE, &entry.value_place(), message, help);
        }
        known
    }

    fn realm(&mut self, entry: &Entry<'_>) -> Option<RealmName> {
        let text = entry.text(self.findings)?;
        let realm = RealmName::parse(text).ok();
        let known = realm.filter(|realm| self.catalogue.has_realm(realm));
        if known.is_none() {
            let help = did_you_mean(text, self.catalogue.realms().iter().map(RealmName::as_str));
            let message = format!("the catalogue has no realm {}", quote(text));
            self.findings
                .advise(code::UNKNOWN_REALM, &entry.value_place(), message, help);
        }
        known
    }
}
