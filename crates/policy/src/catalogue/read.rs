//! Reads `catalogue.toml`.

use std::collections::{BTreeMap, HashMap};

use tessera_core::{Audience, NameError, RealmName, RoleName, Scope};

use super::{
    names::Catalogue,
    template::{Segment, Template},
};
use crate::{
    code,
    diagnostic::{Findings, Place},
    document::{self, Entry, Table},
    nearest::advice,
    own,
    quote::quote,
    text::Text,
};

const TABLES: [&str; 5] = ["realms", "roles", "scopes", "audiences", "resources"];
/// The longest address of an audience, in bytes.
const RESOURCE_BYTES_MAX: usize = 512;

/// Reads the catalogue; wrong entries are left out and reported as findings.
pub(crate) fn read(text: &Text<'_>, findings: &mut Findings) -> Option<Catalogue> {
    let document = document::parse(text, findings)?;
    let root = Table::root(text, &document);
    root.refuse_others(&TABLES, findings);
    let mut catalogue = Catalogue {
        realms: names(&root, "realms", RealmName::parse, findings),
        roles: names(&root, "roles", RoleName::parse, findings),
        audiences: names(&root, "audiences", Audience::parse, findings),
        ..Catalogue::default()
    };
    read_scopes(&root, &mut catalogue, findings);
    catalogue.resources = read_resources(&root, &catalogue, findings);
    Some(catalogue)
}

/// The addresses of audiences; a catalogue may have none.
fn read_resources(
    root: &Table<'_>,
    catalogue: &Catalogue,
    findings: &mut Findings,
) -> BTreeMap<String, Audience> {
    let mut resources = BTreeMap::new();
    let Some(table) = root.get("resources").and_then(|entry| entry.table(findings)) else {
        return resources;
    };
    for entry in table.entries() {
        if !is_resource(entry.key) {
            let message = format!(
                "{} is no address of an audience: expected an absolute URI without a fragment, such as \
                 `https://api.example.org/`",
                quote(entry.key)
            );
            findings.add(code::CATALOGUE_NAME, &entry.place, message);
        }
        let Some(name) = entry.text(findings) else {
            continue;
        };
        match catalogue
            .audiences
            .iter()
            .find(|audience| audience.as_str() == name)
        {
            Some(audience) => {
                resources.insert(entry.key.to_owned(), audience.clone());
            }
            None => findings.advise(
                code::CATALOGUE_NAME,
                &entry.value_place(),
                format!("the catalogue has no audience {}", quote(name)),
                catalogue
                    .nearest_audience(name)
                    .map(|nearest| advice(name, &nearest)),
            ),
        }
    }
    resources
}

/// An absolute URI without a fragment (RFC 8707 §2), in visible ASCII.
fn is_resource(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    is_scheme
        && !rest.is_empty()
        && text.len() <= RESOURCE_BYTES_MAX
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !"\"#<>\\^`{|}".contains(c))
}

fn names<N: Ord>(
    root: &Table<'_>,
    table: &str,
    parse: impl Fn(&str) -> Result<N, NameError>,
    findings: &mut Findings,
) -> Vec<N> {
    let mut names = Vec::new();
    for_each(root, table, findings, |entry, findings| match parse(entry.key) {
        Ok(name) => names.push(name),
        Err(error) => findings.add(code::CATALOGUE_NAME, &entry.place, error.to_string()),
    });
    // Look-ups are binary searches.
    names.sort();
    names
}

fn read_scopes(root: &Table<'_>, catalogue: &mut Catalogue, findings: &mut Findings) {
    let mut shapes: HashMap<String, Place> = HashMap::new();
    let mut concrete = Vec::new();
    for_each(root, "scopes", findings, |entry, findings| {
        let template = match parse_template(entry.key) {
            Ok(template) => template,
            Err(error) => return findings.add(code::CATALOGUE_NAME, &entry.place, error.to_string()),
        };
        let (resource, _) = entry.key.rsplit_once(':').unwrap_or((entry.key, ""));
        if own::is_own(resource) {
            let message = format!(
                "{} is below `tessera`, which is the authority's own",
                quote(entry.key)
            );
            return findings.add(code::CATALOGUE_RESERVED, &entry.place, message);
        }
        if let Some(first) = shapes.insert(template.shape(), entry.place.clone()) {
            let message = format!("{} is the same scope as the one in {first}", quote(entry.key));
            return findings.add(code::CATALOGUE_TWICE, &entry.place, message);
        }
        if let Ok(scope) = Scope::parse(entry.key) {
            concrete.push(scope);
        }
        catalogue.add_template(template);
    });
    catalogue.concrete = concrete.into_iter().collect();
}

/// Calls `read` for each entry of a table that has a description.
fn for_each(
    root: &Table<'_>,
    name: &str,
    findings: &mut Findings,
    mut read: impl FnMut(&Entry<'_>, &mut Findings),
) {
    let table = root.get(name).map(|entry| entry.table(findings));
    let Some(table) = table else {
        let message = format!("the catalogue has no table `[{name}]`");
        return findings.add(code::CATALOGUE_EMPTY, &root.place, message);
    };
    let Some(table) = table else { return };
    // A policy may have no roles, but needs the other tables.
    if table.entries().is_empty() && name != "roles" {
        findings.add(
            code::CATALOGUE_EMPTY,
            &table.place,
            format!("the table `[{name}]` is empty"),
        );
    }
    for entry in table.entries() {
        if findings.is_full() {
            return;
        }
        let description = entry.text(findings);
        if description.is_some_and(|text| text.trim().is_empty()) {
            let message = format!("{} has no description", quote(entry.key));
            findings.add(code::CATALOGUE_DESCRIPTION, &entry.value_place(), message);
        }
        read(entry, findings);
    }
}

fn parse_template(text: &str) -> Result<Template, NameError> {
    let template = Template::split(text);
    // A template is valid if it is a scope after its parameters are filled in.
    let filled: Vec<&str> = template
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => text.as_str(),
            Segment::Parameter => "x",
        })
        .collect();
    Scope::parse(&format!("{}:{}", filled.join("/"), template.action))?;
    Ok(template)
}

fn parse_segment(text: &str) -> Segment {
    let parameter = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // Braces elsewhere stay in the literal, where the scope's own check refuses them.
    if parameter.is_some_and(is_name) {
        Segment::Parameter
    } else {
        Segment::Literal(text.to_owned())
    }
}

impl Template {
    /// Splits a text into segments and action; the text may be invalid.
    pub(crate) fn split(text: &str) -> Self {
        let (resource, action) = text.rsplit_once(':').unwrap_or((text, ""));
        Self {
            text: text.to_owned(),
            segments: resource.split('/').map(parse_segment).collect(),
            action: action.to_owned(),
        }
    }

    /// The template without the names of its parameters.
    fn shape(&self) -> String {
        let segments: Vec<&str> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.as_str(),
                Segment::Parameter => "{}",
            })
            .collect();
        format!("{}:{}", segments.join("/"), self.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(resources: &str) -> (Option<Catalogue>, Vec<(u32, String)>) {
        let text = format!(
            "realms.production = \"x\"\naudiences.api = \"x\"\nscopes.\"videos:read\" = \"x\"\nroles.\"role:a\" = \"x\"\n\
             [resources]\n{resources}\n"
        );
        let mut findings = Findings::default();
        let file = Text::read("catalogue.toml", text.as_bytes(), &mut findings).unwrap();
        let catalogue = read(&file, &mut findings);
        let found = findings.into_result().err();
        let found = found.map_or_else(Vec::new, |error| error.diagnostics);
        let found = found
            .into_iter()
            .map(|finding| (finding.line, finding.code.to_owned()));
        (catalogue, found.collect())
    }

    #[test]
    fn an_audience_has_addresses() {
        let (catalogue, found) =
            read_with("\"https://api.example.org/v1?a=b\" = \"api\"\n\"urn:x:api\" = \"api\"");
        assert_eq!(found, []);
        let catalogue = catalogue.unwrap();
        for resource in ["https://api.example.org/v1?a=b", "urn:x:api"] {
            assert_eq!(catalogue.audience_of(resource).unwrap().as_str(), "api");
        }
        for other in ["https://api.example.org/v1", "api", "urn:x", ""] {
            assert_eq!(catalogue.audience_of(other), None);
        }
        let near = |resource: &str| catalogue.nearest_resource(resource);
        for meant in [
            "HTTPS://API.example.org:443/v1?a=b/",
            "https://api.example.org/v2?a=b",
        ] {
            assert_eq!(near(meant), Some("https://api.example.org/v1?a=b"), "{meant}");
        }
        assert_eq!(near("urn:X:api"), Some("urn:x:api"));
        assert_eq!(near("https://elsewhere.example.com/"), None);
    }

    #[test]
    fn what_is_no_address_or_has_no_audience_is_refused() {
        for wrong in [
            "\"https://api.example.org/#top\" = \"api\"",
            "\"api.example.org\" = \"api\"",
            "\"/v1\" = \"api\"",
            "\"https:\" = \"api\"",
            "\"https://api.example.org/ \" = \"api\"",
            "\"https://bücher.example/\" = \"api\"",
            "\"https://api.example.org/\" = \"apy\"",
        ] {
            assert_eq!(read_with(wrong).1, [(6, "P023".to_owned())], "{wrong}");
        }
    }
}
