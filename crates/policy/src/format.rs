//! Uniform spacing of rule files.

/// The text of a `*.csv` with uniform spacing; only spaces and line ends change.
///
/// A rule gets one space after each comma, and no other spaces around its fields. Lines end with a line feed. Blank
/// lines are single and not at the beginning, and comments stay where they are. A line that is not a rule, a comment or
/// blank only loses the spaces at its end. Formatting a second time changes nothing.
#[must_use]
pub fn format_rules(text: &str) -> String {
    let mut formatted = String::with_capacity(text.len());
    let mut is_blank_pending = false;
    for line in text.lines() {
        // `lines` takes one carriage return from the end of a line; there may be more.
        let line = format_line(line.trim_end_matches([' ', '\r']));
        if line.is_empty() {
            is_blank_pending = !formatted.is_empty();
            continue;
        }
        if is_blank_pending {
            formatted.push('\n');
            is_blank_pending = false;
        }
        formatted.push_str(&line);
        formatted.push('\n');
    }
    formatted
}

/// Formats a line without spaces at its end.
fn format_line(line: &str) -> String {
    // Only spaces are removed: the loader refuses a tab, so it must stay visible here.
    let trimmed = line.trim_matches(' ');
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return trimmed.to_owned();
    }
    let fields: Vec<&str> = trimmed.split(',').map(|field| field.trim_matches(' ')).collect();
    if is_rule(&fields) {
        fields.join(", ")
    } else {
        line.to_owned()
    }
}

/// Whether the fields have the form of a rule, and contain nothing whose meaning spaces could change.
fn is_rule(fields: &[&str]) -> bool {
    let has_shape = matches!(fields, ["p", _, ..] | ["g", _, ..]);
    let is_plain =
        |field: &&str| !field.is_empty() && !field.contains(['"', '#']) && !field.contains(char::is_control);
    has_shape && fields.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        policy::Policy,
        rule::{PolicyRule, RoleEdge},
    };

    const RULES: &str = "\
# watching

p, role:viewer, *, videos, read, allow
g, role:editor, role:viewer, *

# writing
p, role:editor, production, videos, write, allow
";

    #[test]
    fn spaces_are_the_only_thing_that_changes() {
        let messy = "\n\n  # watching  \n\n\n  \np,role:viewer ,*,  videos, read,allow\r\ng ,role:editor,role:viewer,*   \n\n\n# writing\np, role:editor, production, videos, write, allow";
        assert_eq!(format_rules(messy), RULES);
        assert_eq!(format_rules(RULES), RULES);
        assert_eq!(format_rules(""), "");
        assert_eq!(format_rules("\n  \n\n"), "");
    }

    #[test]
    fn a_line_that_is_no_rule_keeps_its_bytes() {
        for line in [
            "P,role:viewer,*",
            "  q , a,b",
            "p,role:viewer,\"a,b\",c",
            "p,,a",
            "p",
            "p,a,b # why",
            "\tp,a",
            "p\u{a0},a,b",
        ] {
            assert_eq!(format_rules(&format!("{line}  \r\n")), format!("{line}\n"));
        }
    }

    fn load(rules: &str) -> Option<Vec<String>> {
        let mut files = Policy::default_files().to_vec();
        files.retain(|(name, _)| !name.starts_with("tests/") && *name != "policy.csv");
        files.push(("policy.csv", rules.as_bytes()));
        let policy = Policy::from_files(&files).ok()?;
        let policies = policy.rules.policies.iter().map(PolicyRule::to_line);
        Some(
            policies
                .chain(policy.rules.edges.iter().map(RoleEdge::to_line))
                .collect(),
        )
    }

    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(
            &[
                "p",
                "g",
                ",",
                ", ",
                " ,",
                "\n",
                "\r\n",
                "\n\n",
                " ",
                "  ",
                "#",
                "\"",
                "\t",
                "\r",
                "é",
                "\u{a0}",
                "p, role:viewer, *, videos, read, allow",
                "g,role:editor ,role:viewer,production",
                "# why , not",
                "  p,role:editor,*,videos,*,deny  ",
            ][..],
        )
    }

    proptest! {
        #[test]
        fn formatting_keeps_the_meaning_and_is_done_at_once(pieces in prop::collection::vec(piece(), 0..30)) {
            let text = pieces.concat();
            let formatted = format_rules(&text);
            prop_assert_eq!(format_rules(&formatted), formatted.clone(), "{:?}", text);
            let rules = load(&text);
            prop_assert!(rules.is_none() || rules == load(&formatted), "{:?}", text);
            let letters = |text: &str| text.chars().filter(|c| !matches!(c, ' ' | '\n' | '\r')).collect::<String>();
            prop_assert_eq!(letters(&text), letters(&formatted));
        }

        #[test]
        fn rules_spaced_anyhow_are_formatted_alike(
            spaces in prop::collection::vec(0usize..3, 60),
            ends in prop::collection::vec(any::<bool>(), 8),
        ) {
            let mut spaces = spaces.into_iter().cycle();
            let mut text = String::new();
            for (line, is_crlf) in RULES.lines().zip(ends) {
                let mut space = || " ".repeat(spaces.next().unwrap());
                let line = if line.starts_with('#') {
                    format!("{}{line}{}", space(), space())
                } else {
                    let fields = line.split(", ").map(|field| format!("{}{field}{}", space(), space()));
                    fields.collect::<Vec<_>>().join(",")
                };
                text.push_str(&line);
                text.push_str(if is_crlf { "\r\n" } else { "\n" });
            }
            prop_assert_eq!(format_rules(&text), RULES);
        }
    }
}
