//! The nearest known name, for the help line of a finding.

use crate::{
    look_alike::{look_alike, to_latin},
    quote,
};

/// The longest text that is compared: the cost grows with its square.
const LENGTH_MAX: usize = 150;

/// The candidate that `text` was most likely meant to be, if one is close.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    if length > LENGTH_MAX {
        return None;
    }
    let (folded, lower) = (to_latin(text), to_latin(text).to_lowercase());
    // About a third of the letters may differ: with more, the advice would be a misleading guess. A single letter must
    // be equal.
    let limit = (length / 3).clamp(1, 3).min(length.saturating_sub(1));
    let distance = |candidate: &str| {
        if folded == candidate || folded.eq_ignore_ascii_case(candidate) {
            return 0;
        }
        strsim::damerau_levenshtein(&lower, candidate)
    };
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help line that names the nearest candidate.
pub(crate) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(text, candidates).map(|name| advice(text, name))
}

/// The help line that names what `text` was meant to be, and describes a difference that is not visible.
pub(crate) fn advice(text: &str, name: &str) -> String {
    // The name may be made from the text.
    if !quote::is_name(name) {
        return look_alike(text).unwrap_or_else(|| "check the spelling".to_owned());
    }
    let question = format!("did you mean `{name}`?");
    if let Some(difference) = look_alike(text) {
        format!("{question} {difference}")
    } else if text != name && text.eq_ignore_ascii_case(name) {
        format!("{question} it differs only in case")
    } else {
        question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_name_is_advised() {
        let roles = ["role:viewer", "role:editor"];
        assert_eq!(nearest("role:veiwer", roles), Some("role:viewer"));
        assert_eq!(nearest("Role:Editor", roles), Some("role:editor"));
        assert_eq!(nearest("role:billing", roles), None);
        for (text, expected) in [
            ("P", Some("p")),
            ("\u{440}", Some("p")),
            ("p2", Some("p")),
            ("x", None),
        ] {
            assert_eq!(nearest(text, ["p", "g"]), expected, "{text}");
        }
    }

    #[test]
    fn a_difference_that_nobody_sees_is_said() {
        let names = ["role:admin", "Videos:read", "videos:red"];
        for (text, expected) in [
            ("role:admn", "did you mean `role:admin`?"),
            ("role:Admin", "did you mean `role:admin`? it differs only in case"),
            (
                "videos:READ",
                "did you mean `Videos:read`? it differs only in case",
            ),
            (
                "role:\u{430}dmin",
                "did you mean `role:admin`? the letter U+0430 only looks like `a`",
            ),
            (
                "rоle:аdmіn",
                "did you mean `role:admin`? the letter U+043E only looks like `o`",
            ),
            (
                "role:admin\u{ff0e}",
                "did you mean `role:admin`? the letter U+FF0E only looks like `.`",
            ),
        ] {
            assert_eq!(did_you_mean(text, names).as_deref(), Some(expected));
        }
    }
}
