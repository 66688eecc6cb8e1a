//! A status being made: what it says is cut until it can be sent.
//!
//! Message and details travel in HTTP/2 trailers, which peers bound: gRPC for Python, C++ and Ruby refuses more
//! than 8 KiB of them now and then, and more than 16 KiB always, so that callers hear of a broken connection
//! instead of the error.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use http::HeaderMap;
use tessera_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::DOMAIN;

/// The most that message and details take together as they are sent: the one percent-encoded, the others in
/// Base64. Half a KiB less than 4 KiB, for the other trailers.
const WIRE_BYTES_MAX: usize = 3584;
/// Statuses with less in them fit however they are encoded: percent-encoding makes three bytes of one, and
/// details repeat the message.
const SURELY_FITS_BYTES: usize = 400;

/// What is left of the parts of a status, of which the first that fits is taken.
const SIZES: [Size; 5] = [
    Size::new(10, 1000),
    Size::new(8, 400),
    Size::new(5, 200),
    Size::new(3, 150),
    Size::new(1, 100),
];

/// A value of the metadata is cut only where it is longer than this: ids and cursors never are.
const VALUE_BYTES_MIN: usize = 200;

struct Size {
    /// How many parts are told.
    parts: usize,
    /// How long one may be.
    part_bytes: usize,
}

/// What a status says.
#[derive(Default)]
pub(super) struct Draft {
    /// Said first.
    pub(super) lead: String,
    /// Then these, as many as fit.
    pub(super) parts: Vec<Part>,
    pub(super) separator: &'static str,
    /// Said where parts are left out: where they all are.
    pub(super) rest: Option<String>,
    pub(super) metadata: Vec<(&'static str, String)>,
    pub(super) retry_after: Option<Duration>,
}

/// One of several things that a status says.
pub(super) enum Part {
    /// A line of text.
    Line(String),
    /// A field that is wrong, and how. The details name it, too.
    Violation(String, String),
    /// A scope that was denied, and why. The metadata `denied` has it, too.
    Denied(String, String),
}

impl Size {
    const fn new(parts: usize, part_bytes: usize) -> Self {
        Self { parts, part_bytes }
    }
}

impl Draft {
    /// Says no more than this.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            lead: message.into(),
            separator: "; ",
            ..Self::default()
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

    /// The status, with as much of the parts as can be sent.
    pub(super) fn status(self, code: Code, reason: ErrorReason) -> Status {
        let sizes = SIZES.iter();
        let mut statuses = sizes.map(|size| self.at(code, reason, size));
        // The smallest fits, whatever it is made of.
        let fitting = statuses.find(fits);
        fitting.unwrap_or_else(|| Draft::new("").at(code, reason, &Size::new(0, 0)))
    }

    fn at(&self, code: Code, reason: ErrorReason, size: &Size) -> Status {
        let told: Vec<Part> = self
            .parts
            .iter()
            .take(size.parts)
            .map(|part| part.cut(size))
            .collect();
        let mut details = ErrorDetails::with_error_info(name(reason), DOMAIN, self.values(&told, size));
        let violations: Vec<_> = told
            .iter()
            .filter_map(|part| match part {
                Part::Violation(field, problem) => {
                    Some(FieldViolation::new(field.as_str(), problem.as_str()))
                }
                Part::Line(_) | Part::Denied(..) => None,
            })
            .collect();
        if !violations.is_empty() {
            details.set_bad_request(violations);
        }
        if let Some(time) = self.retry_after {
            details.set_retry_info(Some(time));
        }
        Status::with_error_details(code, self.message(&told, size), details)
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

    /// The metadata, with the denied scopes that are told as JSON, and how many there are.
    fn values(&self, told: &[Part], size: &Size) -> HashMap<String, String> {
        let longest = size.part_bytes.max(VALUE_BYTES_MIN);
        let values = self.metadata.iter();
        let mut values: HashMap<_, _> = values
            .map(|(key, value)| ((*key).to_owned(), cut(value, longest).into_owned()))
            .collect();
        let denied: serde_json::Map<_, _> = told
            .iter()
            .filter_map(|part| match part {
                Part::Denied(scope, why) => Some((scope.clone(), why.as_str().into())),
                Part::Line(_) | Part::Violation(..) => None,
            })
            .collect();
        if !denied.is_empty() {
            values.insert("denied_count".to_owned(), self.parts.len().to_string());
            values.insert("denied".to_owned(), serde_json::Value::Object(denied).to_string());
        }
        values
    }
}

impl Part {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Line(line) => line.into(),
            Self::Violation(name, text) | Self::Denied(name, text) => format!("{name}: {text}").into(),
        }
    }

    fn cut(&self, size: &Size) -> Self {
        let cut = |text: &str| cut(text, size.part_bytes).into_owned();
        match self {
            Self::Line(line) => Self::Line(cut(line)),
            Self::Violation(field, problem) => Self::Violation(cut(field), cut(problem)),
            // A scope is short, and is looked for by its name.
            Self::Denied(scope, why) => Self::Denied(scope.clone(), cut(why)),
        }
    }
}

fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The start of a text that is too long.
fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}…", text.get(..end).unwrap_or_default()).into()
}

fn fits(status: &Status) -> bool {
    status.message().len() + status.details().len() <= SURELY_FITS_BYTES
        || wire_bytes(status) <= WIRE_BYTES_MAX
}

/// What message and details take as they are sent.
pub(super) fn wire_bytes(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    if status.add_header(&mut headers).is_err() {
        return usize::MAX;
    }
    let sent = |name| headers.get(name).map_or(0, http::HeaderValue::len);
    sent(super::trailers::MESSAGE) + sent(super::trailers::DETAILS)
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
                |name, text| Part::Violation(name.to_owned(), text.to_owned()),
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

    #[test]
    fn every_status_can_be_sent_and_keeps_its_reason() {
        for draft in drafts() {
            let count = draft.parts.len();
            let status = draft.status(Code::PermissionDenied, ErrorReason::ScopeDenied);
            assert!(wire_bytes(&status) < KIB_4, "{}", wire_bytes(&status));
            let info = status.get_details_error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                ("SCOPE_DENIED", DOMAIN)
            );
            assert!(!status.message().is_empty());
            if let Some(denied) = info.metadata.get("denied") {
                let denied: serde_json::Value = serde_json::from_str(denied).unwrap();
                assert!(denied.is_object());
                assert_eq!(info.metadata["denied_count"], count.to_string());
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
        let status = draft.status(Code::PermissionDenied, ErrorReason::ScopeDenied);
        let message = status.message();
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
        let status = draft.status(Code::NotFound, ErrorReason::NotFound);
        assert_eq!(status.message(), "no such session");
        let cursor = &status.get_details_error_info().unwrap().metadata["cursor"];
        assert_eq!(cursor.len(), 150);
    }
}
