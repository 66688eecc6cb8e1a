//! Damaged and hostile files: refused or loaded, never a panic, and never a rule that is silently skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use proptest::prelude::*;
use tessera_policy::{Diagnostic, Policy, format_rules};

const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
sandbox = "for trying out"
[roles]
"role:viewer" = "watches"
"role:editor" = "changes"
[scopes]
"videos:read" = "list and read videos"
"videos/{id}:play" = "play one video"
[audiences]
api = "the public API"
"#;
const RULES: &str = "\
# watching
p, role:viewer, *, videos, read, allow
p, role:viewer, production, videos/*, play, allow

g, role:editor, role:viewer, production
g, client:cms, role:editor, production
p, client:cms, sandbox, tessera/subjects/user:*, issue, allow
p, role:viewer, production, videos/secret, *, deny
";
const TESTS: &str = r#"
[[test]]
name = "an editor plays"
realm = "production"
subject = "user:ann"
roles = ["role:editor"]
allow = ["videos/v1:play", "videos:read"]
deny = ["videos/secret:play"]
"#;
/// A model that Casbin itself serves, with the rules of the built-in one.
const OTHER_MATCHER: &str = r#"m = g(r.sub, p.sub, r.dom) && (p.dom == "*" || r.dom == p.dom) && keyMatch(r.obj, p.obj) && keyMatch(r.act, p.act)"#;

fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("model.conf", Policy::default_files()[0].1.to_vec()),
        ("catalogue.toml", CATALOGUE.into()),
        ("policy.csv", RULES.into()),
        ("tests/t.toml", TESTS.into()),
    ]
}

fn load(files: &[(&str, Vec<u8>)]) -> Result<Policy, Vec<Diagnostic>> {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    Policy::from_files(&files).map_err(|error| error.diagnostics)
}

/// A change of a file's bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static str),
    Truncate(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    DoubleLine(prop::sample::Index),
    SwapLines(prop::sample::Index, prop::sample::Index),
    CarriageReturns,
    ByteOrderMark,
}

fn damage() -> impl Strategy<Value = Damage> {
    let inserted = &[
        "\u{0}",
        "\u{430}",
        "\u{feff}",
        "\u{200b}",
        "\u{202e}",
        "\u{ff0c}",
        "\u{a0}",
        "\u{1f600}",
        "\r",
        "\n",
        "\t",
        ",",
        "\"",
        "#",
        "*",
        ":",
        "/",
        "p, ",
        "g",
        "deny",
        "P",
        "\\",
        "{",
        "]",
        "eval(",
        "tessera/",
        "..",
        "=",
        "\u{2028}",
        "\u{85}",
    ][..];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        4 => (index(), prop::sample::select(inserted)).prop_map(|(at, text)| Damage::Insert(at, text)),
        1 => index().prop_map(Damage::Truncate),
        2 => (index(), 1usize..8).prop_map(|(at, length)| Damage::Remove(at, length)),
        2 => index().prop_map(Damage::DoubleLine),
        1 => (index(), index()).prop_map(|(one, other)| Damage::SwapLines(one, other)),
        1 => Just(Damage::CarriageReturns),
        1 => Just(Damage::ByteOrderMark),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        match self {
            Self::Flip(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            Self::Insert(at, text) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, text.bytes());
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Self::Remove(at, length) => {
                let at = at.index(bytes.len());
                bytes.drain(at..bytes.len().min(at + length));
            }
            Self::DoubleLine(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
                *bytes = lines.concat();
            }
            Self::SwapLines(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
                *bytes = lines.concat();
            }
            Self::CarriageReturns => {
                *bytes = lines
                    .iter()
                    .flat_map(|line| match line.strip_suffix(b"\n") {
                        Some(line) => [line, b"\r\n"].concat(),
                        None => line.clone(),
                    })
                    .collect();
            }
            Self::ByteOrderMark => {
                bytes.splice(0..0, *b"\xef\xbb\xbf");
            }
        }
    }
}

/// How many rules a file has, counted independently.
fn count_rules(bytes: &[u8]) -> usize {
    let text = std::str::from_utf8(bytes).unwrap();
    let is_rule = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    text.lines().filter(is_rule).count()
}

#[test]
fn the_undamaged_files_are_right() {
    let policy = load(&good()).unwrap();
    assert_eq!(
        (policy.rule_count(), policy.is_compiled()),
        (count_rules(RULES.as_bytes()), true)
    );
    assert!(!load(&with_other_matcher(good())).unwrap().is_compiled());
}

fn with_other_matcher(mut files: Vec<(&'static str, Vec<u8>)>) -> Vec<(&'static str, Vec<u8>)> {
    let model = String::from_utf8(files[0].1.clone()).unwrap();
    let start = model.find("m = ").unwrap();
    files[0].1 = format!("{}{OTHER_MATCHER}\n", &model[..start]).into_bytes();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_found_or_harmless(
        file in 0usize..4,
        is_other in prop::bool::weighted(0.2),
        damages in prop::collection::vec(damage(), 1..5),
    ) {
        let mut files = if is_other { with_other_matcher(good()) } else { good() };
        for damage in &damages {
            damage.apply(&mut files[file].1);
        }
        match load(&files) {
            Ok(policy) => {
                prop_assert_eq!(policy.rule_count(), count_rules(&files[2].1));
                let tests = String::from_utf8_lossy(&files[3].1).lines().filter(|line| line.trim() == "[[test]]").count();
                prop_assert!(policy.test_report().tests >= tests.min(1));
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                for diagnostic in found {
                    let Diagnostic { line, column, message, .. } = diagnostic;
                    prop_assert!(line > 0 && column > 0 && !message.contains(char::is_control), "{:?}", message);
                }
            }
        }
        if let Ok(text) = std::str::from_utf8(&files[file].1) {
            let formatted = format_rules(text);
            prop_assert_eq!(format_rules(&formatted), formatted);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused(file in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut files = good();
        files[file].1 = bytes;
        if let Ok(policy) = load(&files) {
            prop_assert_eq!(policy.rule_count(), count_rules(&files[2].1));
        }
    }
}

/// The help for a file of rules with this one line.
fn help_of(rule: &str) -> String {
    let mut files = good();
    files[2].1 = format!("{rule}\n").into_bytes();
    files.truncate(3);
    let found = load(&files).unwrap_err();
    found[0].help.clone().unwrap_or_default()
}

#[test]
fn a_letter_that_only_looks_like_one_of_a_known_name_is_said_to() {
    for (rule, letter, like) in [
        ("p, role:vi\u{435}wer, *, videos, read, allow", "U+0435", "e"),
        (
            "p, role:viewer, pr\u{43e}duction, videos, read, allow",
            "U+043E",
            "o",
        ),
        ("p, role:viewer, *, vide\u{43e}s, read, allow", "U+043E", "o"),
        ("p, role:viewer, *, videos, re\u{430}d, allow", "U+0430", "a"),
        ("p, role:viewer, *, videos, read, \u{430}llow", "U+0430", "a"),
        ("p, us\u{435}r:ann, *, videos, read, allow", "U+0435", "e"),
        ("\u{440}, role:viewer, *, videos, read, allow", "U+0440", "p"),
        ("p, r\u{43e}le:viewer, *, videos, read, deny", "U+043E", "o"),
    ] {
        let (help, expected) = (
            help_of(rule),
            format!("the letter {letter} only looks like `{like}`"),
        );
        assert!(help.contains(&expected), "{rule}: {help}");
    }
}

#[test]
fn what_differs_from_a_known_name_only_in_case_is_said_to() {
    for rule in [
        "p, role:Viewer, *, videos, read, allow",
        "p, role:viewer, Production, videos, read, allow",
        "p, role:viewer, *, Videos, read, allow",
        "p, role:viewer, *, videos, read, Allow",
        "P, role:viewer, *, videos, read, allow",
        "g, user:ann, role:Editor, *",
        "g, user:ann, Role:editor, *",
        "g, User:ann, role:editor, *",
        "p, Role:viewer, *, videos, read, deny",
    ] {
        let help = help_of(rule);
        assert!(help.contains("it differs only in case"), "{rule}: {help}");
    }
    assert!(
        help_of("p, role:viewer, *, videos/*, Play, allow")
            .contains("did you mean `videos/*:play`? it differs only in case")
    );
    assert!(help_of("x").contains("begin the line with `p` or `g`"));
}
