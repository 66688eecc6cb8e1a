//! An error under construction: its text is cut until it can be sent.
//!
//! Message and details of a gRPC status travel in HTTP/2 trailers, which peers bound: gRPC for Python, C++ and Ruby
//! refuses more than 8 KiB of them now and then, and more than 16 KiB always, so that callers see a broken connection
//! instead of the error. An error that fits these limits fits everywhere.

use std::{borrow::Cow, time::Duration};

use tessera_proto::v1::ErrorReason;
use tonic::Code;

use super::api_error::{ApiError, Violation};

/// The maximum size of message and details together as they are sent: the message percent-encoded, the details in
/// Base64. Half a KiB less than 4 KiB, for the other trailers.
const WIRE_BYTES_MAX: usize = 3584;
/// The sizes to which the parts of an error are cut; the first that fits is used.
const SIZES: [Size; 5] = [
    Size::new(10, 1000),
    Size::new(8, 400),
    Size::new(5, 200),
    Size::new(3, 150),
    Size::new(1, 100),
];

/// A metadata value is cut only if it is longer than this: ids and cursors never are.
const VALUE_BYTES_MIN: usize = 200;

struct Size {
    /// How many parts are included.
    parts: usize,
    /// The maximum length of a part.
    part_bytes: usize,
}

/// The content of an error.
#[derive(Default)]
pub(super) struct Draft {
    /// Comes first.
    pub(super) lead: String,
    /// Follow it, as many as fit.
    pub(super) parts: Vec<Part>,
    pub(super) separator: &'static str,
    /// Follows if parts are left out: says where all of them are.
    pub(super) rest: Option<String>,
    pub(super) metadata: Vec<(&'static str, String)>,
    pub(super) retry_after: Option<Duration>,
}

/// One of several parts of an error.
pub(super) enum Part {
    /// A line of text.
    Line(String),
    /// A field that is wrong, and how. The details name it, too.
    Violation(Violation),
    /// A scope that was denied, and why. The metadata `denied` has it, too.
    Denied(String, String),
}

impl Size {
    const fn new(parts: usize, part_bytes: usize) -> Self {
        Self { parts, part_bytes }
    }
}

impl Draft {
    /// An error with this message only.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            lead: message.into(),
            separator: "; ",
            ..Self::default()
        }
    }

    /// An error of invalid fields.
    pub(super) fn invalid(violations: Vec<Violation>) -> Self {
        Self {
            parts: violations.into_iter().map(Part::Violation).collect(),
            ..Self::new("")
        }
    }

    pub(super) fn metadata(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    pub(super) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The error, with as much of the parts as can be sent.
    pub(super) fn error(self, code: Code, reason: ErrorReason) -> ApiError {
        let sizes = SIZES.iter();
        let mut errors = sizes.map(|size| self.at(code, reason, size));
        // The smallest size fits, with any content.
        let fitting = errors.find(|error| error.wire_bytes() <= WIRE_BYTES_MAX);
        fitting.unwrap_or_else(|| Draft::new("").at(code, reason, &Size::new(0, 0)))
    }

    fn at(&self, code: Code, reason: ErrorReason, size: &Size) -> ApiError {
        let parts = self.parts.iter().take(size.parts);
        let told: Vec<Part> = parts.map(|part| part.cut(size)).collect();
        let violations = told.iter().filter_map(|part| match part {
            Part::Violation(violation) => Some(violation.clone()),
            Part::Line(_) | Part::Denied(..) => None,
        });
        ApiError {
            code,
            reason,
            message: self.message(&told, size),
            violations: violations.collect(),
            metadata: self.values(&told, size),
            retry_after: self.retry_after,
        }
    }

    fn message(&self, told: &[Part], size: &Size) -> String {
        let mut message = cut(&self.lead, size.part_bytes.max(VALUE_BYTES_MIN)).into_owned();
        let mut separator = if message.is_empty() { "" } else { ": " };
        for part in told {
            message += separator;
            message += &part.text();
            separator = self.separator;
        }
        let left_out = self.parts.len() - told.len();
        if left_out > 0 {
            message += &format!("{}and {left_out} more", self.separator);
            if let Some(rest) = &self.rest {
                message += &format!(": {rest}");
            }
        }
        message
    }

    /// The metadata, with the included denied scopes as JSON, and how many there are.
    fn values(&self, told: &[Part], size: &Size) -> Vec<(&'static str, String)> {
        let longest = size.part_bytes.max(VALUE_BYTES_MIN);
        let values = self.metadata.iter();
        let mut values: Vec<_> = values
            .map(|(key, value)| (*key, cut(value, longest).into_owned()))
            .collect();
        let denied: serde_json::Map<_, _> = told
            .iter()
            .filter_map(|part| match part {
                Part::Denied(scope, why) => Some((scope.clone(), why.as_str().into())),
                Part::Line(_) | Part::Violation(_) => None,
            })
            .collect();
        if !denied.is_empty() {
            values.push(("denied_count", self.parts.len().to_string()));
            values.push(("denied", serde_json::Value::Object(denied).to_string()));
        }
        values
    }
}

impl Part {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Line(line) => line.into(),
            Self::Violation(Violation { field, problem }) => format!("{field}: {problem}").into(),
            Self::Denied(scope, why) => format!("{scope}: {why}").into(),
        }
    }

    fn cut(&self, size: &Size) -> Self {
        let cut = |text: &str| cut(text, size.part_bytes).into_owned();
        match self {
            Self::Line(line) => Self::Line(cut(line)),
            Self::Violation(Violation { field, problem }) => {
                Self::Violation(Violation::new(cut(field), cut(problem)))
            }
            // A scope is short, and readers look it up by its name.
            Self::Denied(scope, why) => Self::Denied(scope.clone(), cut(why)),
        }
    }
}

/// The start of a text that is too long.
fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}…", text.get(..end).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB_4: usize = 4096;

    /// Drafts of many long parts of each kind, in letters that take one byte, two, three and four.
    fn drafts() -> impl Iterator<Item = Draft> {
        ["x", "ü", "語", "🙂", "\"", "%"].into_iter().flat_map(|letter| {
            let long = letter.repeat(2000 / letter.len());
            let short = letter.repeat(128 / letter.len());
            let kinds: [fn(&str, &str) -> Part; 3] = [
                |_, text| Part::Line(text.to_owned()),
                |name, text| Part::Violation(Violation::new(name, text)),
                |name, text| Part::Denied(name.to_owned(), text.to_owned()),
            ];
            kinds.into_iter().flat_map(move |kind| {
                let (long, short) = (long.clone(), short.clone());
                [1, 2, 5, 1000].into_iter().map(move |count| Draft {
                    lead: long.clone(),
                    parts: (0..count).map(|_| kind(&short, &long)).collect(),
                    separator: "\n",
                    rest: Some("ask".to_owned()),
                    metadata: vec![("required", long.clone()), ("nearest", short.clone())],
                    retry_after: Some(Duration::from_secs(1)),
                })
            })
        })
    }

    fn value<'a>(error: &'a ApiError, key: &str) -> Option<&'a str> {
        let mut values = error.metadata().iter();
        values
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_error_can_be_sent_and_keeps_its_reason() {
        for draft in drafts() {
            let count = draft.parts.len();
            let error = draft.error(Code::PermissionDenied, ErrorReason::ScopeDenied);
            assert!(error.wire_bytes() < KIB_4, "{}", error.wire_bytes());
            assert_eq!(error.reason_name(), "SCOPE_DENIED");
            assert!(!error.message().is_empty());
            if let Some(denied) = value(&error, "denied") {
                let denied: serde_json::Value = serde_json::from_str(denied).unwrap();
                assert!(denied.is_object());
                assert_eq!(value(&error, "denied_count").unwrap(), count.to_string());
            }
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let denied =
            (0..100).map(|number| Part::Denied(format!("videos/{number}:read"), "no rule".to_owned()));
        let draft = Draft {
            parts: denied.collect(),
            rest: Some("`tessera policy explain --decision 1` has all".to_owned()),
            ..Draft::new("policy grants none of the scopes")
        };
        let error = draft.error(Code::PermissionDenied, ErrorReason::ScopeDenied);
        let message = error.message();
        assert!(
            message.starts_with("policy grants none of the scopes: videos/0:read: no rule; "),
            "{message}"
        );
        assert!(
            message.contains("and 90 more: `tessera policy explain --decision 1`"),
            "{message}"
        );
    }

    #[test]
    fn what_is_short_is_said_whole() {
        let draft = Draft::new("no such session").metadata("cursor", "c".repeat(150));
        let error = draft.error(Code::NotFound, ErrorReason::NotFound);
        assert_eq!(error.message(), "no such session");
        assert_eq!(value(&error, "cursor").unwrap().len(), 150);
    }
}
