//! Reads `catalogue.toml`.

use std::collections::HashMap;

use tessera_core::{Audience, NameError, RealmName, RoleName, Scope};

use super::{Catalogue, Segment, Template};
use crate::{
    code,
    diagnostic::{Findings, Place},
    document::{self, Entry, Table},
    own,
    quote::quote,
    text::Text,
};

const TABLES: [&str; 4] = ["realms", "roles", "scopes", "audiences"];

/// Reads the catalogue; what is wrong in it is left out and found.
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
    Some(catalogue)
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
    // A policy may do without roles, but not without the rest.
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
    // A template is right if it is a scope once its parameters are filled in.
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
    // Braces elsewhere are left in the literal, where the scope's own check refuses them.
    if parameter.is_some_and(is_name) {
        Segment::Parameter
    } else {
        Segment::Literal(text.to_owned())
    }
}

impl Template {
    /// Splits a text into segments and action; it need not be right.
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
