//! Samples of the text format of Prometheus.

use std::collections::BTreeSet;

/// The content of `/metrics`.
#[derive(Default)]
pub(super) struct Samples(Vec<Sample>);

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Samples {
    /// Lines that are not samples are skipped.
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Sample::read).collect())
    }

    /// The sum of all samples of a name that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self
            .0
            .iter()
            .filter(|sample| sample.name == name && sample.has(labels));
        found.map(|sample| sample.value).sum()
    }

    /// The greatest sample of a name; 0 if there is none.
    pub(super) fn greatest(&self, name: &str) -> f64 {
        let found = self.0.iter().filter(|sample| sample.name == name);
        found.map(|sample| sample.value).fold(0.0, f64::max)
    }

    /// The values of a label.
    pub(super) fn values_of(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let found = self.0.iter().filter(|sample| sample.name == name);
        found.filter_map(|sample| sample.label(label)).collect()
    }
}

impl Sample {
    fn read(line: &str) -> Option<Self> {
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        Some(Self {
            name: name.to_owned(),
            labels,
            value: value.split_whitespace().next()?.parse().ok()?,
        })
    }

    fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

/// `a="b",c="d"} 1`: the labels, and the rest. A value may contain commas, and quotes after a backslash.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut is_escaped, mut end) = (String::new(), false, None);
        for (at, character) in quoted.char_indices() {
            match character {
                _ if is_escaped => {
                    value.push(if character == 'n' { '\n' } else { character });
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => value.push(character),
            }
        }
        found.push((name.to_owned(), value));
        rest = quoted.get(end? + 1..)?;
    }
}
