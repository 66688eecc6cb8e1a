//! A matcher of another model: only what every Casbin implementation decides the same way.
//!
//! Each Casbin implementation compiles a matcher with the expressions of its own language, after replacing some of its
//! signs as text. So a matcher is parsed here, and the accepted forms are those that were compared with another
//! implementation on many random models (`tests/pycasbin.rs`): conditions joined by `&&`, `||`, `!` and parentheses;
//! comparisons of texts; `g`; functions that match a field of the question against a pattern. Everything else is
//! refused.

use super::definitions::Model;
use crate::{code, oracle, pattern};

mod parse;
mod problem;

use parse::{Condition, Operand, parse};
pub(super) use problem::Problem;

/// The fields of a request.
const REQUEST: [&str; 4] = ["sub", "dom", "obj", "act"];

/// Checks that every Casbin implementation decides the matcher of a model the same way, and that it compiles. Returns
/// the functions that are given a field of the rule as a pattern, each with the position of the field.
pub(super) fn check(model: &Model) -> Result<Vec<(String, usize)>, Problem> {
    let condition = parse(&model.matcher)?;
    let mut checker = Checker {
        model,
        patterns: Vec::new(),
        sees_question: false,
        sees_rule: false,
    };
    checker.check(&condition)?;
    for (is_seen, message) in [
        (
            checker.sees_question,
            "the matcher does not look at the question: it has no `r.…`",
        ),
        (
            checker.sees_rule,
            "the matcher does not look at the rule: it has no `p.…`",
        ),
    ] {
        if !is_seen {
            return Err(Problem::new(0, message));
        }
    }
    oracle::compile(model).map_err(|_| Problem::new(0, "the matcher does not compile"))?;
    Ok(checker.patterns)
}

struct Checker<'a> {
    model: &'a Model,
    patterns: Vec<(String, usize)>,
    sees_question: bool,
    sees_rule: bool,
}

impl Checker<'_> {
    fn check(&mut self, condition: &Condition<'_>) -> Result<(), Problem> {
        match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().try_for_each(|part| self.check(part))
            }
            Condition::Not(inner) => self.check(inner),
            Condition::Compares(left, right) => {
                self.operand(left)?;
                self.operand(right)
            }
            Condition::OneOf(operand, texts) => {
                self.operand(operand)?;
                texts.iter().try_for_each(|text| self.operand(text))
            }
            Condition::Call {
                name,
                offset,
                arguments,
            } => self.call(name, *offset, arguments),
        }
    }

    fn operand(&mut self, operand: &Operand<'_>) -> Result<(), Problem> {
        match *operand {
            Operand::Text { text, offset } => check_text(text, offset),
            Operand::Field { owner: 'r', name, .. } if REQUEST.contains(&name) => {
                self.sees_question = true;
                Ok(())
            }
            Operand::Field { owner: 'p', name, .. } if self.model.position(name).is_some() => {
                self.sees_rule = true;
                Ok(())
            }
            Operand::Field { offset, .. } => Err(Problem::new(
                offset,
                "the matcher has a name that is a field neither of a request nor of a rule",
            )),
        }
    }

    fn call(&mut self, name: &str, offset: usize, arguments: &[Operand<'_>]) -> Result<(), Problem> {
        if name == "eval" {
            return Err(Problem {
                code: code::MODEL_EVAL,
                message: "the matcher uses `eval`, which runs text from rules without any limit".to_owned(),
                help: "write the condition into the matcher",
                offset,
            });
        }
        let is_pattern = pattern::FUNCTIONS.contains(&name);
        if name != "g" && !is_pattern {
            let known = pattern::FUNCTIONS.join("`, `");
            return Err(Problem::new(
                offset,
                format!("the matcher calls a function that is not supported; known are `g`, `{known}`"),
            ));
        }
        let expected = if name == "g" { self.model.role_fields } else { 2 };
        if arguments.len() != expected {
            let found = arguments.len();
            let message = format!("`{name}` takes {expected} arguments here, not {found}");
            return Err(Problem::new(offset, message));
        }
        if name != "g" {
            return self.pattern(name, offset, arguments);
        }
        arguments.iter().try_for_each(|argument| self.operand(argument))?;
        check_roles(arguments, offset)
    }

    /// A field of the question, and a pattern. If the pattern is a field of the rule, each rule has its own.
    fn pattern(&mut self, name: &str, offset: usize, arguments: &[Operand<'_>]) -> Result<(), Problem> {
        let [field @ Operand::Field { owner: 'r', .. }, pattern] = arguments else {
            let message = format!("the first argument of `{name}` must be a field of the question");
            return Err(Problem::new(offset, message));
        };
        self.operand(field)?;
        match *pattern {
            Operand::Text { text, offset } => {
                refuse_replaced(text, offset)?;
                pattern::check(name, text).map_err(|refused| Problem {
                    help: refused.help,
                    ..Problem::new(
                        offset,
                        format!("the pattern for `{name}` is not supported: {refused}"),
                    )
                })
            }
            Operand::Field {
                owner: 'p',
                name: field,
                ..
            } => {
                self.operand(pattern)?;
                if let Some(position) = self.model.position(field) {
                    self.patterns.push((name.to_owned(), position));
                }
                Ok(())
            }
            Operand::Field { offset, .. } => Err(Problem::new(
                offset,
                format!("the pattern for `{name}` must be a field of the rule, or a text"),
            )),
        }
    }
}

/// `g(r.sub, p.sub)` or `g(r.sub, "role:x")`, with `r.dom` if roles have a realm. Asserted roles count for the subject
/// of the question.
fn check_roles(arguments: &[Operand<'_>], offset: usize) -> Result<(), Problem> {
    let is_field = |operand: &Operand<'_>, (owner, field): (char, &str)| matches!(operand, Operand::Field { owner: found, name, .. } if *found == owner && *name == field);
    let is_role = |operand| is_field(operand, ('p', "sub")) || matches!(operand, Operand::Text { .. });
    let is_right = match arguments {
        [subject, role] => is_field(subject, ('r', "sub")) && is_role(role),
        [subject, role, realm] => {
            is_field(subject, ('r', "sub")) && is_role(role) && is_field(realm, ('r', "dom"))
        }
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    Err(Problem::new(
        offset,
        "`g` asks whether `r.sub` has the role `p.sub`, or one in quotes, in `r.dom` if roles have a realm",
    ))
}

/// Refuses a pattern in which some Casbin implementation would take `r.` or `p.` for a field.
fn refuse_replaced(text: &str, offset: usize) -> Result<(), Problem> {
    let mut before = text.split('.').rev().skip(1);
    if !before.any(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric())) {
        return Ok(());
    }
    let message =
        "the matcher has a pattern with a `.` behind a letter or digit, which casbin may take for a field";
    Err(Problem {
        help: "write a class, such as `[a-z0-9]`, or put the pattern into the rules",
        ..Problem::new(offset, message)
    })
}

/// Refuses a text that some Casbin implementation would change: they replace `&&`, `!`, `r.` and others everywhere.
fn check_text(text: &str, offset: usize) -> Result<(), Problem> {
    let is_harmless = |c: char| pattern::is_plain(c) || matches!(c, '/' | ':' | '*');
    if !text.is_empty() && text.chars().all(is_harmless) {
        return Ok(());
    }
    let mut problem = Problem::new(
        offset,
        "the matcher has a text that casbin may read otherwise than it looks",
    );
    problem.help = "a text has `A-Za-z0-9_~@=/:*-`, and at least one of them";
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matcher: &str) -> Result<(), &'static str> {
        let model = Model {
            matcher: matcher.to_owned(),
            ..Model::ours()
        };
        super::check(&model).map(|_| ()).map_err(|problem| problem.code)
    }

    #[test]
    fn only_what_every_casbin_decides_alike_is_accepted() {
        for good in [
            "g(r.sub, p.sub, r.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)",
            "r.sub == p.sub && (r.act in [\"read\", \"write\"]) || !(r.dom == \"x\") && p.act != r.act",
            "g(r.sub, p.sub, r.dom) && !g(r.sub, \"role:out\", r.dom) && r.obj == p.obj",
            "  r.sub==p.sub&&!(keyMatch(r.obj,\"videos/*\")||r.act==p.act)",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("r.sub == p.sub && eval(p.sub)"), Err("P014"));
        assert_eq!(check("eval (p.sub) || r.sub == p.sub"), Err("P014"));
    }

    #[test]
    fn what_is_no_field_or_function_of_every_casbin_is_refused() {
        for bad in [
            "r.sub == p.sub; true",
            "r.sub == p.sub && { loop {} }",
            "if r.sub == p.sub { true } else { false }",
            "r.sub == p.sub && |x| true",
            "r.sub == p.sub && `${r.sub}` == \"x\"",
            "r.sub == p.sub && 'x' == 'x'",
            "r.sub == p.owner",
            "r.sub.len() == p.sub",
            "r.sub.Age > 18 && r.sub == p.sub",
            "r2.sub == p.sub && r.sub == p.sub",
            "r.sub == p2.sub && r.sub == p.sub",
            "g2(r.obj, p.obj) && r.sub == p.sub",
            "r.sub == p.sub && print(\"x\")",
            "r.sub == p.sub && globMatch(r.obj, p.obj)",
            "r.sub == p.sub && ipMatch(r.obj, p.obj)",
            "r.sub == p.sub && keyGet(r.obj, p.obj) == \"x\"",
            "r.sub == p.sub && keyGet2(r.obj, p.obj, \"id\") == \"x\"",
            "r.sub == p.sub && timeMatch(r.obj, p.obj)",
            "g(r.sub, p.sub)",
            "g(p.sub, r.sub, r.dom)",
            "g(r.sub, p.sub, p.dom)",
            "g(r.sub, r.obj, r.dom) && p.sub == r.sub",
            "g(r.sub, p.sub, r.dom) && keyMatch(r.obj)",
            "g(r.sub, p.sub, r.dom) && keyMatch(p.obj, r.obj)",
            "g(r.sub, p.sub, r.dom) && keyMatch(r.obj, r.dom)",
            "g(r.sub, p.sub, r.dom) == true",
            "g(r.sub, p.sub, r.dom) && true",
        ] {
            assert_eq!(check(bad), Err("P013"), "{bad}");
        }
    }

    #[test]
    fn operators_and_texts_that_are_read_differently_are_refused() {
        for bad in [
            "!r.sub == p.sub",
            "r.sub == p.sub == p.obj",
            "r.sub < p.sub",
            "r.sub + r.obj == p.sub",
            "r.sub == p.sub && 1 == 1",
            "r.sub == p.sub and r.obj == p.obj",
            "not (r.sub == p.sub)",
            "r.act in (\"read\", \"write\") && r.sub == p.sub",
            "r.act in [] && r.sub == p.sub",
            "r.act in [p.act] && r.sub == p.sub",
            "r.act in p.act && r.sub == p.sub",
            "\"x\" in [\"x\"] && r.sub == p.sub && r.act in \"read\"",
            "r.sub == p.sub && r.obj == \"p.x\"",
            "r.sub == p.sub && r.obj == \"a-r2.x\"",
            "r.sub == p.sub && r.obj == \"a && b\"",
            "r.sub == p.sub && r.obj == \"!a\"",
            "r.sub == p.sub && r.obj == \"\"",
            "r.sub == p.sub && r.obj == \"\\u0061\"",
            "r.sub == p.sub && r.obj == \"open",
            "r.sub == p.sub && \u{e9}",
            "r.sub == p.sub && regexMatch(r.act, \"(\")",
            "r.sub == p.sub && regexMatch(r.act, \"read\")",
            "r.sub == p.sub && keyMatch2(r.obj, \"*\")",
            "r.sub == p.sub && regexMatch(r.act, \"^r.ad$\")",
            "r.sub == \"^a\" && r.sub == p.sub && r.obj == \"{\"",
            "true",
            "r.sub",
            "r.sub == \"root\"",
            "p.sub == \"root\"",
            "r.sub == p.sub &&",
            "r.sub == p.sub & r.obj == p.obj",
            "(r.sub == p.sub",
            "r.sub == p.sub)",
            "()",
            "",
        ] {
            assert_eq!(check(bad), Err("P013"), "{bad}");
        }
    }

    #[test]
    fn the_patterns_that_rules_have_are_known() {
        let matcher = "g(r.sub, p.sub, r.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, \"^[a-z]+$\") \
                       && keyMatch(r.sub, p.act)";
        let model = Model {
            matcher: matcher.to_owned(),
            ..Model::ours()
        };
        let expected = [("keyMatch2", 2), ("keyMatch", 3)];
        let expected = expected.map(|(name, position)| (name.to_owned(), position));
        assert_eq!(super::check(&model).unwrap(), expected);
    }
}
