//! The limit of the number of rules, tested with a smaller value.

use super::*;
use crate::catalogue;

const CATALOGUE: &str = r#"
realms.production = "x"
audiences.api = "x"
roles."role:viewer" = "x"
scopes."videos/{id}:play" = "x"
"#;

/// Reads files with this limit of rules.
fn read(rules_max: usize, files: &[(&str, &str)]) -> (usize, Vec<String>) {
    let mut findings = Findings::default();
    let model = Model::ours();
    let catalogue = Text::read("catalogue.toml", CATALOGUE.as_bytes(), &mut findings).unwrap();
    let catalogue = catalogue::read::read(&catalogue, &mut findings).unwrap();
    let texts: Vec<Text<'_>> = files
        .iter()
        .map(|(name, text)| Text::read(name, text.as_bytes(), &mut findings).unwrap())
        .collect();
    let mut reader = Reader::new(&catalogue, &model, &mut findings);
    assert_eq!(reader.rules_max, 1_000_000);
    reader.rules_max = rules_max;
    for text in &texts {
        reader.read(text);
    }
    let count = reader.finish().count();
    let found = findings
        .into_result()
        .map_or_else(|error| error.diagnostics, |()| Vec::new());
    (count, found.iter().map(ToString::to_string).collect())
}

const FIRST: (&str, &str) = (
    "a.csv",
    "# One of each.\np, role:viewer, *, videos/*, play, allow\n\ng, user:ann, role:viewer, *\n",
);

#[test]
fn as_many_rules_as_the_limit_are_read_and_comments_do_not_count() {
    assert_eq!(read(2, &[FIRST, ("b.csv", "# No rule.\n\n")]), (2, Vec::new()));
}

#[test]
fn one_rule_more_is_refused_and_said_once_for_all_files() {
    let more = "# The third.\ng, user:bob, role:viewer, *\ng, user:eve, role:viewer, *\n";
    let expected = "b.csv:2:1: P002: the policy has more than 2 rules".to_owned();
    let files = [FIRST, ("b.csv", more), ("c.csv", more), ("d.csv", "nonsense\n")];
    assert_eq!(read(2, &files), (2, vec![expected]));
}
