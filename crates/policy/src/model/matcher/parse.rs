//! Parsing the text of a matcher into its conditions.

use super::problem::Problem;

/// How deep conditions may nest: the compilers recurse into them.
const NESTING_MAX: usize = 32;
/// How many conditions a matcher may have.
const CONDITIONS_MAX: usize = 64;

/// An expression that is true or false.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// Joined by `&&`.
    All(Vec<Condition<'a>>),
    /// Joined by `||`.
    Any(Vec<Condition<'a>>),
    /// `!` before parentheses or a call.
    Not(Box<Condition<'a>>),
    /// `==` or `!=`.
    Compares(Operand<'a>, Operand<'a>),
    /// `in` a list of texts.
    OneOf(Operand<'a>, Vec<Operand<'a>>),
    Call {
        name: &'a str,
        offset: usize,
        arguments: Vec<Operand<'a>>,
    },
}

/// A text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    /// `r.name` or `p.name`.
    Field {
        owner: char,
        name: &'a str,
        offset: usize,
    },
    /// Between quotes.
    Text { text: &'a str, offset: usize },
}

/// Parses a whole matcher.
pub(super) fn parse(matcher: &str) -> Result<Condition<'_>, Problem> {
    let mut parser = Parser {
        matcher,
        at: 0,
        depth: 0,
        conditions: 0,
    };
    let condition = parser.any()?;
    if parser.rest().is_empty() {
        Ok(condition)
    } else {
        Err(parser.unexpected())
    }
}

struct Parser<'a> {
    matcher: &'a str,
    /// The position up to which it is parsed, in bytes; never within spaces.
    at: usize,
    depth: usize,
    conditions: usize,
}

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = self.matcher.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start_matches(' ');
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len();
        }
        is_next
    }

    fn unexpected(&self) -> Problem {
        Problem::new(self.at, "the matcher has something that is not supported here")
    }

    fn any(&mut self) -> Result<Condition<'a>, Problem> {
        self.joined("||", Self::all, Condition::Any)
    }

    fn all(&mut self) -> Result<Condition<'a>, Problem> {
        self.joined("&&", Self::one, Condition::All)
    }

    fn joined(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Result<Condition<'a>, Problem>,
        join: fn(Vec<Condition<'a>>) -> Condition<'a>,
    ) -> Result<Condition<'a>, Problem> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.take(sign) {
            parts.push(part(self)?);
        }
        Ok(if parts.len() > 1 {
            join(parts)
        } else {
            parts.pop().ok_or_else(|| self.unexpected())?
        })
    }

    fn one(&mut self) -> Result<Condition<'a>, Problem> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            let message = format!("the matcher has more than {CONDITIONS_MAX} conditions");
            return Err(Problem::new(self.at, message));
        }
        if self.take("!") {
            // Before a comparison, `!` would belong to its left side in one language, and to all of it in another.
            return match self.rest().chars().next() {
                Some('(') => self.parentheses().map(|inner| Condition::Not(Box::new(inner))),
                _ if self.is_call() => self.call().map(|inner| Condition::Not(Box::new(inner))),
                _ => Err(Problem::new(
                    self.at,
                    "`!` may only be before parentheses or a function",
                )),
            };
        }
        if self.rest().starts_with('(') {
            return self.parentheses();
        }
        if self.is_call() {
            self.call()
        } else {
            self.comparison()
        }
    }

    fn is_call(&mut self) -> bool {
        let rest = self.rest();
        let name = word(rest);
        let behind = rest.get(name.len()..).unwrap_or_default();
        !name.is_empty() && behind.trim_start_matches(' ').starts_with('(')
    }

    fn parentheses(&mut self) -> Result<Condition<'a>, Problem> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Problem::new(self.at, "the matcher nests too much"));
        }
        self.expect("(")?;
        let inner = self.any()?;
        self.expect(")")?;
        self.depth -= 1;
        Ok(inner)
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        if self.take(sign) {
            return Ok(());
        }
        let message = format!("the matcher has no `{sign}` where one belongs");
        Err(Problem::new(self.at, message))
    }

    fn call(&mut self) -> Result<Condition<'a>, Problem> {
        let name = word(self.rest());
        let offset = self.at;
        if name.is_empty() {
            return Err(self.unexpected());
        }
        self.at += name.len();
        self.expect("(")?;
        Ok(Condition::Call {
            name,
            offset,
            arguments: self.operands(")")?,
        })
    }

    fn comparison(&mut self) -> Result<Condition<'a>, Problem> {
        let left = self.operand()?;
        if self.take("==") || self.take("!=") {
            return Ok(Condition::Compares(left, self.operand()?));
        }
        if word(self.rest()) == "in" {
            self.at += "in".len();
            self.expect("[")?;
            let start = self.at;
            let texts = self.operands("]")?;
            if texts.iter().all(|text| matches!(text, Operand::Text { .. })) {
                return Ok(Condition::OneOf(left, texts));
            }
            return Err(Problem::new(start, "a list has texts in quotes"));
        }
        Err(self.unexpected())
    }

    /// At least one, up to the closing sign.
    fn operands(&mut self, close: &str) -> Result<Vec<Operand<'a>>, Problem> {
        let mut operands = vec![self.operand()?];
        while self.take(",") {
            operands.push(self.operand()?);
        }
        self.expect(close)?;
        Ok(operands)
    }

    fn operand(&mut self) -> Result<Operand<'a>, Problem> {
        let rest = self.rest();
        let offset = self.at;
        if let Some(quoted) = rest.strip_prefix('"') {
            let length = quoted
                .find('"')
                .ok_or_else(|| Problem::new(offset, "a quote is not closed"))?;
            self.at += length + 2;
            let text = quoted.get(..length).unwrap_or_default();
            return Ok(Operand::Text { text, offset });
        }
        for owner in ['r', 'p'] {
            let name = rest
                .strip_prefix(owner)
                .and_then(|rest| rest.strip_prefix('.'))
                .map(word);
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                self.at += 2 + name.len();
                let is_longer = self
                    .matcher
                    .get(self.at..)
                    .is_some_and(|rest| rest.starts_with('.'));
                return if is_longer {
                    Err(self.unexpected())
                } else {
                    Ok(Operand::Field { owner, name, offset })
                };
            }
        }
        Err(self.unexpected())
    }
}

/// The name at the beginning of a text.
fn word(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_start = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text.get(..end).filter(|_| is_start).unwrap_or_default()
}
