//! Patterns for Casbin's functions, in a model that is not ours. Casbin makes a regular expression of each, and
//! panics on one that does not compile, or takes it for one that matches nothing, a `deny` included.

use std::sync::LazyLock;

use regex::Regex;

/// The functions that make a regular expression of their second argument.
pub(crate) const FUNCTIONS: [&str; 7] = [
    "keyMatch2",
    "keyMatch3",
    "keyMatch4",
    "keyMatch5",
    "keyGet2",
    "keyGet3",
    "regexMatch",
];

// A text of ours that does not compile would be found by every test.
static COLON: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r":[^/]*").ok());
static NAMED_COLON: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r":[^/]+").ok());
static BRACES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{[^/]*\}").ok());
static SHORT_BRACES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{[^/]+?\}").ok());

/// Why Casbin would fail at a pattern that is given to one of its functions.
pub(crate) fn check(function: &str, pattern: &str) -> Result<(), String> {
    let Some(text) = expression(function, pattern) else {
        return Ok(());
    };
    let compiled = Regex::new(&text).map_err(|error| problem(&error))?;
    let parameters = SHORT_BRACES
        .as_ref()
        .map_or(0, |braces| braces.find_iter(pattern).count());
    // It has a group for each parameter, so a further one is counted as one too many when it matches.
    if function == "keyMatch4" && compiled.captures_len() != parameters + 1 {
        return Err("`keyMatch4` takes no groups but `{…}`".to_owned());
    }
    Ok(())
}

/// The regular expression that Casbin makes of a pattern, if it makes one.
fn expression(function: &str, pattern: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '@' | '=' | '~');
    if pattern.chars().all(is_plain) {
        return None;
    }
    let replace = |parameter: &LazyLock<Option<Regex>>, by: &str| {
        let text = pattern.replace("/*", "/.*");
        let text = parameter.as_ref()?.replace_all(&text, by);
        Some(format!("^{text}$"))
    };
    match function {
        "regexMatch" => Some(pattern.to_owned()),
        "keyMatch2" => replace(&COLON, "[^/]+"),
        "keyGet2" => replace(&NAMED_COLON, "([^/]+)"),
        "keyMatch3" => replace(&BRACES, "[^/]+"),
        "keyMatch4" => replace(&SHORT_BRACES, "([^/]+)"),
        "keyMatch5" => replace(&SHORT_BRACES, "[^/]+"),
        // It quotes the braces that are left.
        "keyGet3" => replace(&SHORT_BRACES, "([^/]+?)").map(|text| text.replace('{', r"\{")),
        _ => None,
    }
}

/// What is wrong in one line: the message shows the pattern with a mark below it first.
fn problem(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    last.trim_start_matches("error: ")
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use casbin::function_map::{
        key_get2, key_get3, key_match, key_match2, key_match3, key_match4, key_match5, regex_match,
    };
    use proptest::prelude::*;

    use super::*;

    /// Calls Casbin's function. `None`: it panics.
    fn call(function: &str, text: &str, pattern: &str) -> Option<bool> {
        catch_unwind(|| match function {
            "regexMatch" => regex_match(text, pattern),
            "keyMatch" => key_match(text, pattern),
            "keyMatch2" => key_match2(text, pattern),
            "keyMatch3" => key_match3(text, pattern),
            "keyMatch4" => key_match4(text, pattern),
            "keyMatch5" => key_match5(text, pattern),
            "keyGet2" => !key_get2(text, pattern, "id").is_empty(),
            "keyGet3" => !key_get3(text, pattern, "id").is_empty(),
            other => panic!("{other}"),
        })
        .ok()
    }

    /// Those that panic at a pattern that does not compile, whatever they are asked.
    const PANICKING: [&str; 5] = ["regexMatch", "keyMatch2", "keyMatch3", "keyMatch5", "keyGet3"];

    #[test]
    fn patterns_that_casbin_fails_at_are_refused() {
        for (function, pattern, expected) in [
            ("regexMatch", "^videos/[a-", "unclosed character class"),
            ("keyMatch2", "videos/(:id", "unclosed group"),
            ("keyGet2", "videos/(:id", "unclosed group"),
            ("keyMatch3", "videos/[{id}", "unclosed character class"),
            ("keyMatch4", "videos/({id}", "unclosed group"),
            ("keyMatch5", "videos/({id}", "unclosed group"),
            ("keyGet3", "videos/({id}", "unclosed group"),
            (
                "keyMatch4",
                "videos/(a|b)/{id}",
                "`keyMatch4` takes no groups but `{…}`",
            ),
        ] {
            assert_eq!(
                check(function, pattern),
                Err(expected.to_owned()),
                "{function} {pattern}"
            );
        }
        let too_large = check("regexMatch", "((a{100}){100}){100}").unwrap_err();
        assert!(
            too_large.starts_with("Compiled regex exceeds size limit"),
            "{too_large}"
        );
    }

    #[test]
    fn patterns_that_casbin_can_read_are_not() {
        for (function, pattern) in [
            ("regexMatch", "play|edit"),
            ("regexMatch", ".*"),
            ("keyMatch", "videos/(*"),
            ("keyMatch2", "videos/:id/*"),
            ("keyMatch3", "videos/{id}/*"),
            ("keyMatch4", "videos/{id}/{id}"),
            ("keyMatch4", "videos/(?:a|b)/{id}"),
            ("keyMatch5", "videos/{id}/*"),
            ("keyGet2", "videos/:id"),
            ("keyGet3", "videos/{id}/{"),
        ] {
            assert_eq!(check(function, pattern), Ok(()), "{function} {pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_is_refused_is_what_casbin_panics_at(
            function in prop::sample::select(&PANICKING[..]),
            pattern in r"[a/:{}()\[\]*+?|.^$-]{0,8}",
        ) {
            prop_assert_eq!(check(function, &pattern).is_err(), call(function, "a/a", &pattern).is_none());
        }

        #[test]
        fn a_group_is_refused_only_where_casbin_panics_when_it_matches(
            pattern in prop::sample::select(&["a/(a)", "(a)/{b}", "{b}/a", "(?:a)/{b}", "(a|b)/{b}/*"][..]),
        ) {
            let is_refused = check("keyMatch4", pattern).is_err();
            let text = if pattern.ends_with('*') { "a/a/a" } else { "a/a" };
            prop_assert_eq!(call("keyMatch4", text, pattern), (!is_refused).then_some(true));
        }
    }
}
