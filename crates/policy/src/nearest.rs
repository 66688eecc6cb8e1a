//! The nearest known name, for the help line of a finding.

/// The longest text that is compared: the cost grows with its square.
const LENGTH_MAX: usize = 150;

/// The candidate that `text` was most likely meant to be, if one is close.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    if length > LENGTH_MAX {
        return None;
    }
    // A third of the letters may be wrong: more, and the advice is a guess that misleads.
    let limit = (length / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&text.to_lowercase(), candidate),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help line that names the nearest candidate.
pub(crate) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(text, candidates).map(|name| format!("did you mean `{name}`?"))
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
    }
}
