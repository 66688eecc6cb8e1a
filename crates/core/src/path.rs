//! Paths of requests, as the client called them, and patterns that they match.
//!
//! A proxy or a hook decides by the path, and the service behind it reads the path again. So a path that two readers
//! may read differently is refused, and never guessed: see [`PathError`].

use std::{collections::BTreeSet, fmt, sync::Arc};

use percent_encoding::percent_decode_str;

use crate::name::NameError;

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 8 * 1024;
/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// The path that a request calls: its segments with percent-encoding removed. One `/` at the end is ignored, as
/// many services ignore it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalledPath(Vec<String>);

/// Why the path of a request is not unambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is not the path of a resource, such as `*` or a whole URL.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// It has more than 8 KiB.
    #[error("the path is too long")]
    TooLong,
    /// `//`: some services treat it as `/`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, encoded or not: some services leave the directory, and some do not.
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// `/` or `\`, encoded, or an unencoded `\`: some services divide segments there.
    #[error("the path has a slash that is encoded, or a backslash")]
    Slash,
    /// `;`: some services drop the text after it.
    #[error("the path has a `;`")]
    Semicolon,
    /// `#`: the text after it is not part of a request.
    #[error("the path has a `#`")]
    Fragment,
    /// `%` without two hexadecimal digits, an encoding in an encoding, or bytes that are not UTF-8.
    #[error("the path is encoded wrongly, or twice")]
    Encoding,
    /// An unencoded control character, space or non-ASCII character; or an encoded control character.
    #[error("the path has a character that may not be there")]
    Character,
}

impl CalledPath {
    /// Reads the path of a request target, such as `/videos/v1?t=3`, without its query.
    ///
    /// # Errors
    /// Fails if services may read it differently.
    pub fn parse(target: &str) -> Result<Self, PathError> {
        let path = target.split('?').next().unwrap_or_default();
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let rest = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if rest.contains('#') {
            return Err(PathError::Fragment);
        }
        let rest = match rest.strip_suffix('/') {
            // `//` is an empty segment.
            Some("") => return Err(PathError::EmptySegment),
            Some(rest) => rest,
            None if rest.is_empty() => return Ok(Self(Vec::new())),
            None => rest,
        };
        rest.split('/').map(segment).collect::<Result<_, _>>().map(Self)
    }
}

fn segment(raw: &str) -> Result<String, PathError> {
    if raw.is_empty() {
        return Err(PathError::EmptySegment);
    }
    if raw.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(PathError::Character);
    }
    if !is_encoded(raw) {
        return Err(PathError::Encoding);
    }
    let text = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| PathError::Encoding)?;
    if matches!(text.as_ref(), "." | "..") {
        Err(PathError::DotSegment)
    } else if text.contains(['/', '\\']) {
        Err(PathError::Slash)
    } else if text.contains(';') {
        Err(PathError::Semicolon)
    } else if text.chars().any(char::is_control) {
        Err(PathError::Character)
    } else if has_encoding(&text) {
        // A service that decodes again would read something else.
        Err(PathError::Encoding)
    } else {
        Ok(text.into_owned())
    }
}

/// For each `%`, whether two hexadecimal digits follow it.
fn percents(text: &str) -> impl Iterator<Item = bool> {
    text.split('%').skip(1).map(|rest| {
        let mut digits = rest.bytes().take(2);
        matches!((digits.next(), digits.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

fn is_encoded(text: &str) -> bool {
    percents(text).all(|is_encoding| is_encoding)
}

fn has_encoding(text: &str) -> bool {
    percents(text).any(|is_encoding| is_encoding)
}

/// A pattern of paths, such as `/videos`, `/videos/{id}/play` or `/files/*`.
///
/// `{id}` is any one whole segment. `/*` at the end is everything beneath, and the path before it. Matching is
/// case-sensitive.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Arc<str>,
    parts: Vec<Part>,
    /// Whether it ends with `/*`.
    has_more: bool,
}

/// A segment of a pattern or of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Parameter(String),
}

impl Part {
    /// Reads a segment: `{id}` is a parameter; braces elsewhere are left to the reader of literals.
    pub(crate) fn read(text: &str) -> Self {
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let is_name =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match name.filter(is_name) {
            Some(name) => Self::Parameter(name.to_owned()),
            None => Self::Literal(text.to_owned()),
        }
    }
}

/// The values of a pattern's parameters in one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathParameters<'a>(Vec<(&'a str, &'a str)>);

impl PathParameters<'_> {
    /// The segment that a parameter matches.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Fails if no path would match, or another one than the text suggests: a missing `/` at the beginning, one at the
    /// end, an empty segment, `.` or `..`, a `*` or a brace elsewhere, a parameter that occurs twice, and characters
    /// that are refused in paths.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let shape = |expected| Err(NameError::shape("path", expected));
        let Some(rest) = text.strip_prefix('/').filter(|_| text.len() <= PATTERN_BYTES_MAX) else {
            return shape("at most 1024 bytes that begin with `/`");
        };
        let mut segments: Vec<&str> = rest.split('/').collect();
        let has_more = segments.last() == Some(&"*");
        if has_more || rest.is_empty() {
            segments.pop();
        }
        let parts: Vec<Part> = segments.into_iter().map(Part::read).collect();
        let mut names = BTreeSet::new();
        for part in &parts {
            match part {
                Part::Parameter(name) if !names.insert(name.as_str()) => {
                    return shape("a pattern whose parameters have different names");
                }
                Part::Parameter(_) => {}
                Part::Literal(literal) if literal.is_empty() => {
                    return shape("made of segments that are not empty, without `/` at the end");
                }
                Part::Literal(literal) if !is_literal(literal) => {
                    return shape(
                        "made of plain segments, segments such as `{id}`, and perhaps `/*` at the end; without \
                         `.` and `..` as segments, `%`, `?`, `#`, `;` and `\\`",
                    );
                }
                Part::Literal(_) => {}
            }
        }
        Ok(Self {
            text: Arc::from(text),
            parts,
            has_more,
        })
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has a parameter of this name.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Parameter(known) if known == name))
    }

    /// The values of the parameters in this path, if it matches.
    #[must_use]
    pub fn parameters<'a>(&'a self, path: &'a CalledPath) -> Option<PathParameters<'a>> {
        if path.0.len() < self.parts.len() || (!self.has_more && path.0.len() > self.parts.len()) {
            return None;
        }
        let mut found = PathParameters::default();
        for (part, segment) in self.parts.iter().zip(&path.0) {
            match part {
                Part::Literal(literal) if literal == segment => {}
                Part::Literal(_) => return None,
                Part::Parameter(name) => found.0.push((name, segment)),
            }
        }
        Some(found)
    }

    /// Its segments that are not parameters.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Parameter(_) => None,
        })
    }

    /// The minimum number of its segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.parts.len()
    }

    /// Whether it ends with `/*`.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The paths that both match, if there are any; with the names of this pattern's parameters.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (short, long) = if self.parts.len() <= other.parts.len() {
            (self, other)
        } else {
            (other, self)
        };
        if short.parts.len() < long.parts.len() && !short.has_more {
            return None;
        }
        let mut names = BTreeSet::new();
        let mut parts = Vec::with_capacity(long.parts.len());
        for position in 0..long.parts.len() {
            let part = match (self.parts.get(position), other.parts.get(position)) {
                (Some(Part::Literal(one)), Some(Part::Literal(other))) if one != other => return None,
                (Some(literal @ Part::Literal(_)), _) | (_, Some(literal @ Part::Literal(_))) => {
                    literal.clone()
                }
                (Some(Part::Parameter(name)), _) | (None, Some(Part::Parameter(name))) => {
                    let mut name = name.clone();
                    while !names.insert(name.clone()) {
                        name.push('_');
                    }
                    Part::Parameter(name)
                }
                (None, None) => break,
            };
            parts.push(part);
        }
        Some(Self::of(parts, self.has_more && other.has_more))
    }

    /// A path that the pattern matches, with a value for the parameter at each position, and `more` segments if it ends
    /// with `/*`.
    #[must_use]
    pub fn example(&self, value: impl Fn(usize) -> String, more: usize) -> CalledPath {
        let more = if self.has_more { more } else { 0 };
        let own = self.parts.iter().enumerate().map(|(position, part)| match part {
            Part::Literal(text) => text.clone(),
            Part::Parameter(_) => value(position),
        });
        let rest = (self.parts.len()..self.parts.len() + more).map(&value);
        CalledPath(own.chain(rest).collect())
    }

    fn of(parts: Vec<Part>, has_more: bool) -> Self {
        let mut text: String = parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => format!("/{literal}"),
                Part::Parameter(name) => format!("/{{{name}}}"),
            })
            .collect();
        if has_more {
            text.push_str("/*");
        } else if text.is_empty() {
            text.push('/');
        }
        Self {
            text: Arc::from(text),
            parts,
            has_more,
        }
    }

    /// Whether every path that `other` matches is matched by this pattern, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is_long_enough = if self.has_more {
            other.parts.len() >= self.parts.len()
        } else {
            other.parts.len() == self.parts.len() && !other.has_more
        };
        is_long_enough
            && self
                .parts
                .iter()
                .zip(&other.parts)
                .all(|(part, other)| matches!(part, Part::Parameter(_)) || part == other)
    }
}

fn is_literal(text: &str) -> bool {
    let is_refused = |c: char| c.is_control() || "{}*%?#;\\".contains(c);
    !text.is_empty() && !matches!(text, "." | "..") && !text.contains(is_refused)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    fn is_matched(by: &str, path: &str) -> bool {
        pattern(by)
            .parameters(&CalledPath::parse(path).unwrap())
            .is_some()
    }

    #[test]
    fn a_path_is_matched_whatever_its_spelling() {
        for path in [
            "/videos/v1",
            "/videos/v1/",
            "/videos/v1?a=/../b",
            "/%76ideos/v%31",
        ] {
            let path = CalledPath::parse(path).unwrap();
            let pattern = pattern("/videos/{id}");
            assert_eq!(pattern.parameters(&path).unwrap().get("id"), Some("v1"));
        }
        for (by, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/files/*", "/files", true),
            ("/files/*", "/files/", true),
            ("/files/*", "/files/a/b", true),
            ("/files/*", "/filesystem", false),
            ("/videos/{id}/play", "/videos/v1/play", true),
            ("/videos/{id}/play", "/videos/v1", false),
            ("/videos/{id}", "/videos", false),
            ("/videos/{id}", "/Videos/v1", false),
            ("/für/{id}", "/f%C3%BCr/a%20b", true),
        ] {
            assert_eq!(is_matched(by, path), expected, "{by} {path}");
        }
    }

    #[test]
    fn what_services_may_read_differently_is_refused() {
        use PathError::*;
        for (path, expected) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("videos", NotAbsolute),
            ("http://host/videos", NotAbsolute),
            ("//", EmptySegment),
            ("//videos", EmptySegment),
            ("/videos//v1", EmptySegment),
            ("/videos//", EmptySegment),
            ("/videos/.", DotSegment),
            ("/videos/../admin", DotSegment),
            ("/videos/%2e%2E/admin", DotSegment),
            ("/videos/.%2e/", DotSegment),
            ("/videos%2fv1", Slash),
            ("/videos%5Cv1", Slash),
            ("/videos\\v1", Slash),
            ("/videos;a=b/v1", Semicolon),
            ("/videos/..;/admin", Semicolon),
            ("/videos/%3b", Semicolon),
            ("/videos#a", Fragment),
            ("/videos/%", Encoding),
            ("/videos/%2", Encoding),
            ("/videos/%zz", Encoding),
            ("/videos/%252e%252e", Encoding),
            ("/videos/%ff", Encoding),
            ("/videos/%00", Character),
            ("/videos/%0a", Character),
            ("/videos/a b", Character),
            ("/vidéos", Character),
        ] {
            assert_eq!(CalledPath::parse(path), Err(expected), "{path}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(CalledPath::parse(&long), Err(TooLong));
        assert!(CalledPath::parse("/100%25/a:b@c/~x/..a/a..").is_ok());
    }

    #[test]
    fn what_would_match_nothing_or_something_else_is_no_pattern() {
        for text in [
            "", "videos", "/videos/", "//", "/a//b", "/*/", "/a*", "/*/a", "/a/{id", "/{}", "/{a}b",
            "/{a}/{a}", "/.", "/a/..", "/a%20b", "/a?b", "/a#b", "/a;b", "/a\\b", "/{a-b}",
        ] {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_another() {
        for (wide, narrow, expected) in [
            ("/*", "/videos/{id}", true),
            ("/videos/*", "/videos", true),
            ("/videos/*", "/videos/{id}/*", true),
            ("/videos/{id}", "/videos/intro", true),
            ("/videos/{id}", "/videos/{name}", true),
            ("/videos/intro", "/videos/{id}", false),
            ("/videos/{id}", "/videos/*", false),
            ("/videos/{id}", "/videos", false),
            ("/videos/{id}/*", "/videos/*", false),
        ] {
            assert_eq!(
                pattern(wide).covers(&pattern(narrow)),
                expected,
                "{wide} {narrow}"
            );
        }
    }

    #[test]
    fn two_patterns_have_an_intersection() {
        for (one, other, expected) in [
            ("/videos/*", "/videos/{id}", Some("/videos/{id}")),
            ("/videos/{id}", "/videos/intro", Some("/videos/intro")),
            ("/{kind}/intro", "/videos/{id}", Some("/videos/intro")),
            ("/videos/{id}", "/videos/{name}", Some("/videos/{id}")),
            ("/{a}/*", "/{b}/{a}", Some("/{a}/{a_}")),
            ("/*", "/*", Some("/*")),
            ("/*", "/", Some("/")),
            ("/videos/*", "/videos", Some("/videos")),
            ("/videos", "/films", None),
            ("/videos", "/videos/{id}", None),
            ("/videos/{id}/*", "/videos", None),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let found = pattern(one).intersection(&pattern(other));
                let is_same = match (&found, expected.map(pattern)) {
                    (Some(found), Some(expected)) => found.covers(&expected) && expected.covers(found),
                    (found, expected) => found.is_none() && expected.is_none(),
                };
                assert!(is_same, "{one} {other}: {found:?}");
            }
            let found = pattern(one).intersection(&pattern(other));
            assert_eq!(found.as_ref().map(PathPattern::as_str), expected, "{one} {other}");
        }
    }

    #[test]
    fn an_example_is_matched_by_its_pattern() {
        for (text, more) in [
            ("/", 0),
            ("/*", 0),
            ("/*", 3),
            ("/videos/{id}/play", 2),
            ("/{a}/{b}/*", 1),
        ] {
            let pattern = pattern(text);
            let path = pattern.example(|position| format!("v{position}"), more);
            assert!(pattern.parameters(&path).is_some(), "{text} {more}");
        }
    }
}
