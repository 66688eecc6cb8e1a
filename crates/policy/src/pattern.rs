//! Patterns for Casbin's functions, in a model other than the built-in one.
//!
//! Casbin turns most of them into a regular expression, and its implementations use different engines. Python's
//! `regexMatch` matches at the start of a text, Go's and Rust's anywhere; groups and classes differ; and a pattern that
//! does not compile panics or matches nothing, even in a `deny`. So only patterns that mean the same in all
//! implementations are accepted.

use std::fmt;

/// The functions that take a pattern as their second argument.
pub(crate) const FUNCTIONS: [&str; 6] = [
    "keyMatch",
    "keyMatch2",
    "keyMatch3",
    "keyMatch4",
    "keyMatch5",
    "regexMatch",
];
/// How deep groups may nest.
const NESTING_MAX: usize = 8;

/// Why a pattern is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) problem: &'static str,
    pub(crate) help: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

/// Checks that a pattern means the same in every Casbin implementation.
pub(crate) fn check(function: &str, pattern: &str) -> Result<(), Refused> {
    match function {
        "regexMatch" => Expression::check(pattern),
        "keyMatch" => check_start(pattern),
        "keyMatch2" => check_path(pattern, |segment| {
            segment.strip_prefix(':').is_some_and(is_parameter)
        }),
        _ => check_path(pattern, |segment| {
            let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            inner.is_some_and(is_parameter)
        }),
    }
}

/// Whether a character is literal in each of the functions.
pub(crate) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '~' | '@' | '=' | '-')
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Plain text, which may end with a `*`.
fn check_start(pattern: &str) -> Result<(), Refused> {
    let text = pattern.strip_suffix('*').unwrap_or(pattern);
    if !pattern.is_empty()
        && text
            .chars()
            .all(|c| is_plain(c) || matches!(c, '/' | '.' | ':' | '|' | '+'))
    {
        return Ok(());
    }
    Err(Refused {
        problem: "it has more than plain text with `*` at the end",
        help: "write `A-Za-z0-9._~@=:/|+-`, with `*` at most at the end: casbin ignores what follows it",
    })
}

/// Segments of plain text or parameters, joined by `/`; the last may be `*`.
fn check_path(pattern: &str, is_parameter: impl Fn(&str) -> bool) -> Result<(), Refused> {
    const HELP: &str = "write segments of `A-Za-z0-9_~@=-` joined by `/`; a whole segment may be a parameter as \
                        the function writes it, and the last one `*`";
    let mut segments = pattern.split('/').enumerate().peekable();
    while let Some((position, segment)) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_text = !segment.is_empty() && segment.chars().all(|c| is_plain(c) || c == '.' || c == ':');
        let is_known = match segment {
            "*" => is_last && position > 0,
            // Some implementations treat a colon as the beginning of a parameter, or a dot as any character.
            _ if segment.contains([':', '.']) && !is_parameter(segment) => false,
            _ => is_parameter(segment) || is_text,
        };
        if !is_known {
            return Err(Refused {
                problem: "a segment is neither plain text nor a parameter, or `*` is not the last",
                help: HELP,
            });
        }
    }
    Ok(())
}

/// A regular expression in the common part of all engines, anchored at both ends.
struct Expression<'a> {
    rest: &'a str,
    depth: usize,
}

impl Expression<'_> {
    fn check(pattern: &str) -> Result<(), Refused> {
        let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
        let inner = inner.ok_or(Refused {
            problem: "it has no `^` at its start and `$` at its end",
            help: "casbin's implementations begin at different places: write `^…$`, and `^(a|b)$` for a choice",
        })?;
        let mut expression = Expression {
            rest: inner,
            depth: 0,
        };
        expression.sequence()?;
        match expression.peek() {
            None => Ok(()),
            Some('|') => Err(Refused {
                problem: "a choice is outside a group",
                help: "write `^(a|b)$`: the anchors would belong to one side each",
            }),
            Some(_) => Err(unreadable()),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let first = characters.next();
        self.rest = characters.as_str();
        first
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.take();
        }
        is_next
    }

    /// At least one item, each of which may be repeated. Returns whether one is: a repeated repetition takes some
    /// implementations exponential time.
    fn sequence(&mut self) -> Result<bool, Refused> {
        let (mut items, mut has_repeats) = (0, false);
        while let Some(next) = self.peek().filter(|next| !matches!(next, '|' | ')')) {
            self.take();
            let repeats = match next {
                '(' => self.group()?,
                '[' => self.class().map(|()| false)?,
                '.' => false,
                _ if is_plain(next) || matches!(next, '/' | ':') => false,
                _ => return Err(unreadable()),
            };
            items += 1;
            let is_repeated = matches!(self.peek(), Some('*' | '+' | '?'));
            if is_repeated {
                self.take();
            }
            if is_repeated && repeats {
                return Err(Refused {
                    problem: "it repeats a group that repeats something itself",
                    help: "write it without the inner or the outer repetition",
                });
            }
            has_repeats |= is_repeated || repeats;
        }
        if items == 0 {
            Err(unreadable())
        } else {
            Ok(has_repeats)
        }
    }

    /// A choice up to its `)`. Returns whether it contains a repetition.
    fn group(&mut self) -> Result<bool, Refused> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(unreadable());
        }
        let mut repeats = self.sequence()?;
        while self.take_if('|') {
            repeats |= self.sequence()?;
        }
        self.depth -= 1;
        if self.take_if(')') {
            Ok(repeats)
        } else {
            Err(unreadable())
        }
    }

    /// Characters and ranges of one kind up to the `]`.
    fn class(&mut self) -> Result<(), Refused> {
        let mut items = 0;
        while let Some(first) = self.take() {
            if first == ']' {
                return if items > 0 { Ok(()) } else { Err(unreadable()) };
            }
            items += 1;
            let is_range = self.take_if('-');
            let last = if is_range {
                self.take().unwrap_or(']')
            } else {
                first
            };
            let is_known = match (first, last) {
                ('_', '_') if !is_range => true,
                ('a'..='z', 'a'..='z') | ('A'..='Z', 'A'..='Z') | ('0'..='9', '0'..='9') => first <= last,
                _ => false,
            };
            if !is_known {
                return Err(unreadable());
            }
        }
        Err(unreadable())
    }
}

fn unreadable() -> Refused {
    Refused {
        problem: "it has something that casbin's implementations read differently, or not at all",
        help: "write `^…$` of letters, digits, `_~@=/:-`, `.`, classes such as `[a-z0-9_]`, groups `(a|b)`, and \
               `*`, `+` or `?` behind one of these",
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use casbin::function_map::{key_match, key_match2, key_match3, key_match4, key_match5, regex_match};
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
            other => panic!("{other}"),
        })
        .ok()
    }

    #[test]
    fn patterns_that_mean_different_things_are_refused() {
        for (function, patterns) in [
            (
                "regexMatch",
                &[
                    "play",
                    "play|edit",
                    "^play|edit$",
                    ".*",
                    "^play",
                    "play$",
                    "^(play$",
                    "^play)$",
                    "^[a-$",
                    "^[]$",
                    "^[^a]$",
                    "^a**$",
                    "^a+?$",
                    "^a{2}$",
                    "^\\d$",
                    "^(?i)a$",
                    "^(?:a)$",
                    "^$",
                    "^()$",
                    "^(a|)$",
                    "^[z-a]$",
                    "^[a-Z]$",
                    "^[a-]$",
                    "^é$",
                    "^a b$",
                    "^*$",
                    "^(a*)*$",
                    "^((a+|b)c)?$",
                    "^+a$",
                ][..],
            ),
            ("keyMatch", &["a/*/b", "a**", "", "{id}", "(a", "a b"]),
            (
                "keyMatch2",
                &[
                    "*", "a*", "a/:", "a:b", "a/:x-y", "a/{id}", "a/(b", "a/*/b", "a.b",
                ],
            ),
            (
                "keyMatch3",
                &["*", "a/{}", "a/{x}y", "a/{x", "a/:id", "a/[{id}", "a/{x-y}"],
            ),
            ("keyMatch4", &["a/(a|b)/{id}", "a/({id}", "a.b/{id}"]),
            ("keyMatch5", &["a/({id}", "a?b"]),
        ] {
            for pattern in patterns {
                assert!(check(function, pattern).is_err(), "{function} {pattern}");
            }
        }
        let nested = format!("^{}a{}$", "(".repeat(9), ")".repeat(9));
        assert!(check("regexMatch", &nested).is_err());
    }

    #[test]
    fn patterns_that_mean_the_same_are_not() {
        for (function, pattern) in [
            ("regexMatch", "^(play|edit)$"),
            ("regexMatch", "^.*$"),
            ("regexMatch", "^v[0-9]+(a|b[A-Z_])*/x:y$"),
            ("keyMatch", "videos/*"),
            ("keyMatch", "*"),
            ("keyMatch", "a*"),
            ("keyMatch", "videos"),
            ("keyMatch2", "videos/:id/*"),
            ("keyMatch3", "videos/{id}/*"),
            ("keyMatch4", "videos/{id}/{id}"),
            ("keyMatch5", "videos/{id}/*"),
        ] {
            assert_eq!(check(function, pattern), Ok(()), "{function} {pattern}");
        }
    }

    proptest! {
        #[test]
        fn casbin_panics_at_nothing_that_is_accepted(
            function in prop::sample::select(&FUNCTIONS[..]),
            pattern in r"\^?[a/:{}()\[\]*+?|.-]{0,8}\$?",
        ) {
            if check(function, &pattern).is_ok() {
                prop_assert!(call(function, "a/a", &pattern).is_some());
            }
        }
    }
}
