//! A matcher of a model that is not ours: only what is known to end, and to mean what it says.
//!
//! Casbin compiles a matcher as a script, in an engine without limits, and replaces `r.` and `p.` wherever
//! they stand. So the words and signs of it are looked at here: comparisons, Casbin's own functions, and
//! nothing that could define, assign, loop or call anything else.

use super::Model;
use crate::{code, oracle, pattern};

/// Casbin's functions, as built here, with the number of their arguments.
const FUNCTIONS: [(&str, usize); 9] = [
    ("keyMatch", 2),
    ("keyMatch2", 2),
    ("keyMatch3", 2),
    ("keyMatch4", 2),
    ("keyMatch5", 2),
    ("keyGet", 2),
    ("keyGet2", 3),
    ("keyGet3", 3),
    ("regexMatch", 2),
];
/// The fields of a request.
const REQUEST: [&str; 4] = ["sub", "dom", "obj", "act"];
/// The longest signs first.
const SIGNS: [&str; 15] = [
    "&&", "||", "==", "!=", "<=", ">=", "!", "<", ">", "(", ")", ",", "[", "]", "+",
];
/// How much of what can nest there may be: the compiler recurses into it.
const NESTING_MAX: usize = 64;

/// What is wrong with a matcher: a code and a message.
type Problem = (&'static str, String);

/// Checks that the matcher of a model is sound, and compiles. Returns the functions that are given a field of
/// the rule as a pattern, each with the position of the field.
pub(super) fn check(model: &Model) -> Result<Vec<(String, usize)>, Problem> {
    let matcher = model.matcher.as_str();
    if matcher.matches(['(', '[', '!']).count() > NESTING_MAX {
        return Err(refuse("the matcher nests too much"));
    }
    let words = split(matcher)?;
    let mut patterns = Vec::new();
    for (position, word) in words.iter().enumerate() {
        let is_call = words.get(position + 1) == Some(&Word::Sign("("));
        check_word(word, is_call, model)?;
        if let (Word::Name(name), true) = (word, is_call) {
            let rest = words.get(position + 2..).unwrap_or_default();
            check_arguments(name, rest, model)?;
            patterns.extend(check_pattern(name, rest, model)?);
        }
    }
    for (owner, what) in [("r.", "the question"), ("p.", "the rule")] {
        if !words
            .iter()
            .any(|word| matches!(word, Word::Name(name) if name.starts_with(owner)))
        {
            return Err(refuse(format!(
                "the matcher does not look at {what}: it has no `{owner}…`"
            )));
        }
    }
    oracle::compile(model).map_err(|error| refuse(format!("the matcher does not compile: {error}")))?;
    Ok(patterns)
}

fn refuse(message: impl Into<String>) -> Problem {
    (code::MODEL_MATCHER, message.into())
}

#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    /// A name with the dots in it.
    Name(&'a str),
    Number,
    /// A text between quotes.
    Text(&'a str),
    Sign(&'static str),
}

fn split(matcher: &str) -> Result<Vec<Word<'_>>, Problem> {
    let mut words = Vec::new();
    let mut rest = matcher.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = |is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, length) = if let Some(quoted) = rest.strip_prefix('"') {
            let length = quoted.find('"').ok_or_else(|| refuse("a quote is not closed"))?;
            (Word::Text(quoted.get(..length).unwrap_or_default()), length + 2)
        } else if first.is_ascii_digit() {
            (Word::Number, end(|c| c.is_ascii_digit()))
        } else if first.is_ascii_alphabetic() {
            let length = end(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
            (Word::Name(rest.get(..length).unwrap_or_default()), length)
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (Word::Sign(sign), sign.len())
        } else {
            return Err(refuse(format!(
                "the matcher has `{}`, which is not supported",
                first.escape_default()
            )));
        };
        words.push(word);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(words)
}

fn check_word(word: &Word<'_>, is_call: bool, model: &Model) -> Result<(), Problem> {
    match *word {
        Word::Name("eval") => Err((
            code::MODEL_EVAL,
            "the matcher uses `eval`, which runs without any limit".to_owned(),
        )),
        Word::Name(name) if is_call => check_function(name),
        Word::Name("in" | "true" | "false") | Word::Number | Word::Sign(_) => Ok(()),
        Word::Name(name) => check_field(name, model),
        Word::Text(text) => check_text(text),
    }
}

fn check_function(name: &str) -> Result<(), Problem> {
    if name == "g" || name == "in" || FUNCTIONS.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let known = FUNCTIONS.map(|(known, _)| known).join("`, `");
    Err(refuse(format!(
        "the matcher calls `{name}`; known are `g`, `{known}`"
    )))
}

/// Casbin would fail at each question.
fn check_arguments(name: &str, rest: &[Word<'_>], model: &Model) -> Result<(), Problem> {
    let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
    let expected = known.map_or(model.role_fields, |(_, arguments)| *arguments);
    let (mut depth, mut found) = (0usize, 1usize);
    for word in rest {
        match word {
            Word::Sign("(" | "[") => depth += 1,
            Word::Sign(")" | "]") if depth == 0 => break,
            Word::Sign(")" | "]") => depth -= 1,
            Word::Sign(",") if depth == 0 => found += 1,
            _ => {}
        }
    }
    if name == "in" || found == expected {
        return Ok(());
    }
    Err(refuse(format!(
        "`{name}` takes {expected} arguments here, not {found}"
    )))
}

/// Checks the second argument of a function, the pattern, where it is a text. Where it is a field of the rule,
/// each rule has its own, so the position of the field is returned with the function.
fn check_pattern(name: &str, rest: &[Word<'_>], model: &Model) -> Result<Option<(String, usize)>, Problem> {
    let [_, Word::Sign(","), argument, Word::Sign("," | ")"), ..] = rest else {
        return Ok(None);
    };
    if !pattern::FUNCTIONS.contains(&name) {
        return Ok(None);
    }
    match *argument {
        Word::Text(text) => match pattern::check(name, text) {
            Ok(()) => Ok(None),
            Err(problem) => Err(refuse(format!(
                "`{name}` can't read the pattern \"{text}\": {problem}"
            ))),
        },
        Word::Name(field) => {
            let position = field.strip_prefix("p.").and_then(|field| model.position(field));
            Ok(position.map(|position| (name.to_owned(), position)))
        }
        _ => Ok(None),
    }
}

fn check_field(name: &str, model: &Model) -> Result<(), Problem> {
    let is_known = match name.split_once('.') {
        Some(("r", field)) => REQUEST.contains(&field),
        Some(("p", field)) => model.position(field).is_some(),
        _ => false,
    };
    if is_known {
        return Ok(());
    }
    Err(refuse(format!(
        "the matcher has `{name}`, which is a field neither of a request nor of a rule"
    )))
}

/// Refuses a text that Casbin would change, or the compiler read otherwise than it looks.
fn check_text(text: &str) -> Result<(), Problem> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_replaced = text.split('.').rev().skip(1).any(|before| {
        let word = before.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let digits = word.strip_prefix(['r', 'p']);
        digits.is_some_and(|digits| digits.chars().all(|c| c.is_ascii_digit()))
    });
    if text.contains('\\') || is_replaced {
        return Err(refuse(format!(
            "the text \"{text}\" is not supported: casbin would read it otherwise"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matcher: &str) -> Result<(), &'static str> {
        let model = Model {
            matcher: matcher.to_owned(),
            ..Model::ours()
        };
        super::check(&model).map(|_| ()).map_err(|(code, _)| code)
    }

    #[test]
    fn only_what_is_known_to_end_is_accepted() {
        for good in [
            "g(r.sub, p.sub, r.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)",
            "r.sub == p.sub && (r.act in [\"read\", \"write\"]) || keyGet2(r.obj, p.obj, \"id\") == \"1\" && !(r.dom == \"x\")",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "r.sub == p.sub; true",
            "r.sub == p.sub && { loop {} }",
            "if r.sub == p.sub { true } else { false }",
            "r.sub == p.sub && |x| true",
            "r.sub == p.sub && `${r.sub}` == \"x\"",
            "r.sub == p.sub && 'x' == 'x'",
            "r.sub == p.owner",
            "r.sub.len() == p.sub",
            "r2.sub == p.sub && r.sub == p.sub",
            "r.sub == p.sub && print(\"x\")",
            "r.sub == p.sub && globMatch(r.obj, p.obj)",
            "g(r.sub, p.sub)",
            "g(r.sub, p.sub, r.dom) && keyMatch(r.obj)",
            "r.sub == p.sub && r.obj == \"p.x\"",
            "r.sub == p.sub && r.obj == \"a-r2.x\"",
            "r.sub == p.sub && r.obj == \"\\u0061\"",
            "r.sub == p.sub && r.obj == \"open",
            "r.sub == p.sub && é",
            "r.sub == p.sub && regexMatch(r.act, \"(\")",
            "true",
            "r.sub == \"root\"",
            "p.sub == \"root\"",
            "r.sub == p.sub &&",
            "",
        ] {
            assert_eq!(check(bad), Err("P013"), "{bad}");
        }
        assert_eq!(check("r.sub == eval (p.sub)"), Err("P014"));
        assert_eq!(check("r.sub == p.sub && r.obj == \"super.x\""), Ok(()));
    }

    #[test]
    fn the_patterns_that_rules_have_are_known() {
        let matcher = "g(r.sub, p.sub, r.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, \"^[a-z]+$\") \
                       && keyGet2(r.obj, p.obj, \"id\") != p.act && regexMatch(p.act, r.act)";
        let model = Model {
            matcher: matcher.to_owned(),
            ..Model::ours()
        };
        let expected = [("keyMatch2", 2), ("keyGet2", 2)];
        let expected = expected.map(|(name, position)| (name.to_owned(), position));
        assert_eq!(super::check(&model).unwrap(), expected);
    }
}
