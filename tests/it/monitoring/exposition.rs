//! The metrics of `/metrics`, and those that expressions of PromQL name.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that the scrape adds.
const ADDED: [&str; 2] = ["instance", "job"];
const PREFIXES: [&str; 4] = ["tessera_", "grpc_server_", "http_server_", "process_"];

/// The metrics by name: type, and the labels of their samples.
pub struct Exposition {
    types: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// A metric in an expression.
#[derive(Debug)]
pub struct Named {
    name: String,
    labels: Vec<String>,
    is_rate: bool,
}

impl Exposition {
    pub fn read(texts: &[&str]) -> Self {
        let (mut types, mut labels) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new());
        for line in texts.iter().flat_map(|text| text.lines()) {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let end = line.find(['{', ' ']).unwrap();
                let of = labels.entry(line[..end].to_owned()).or_default();
                of.extend(names_before_equals(&line[end..]));
            }
        }
        Self { types, labels }
    }

    /// The problem of a metric in an expression.
    pub fn problem(&self, named: &Named) -> Option<String> {
        let name = &named.name;
        let Some(labels) = self.labels.get(name) else {
            return Some(format!("{name} is not there"));
        };
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        let histogram = part.filter(|base| self.types.get(*base).is_some_and(|kind| kind == "histogram"));
        let kind = self.types.get(name).map(String::as_str);
        let grows = kind == Some("counter") || histogram.is_some();
        if grows != named.is_rate {
            return Some(format!(
                "{name} is a {kind:?}, and its rate is asked: {}",
                named.is_rate
            ));
        }
        let unknown = named
            .labels
            .iter()
            .find(|label| !labels.contains(*label) && !ADDED.contains(&label.as_str()));
        unknown.map(|label| format!("{name} has no label {label}"))
    }
}

/// `{a="x",b=~"y"}`: a, b.
fn names_before_equals(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut is_quoted) = (String::new(), false);
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '=' | '!' if !is_quoted && !name.is_empty() => names.push(std::mem::take(&mut name)),
            _ if is_quoted => {}
            c if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
            '}' => break,
            _ => name.clear(),
        }
    }
    names
}

impl Named {
    /// The metrics of an expression.
    pub fn in_expression(expression: &str) -> Vec<Self> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = expression[at..].find(is_part).map(|start| at + start) {
            let end = expression[start..]
                .find(|c| !is_part(c))
                .map_or(expression.len(), |end| start + end);
            let (name, rest) = (&expression[start..end], &expression[end..]);
            at = end;
            if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                let before = expression[..start].trim_end();
                let is_rate = before.ends_with("rate(") || before.ends_with("increase(");
                let labels = rest
                    .strip_prefix('{')
                    .map(names_before_equals)
                    .unwrap_or_default();
                found.push(Self {
                    name: name.to_owned(),
                    labels,
                    is_rate,
                });
            }
            if let Some(inside) = rest.strip_prefix('{') {
                at = end + 1 + inside.find('}').unwrap();
            }
        }
        found
    }
}
