//! A rule, from the wire and as JSON.

use serde_json::{Value, json};
use tessera_policy::RuleAt;
use tessera_proto::v1;

/// A rule from the wire.
pub(super) fn rule_at(rule: v1::Rule) -> RuleAt {
    RuleAt {
        file: rule.file,
        line: rule.line,
        text: rule.text,
    }
}

pub(super) fn rule_json(rule: &RuleAt) -> Value {
    json!({ "file": rule.file, "line": rule.line, "text": rule.text })
}

pub(super) fn wire_rule_json(rule: &v1::Rule) -> Value {
    json!({ "file": rule.file, "line": rule.line, "text": rule.text })
}
