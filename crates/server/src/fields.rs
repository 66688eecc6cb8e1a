//! Reading the fields of a request: each into its type, all violations collected.

use std::fmt::Display;

use tessera_core::{NameError, secret, visible};

use crate::error::{ApiError, Violation};

/// Reads fields and records what is wrong with them.
#[derive(Default)]
pub(crate) struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// The value, if every field was right; otherwise one error that names each wrong field.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ => Err(ApiError::invalid_fields(self.violations)),
        }
    }

    /// Notes a violation.
    pub(crate) fn reject(&mut self, field: impl Into<String>, problem: impl Display) {
        self.violations.push(Violation::new(field, problem.to_string()));
    }

    /// A name that may be left out.
    pub(crate) fn optional<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        if text.is_empty() {
            None
        } else {
            self.required(field, text, parse)
        }
    }

    /// A name that must be present.
    pub(crate) fn required<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.reject(field, error);
                None
            }
        }
    }

    /// At most `max` names.
    pub(crate) fn list<T>(
        &mut self,
        field: &str,
        texts: &[impl AsRef<str>],
        max: usize,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Vec<T> {
        if texts.len() > max {
            self.reject(
                field,
                format!("has {} entries; at most {max} are allowed", texts.len()),
            );
            return Vec::new();
        }
        let numbered = texts.iter().enumerate();
        numbered
            .filter_map(|(index, text)| self.required(&format!("{field}[{index}]"), text.as_ref(), &parse))
            .collect()
    }

    /// An opaque value that must be present.
    pub(crate) fn given(&mut self, field: &str, text: String) -> Option<String> {
        if text.is_empty() {
            self.reject(field, "is empty");
            return None;
        }
        Some(text)
    }

    /// A token: opaque, but bounded.
    pub(crate) fn token(&mut self, field: &str, text: String) -> Option<String> {
        if text.is_empty() {
            self.reject(field, "is empty");
        } else if text.len() > tessera_core::limits::TOKEN_BYTES_MAX {
            self.reject(
                field,
                format!("is longer than {} bytes", tessera_core::limits::TOKEN_BYTES_MAX),
            );
        } else {
            return Some(text);
        }
        None
    }

    /// A remark for people: bounded, on one line. A secret in it is removed, and what can't be seen is written out: a
    /// revocation must not fail because of it.
    pub(crate) fn remark(&mut self, field: &str, text: &str) -> String {
        const MAX: usize = 256;
        if text.chars().any(char::is_control) {
            self.reject(field, "has a control character");
        }
        let text = visible(&secret::redact_known(text)).into_owned();
        if text.chars().count() > MAX {
            self.reject(field, format!("is longer than {MAX} characters"));
        }
        text
    }

    /// The size of a page: 0 for the default.
    pub(crate) fn page_size(&mut self, size: u32) -> usize {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > tessera_authority::LIST_SIZE_MAX {
            self.reject(
                "page_size",
                format!("is larger than {}", tessera_authority::LIST_SIZE_MAX),
            );
        }
        size
    }
}
