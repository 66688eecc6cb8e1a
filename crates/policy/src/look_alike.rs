//! Letters that look like Latin ones, and are others.

/// Letters that look like Latin ones, each followed by the Latin letter.
const LOOK_ALIKE: &str = "аaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwкkмmтtвbнhАAВBЕEКKМMНHОOРPСCТTХXУYІIЈJЅS\
                          αaνvοoρpιiκkυuτtΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧXıiℓl";

/// The first letter that looks like another one, in a sentence.
pub(crate) fn look_alike(text: &str) -> Option<String> {
    let (letter, latin) = text
        .chars()
        .find_map(|letter| Some((letter, latin_of(letter)?)))?;
    let number = u32::from(letter);
    Some(format!("the letter U+{number:04X} only looks like `{latin}`"))
}

/// The text with each look-alike replaced by the Latin letter.
pub(crate) fn to_latin(text: &str) -> String {
    text.chars()
        .map(|letter| latin_of(letter).unwrap_or(letter))
        .collect()
}

fn latin_of(letter: char) -> Option<char> {
    if letter.is_ascii() {
        return None;
    }
    if let Some(offset @ 0..94) = u32::from(letter).checked_sub(0xff01) {
        // The full width forms, in the order of ASCII.
        return char::from_u32(offset + u32::from('!'));
    }
    let mut letters = LOOK_ALIKE.chars();
    while let (Some(known), Some(latin)) = (letters.next(), letters.next()) {
        if known == letter {
            return Some(latin);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_that_looks_like_another_has_one() {
        let letters: Vec<char> = LOOK_ALIKE.chars().collect();
        for pair in letters.chunks(2) {
            assert!(!pair[0].is_ascii() && pair[1].is_ascii_alphabetic(), "{pair:?}");
        }
    }
}
