//! Failures of commands: exit code 1 if the request was refused, 2 if the command could not run.

use std::{collections::HashMap, error::Error, fmt::Display, process::ExitCode};

use serde_json::{Value, json};
use tessera_core::secret;
use tessera_daemon::{ConfigError, LaunchError};
use tessera_policy::Permission;
use tessera_server::code_name;
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};

use crate::{
    arguments::Connection,
    connect::{explained, meaning},
    draw::Refused,
    notice::notice,
    terminal::{Paint, visible},
};

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    wire_code: Option<Code>,
    /// Whether the transport failed, and not the authority.
    is_of_connection: bool,
    reason: String,
    message: String,
    hint: Option<&'static str>,
    /// The decision id of the policy's refusal, for an explanation.
    decision: Option<Box<str>>,
    /// The line of a policy that would give the missing permission.
    rule: Option<Box<str>>,
    /// The mistakes in the files of a policy.
    refused: Option<Box<Refused>>,
}

impl From<LaunchError> for Failure {
    /// Exit code 2, or 4 if a PIN was refused. A supervisor must not restart the command then: a token locks itself
    /// after a few wrong PINs.
    fn from(error: LaunchError) -> Self {
        let failure = Self::cannot_run(&error).because(error.reason());
        if error.is_of_pin() {
            failure.with_code(4)
        } else {
            failure
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::cannot_run(&error).because(error.reason())
    }
}

impl Failure {
    /// The command could not run: exit code 2.
    pub(crate) fn cannot_run(message: impl Display) -> Self {
        Self {
            code: 2,
            wire_code: None,
            is_of_connection: false,
            reason: String::new(),
            message: secret::redact_known(&message.to_string()).into_owned(),
            hint: None,
            decision: None,
            rule: None,
            refused: None,
        }
    }

    /// The same, with a hint.
    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// No authority was reached: exit code 2.
    pub(crate) fn no_connection(message: impl Display) -> Self {
        Self {
            is_of_connection: true,
            ..Self::cannot_run(message)
        }
    }

    /// The command could not run on a policy that is refused.
    pub(crate) fn policy(message: impl Display, refused: Refused) -> Self {
        Self {
            refused: Some(Box::new(refused)),
            ..Self::cannot_run(message).because("POLICY_REFUSED")
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The same failure with another exit code, for commands in which 2 has another meaning.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The command ran and was refused: exit code 1.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self {
            code: 1,
            ..Self::cannot_run(message)
        }
    }

    /// The same failure, with a reason that scripts can tell from others.
    pub(crate) fn because(mut self, reason: &'static str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// The same failure, after a description of earlier attempts.
    pub(crate) fn after(mut self, tried: &str) -> Self {
        self.message = format!("{}\n  {tried}", self.message);
        self
    }

    /// The same failure, with the cause of the failed connection, if there was none and the cause can be found.
    pub(crate) async fn diagnosed(mut self, connection: &Connection) -> Self {
        if self.is_of_connection
            && let Some(diagnosis) = connection.diagnosis(&self.message).await
        {
            self.message = diagnosis;
            self.wire_code = None;
            self.hint = None;
        }
        self
    }

    /// Reports the failure on stderr.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        if as_json {
            notice(&json!({ "error": self.to_json() }).to_string());
        } else {
            self.report_to_people();
        }
        ExitCode::from(self.code)
    }

    fn to_json(&self) -> Value {
        let of_command = if self.code == 1 { "REFUSED" } else { "CANNOT_RUN" };
        let code = self.wire_code.map_or(of_command, code_name);
        let mut error =
            json!({ "code": code, "reason": self.reason, "message": self.message, "hint": self.hint });
        if let Some(members) = error.as_object_mut() {
            let diagnostics = self
                .refused
                .iter()
                .map(|refused| ("diagnostics", refused.to_json()));
            let decision = self.decision.iter().map(|id| ("decision_id", json!(id)));
            let rule = self.rule.iter().map(|line| ("policy_line", json!(line)));
            let more = diagnostics.chain(decision).chain(rule);
            members.extend(more.map(|(name, value)| (name.to_owned(), value)));
        }
        error
    }

    fn report_to_people(&self) {
        if let Some(refused) = &self.refused {
            notice(&refused.draw(Paint::stderr()));
        }
        let what = match (self.wire_code, self.reason.as_str()) {
            (None, _) => String::new(),
            (Some(code), "") => format!("{}: ", code_name(code)),
            (Some(code), reason) => format!("{} / {reason}: ", code_name(code)),
        };
        // It may repeat the content of a file.
        let lines: Vec<_> = self.message.lines().map(visible).collect();
        notice(&format!("error: {what}{}", lines.join("\n")));
        if let Some(hint) = self.hint {
            notice(&format!("  help: {hint}"));
        }
        if let Some(rule) = &self.rule {
            let rule = visible(rule);
            notice(&format!(
                "  policy: `{rule}` gives it, unless another rule denies it"
            ));
        }
        if let Some(decision) = &self.decision {
            let decision = visible(decision);
            notice(&format!("  why: `tessera policy explain --decision {decision}`"));
        }
    }
}

const NOBODY: &str = "is the authority running there? --addr or TESSERA_ADDR say where";
const OTHER_SERVER: &str =
    "is another gRPC server, or an older Tessera, at this address? --addr or TESSERA_ADDR say where";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let mut info = info.unwrap_or_else(|| ErrorInfo::new("", "", HashMap::new()));
        let decision = info.metadata.remove("decision_id").map(String::into_boxed_str);
        let rule = missing_rule(&info.reason, &info.metadata).map(String::into_boxed_str);
        let required = info.metadata.get("required").map(String::as_str);
        let (hint, reason) = (hint(&info.reason, required), info.reason);
        // An answer without a reason comes from the transport, not from an authority.
        let is_no_grpc = reason.is_empty() && status.message().contains("mapped from HTTP status code");
        let could_not_run = is_no_grpc
            || reason.is_empty()
                && matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
                );
        let message = match status.source() {
            Some(source) if could_not_run => explained(source),
            _ if is_no_grpc => format!(
                "what answers at this address does not speak gRPC ({}): --addr is the address of `listen`, not of \
                 `admin_listen`",
                status.message()
            ),
            _ => status.message().to_owned(),
        };
        let hint = hint.or(match status.code() {
            _ if !reason.is_empty() || is_no_grpc || status.source().and_then(meaning).is_some() => None,
            Code::Unimplemented => Some(OTHER_SERVER),
            _ => could_not_run.then_some(NOBODY),
        });
        Self {
            code: if could_not_run || status.code() == Code::DeadlineExceeded {
                2
            } else {
                1
            },
            wire_code: Some(status.code()),
            is_of_connection: could_not_run,
            hint,
            reason,
            message,
            decision,
            rule,
            refused: None,
        }
    }
}

/// The line of a policy that gives the permission for the refused call. `None` if it is not a permission that is
/// missing, or if its name can't be written in a rule.
fn missing_rule(reason: &str, metadata: &HashMap<String, String>) -> Option<String> {
    if reason != "CALL_NOT_ALLOWED" {
        return None;
    }
    let value = |name: &str| metadata.get(name).map(String::as_str);
    let (required, client, realm) = (value("required")?, value("client")?, value("realm")?);
    Permission::parse(required)?;
    let (resource, action) = required.rsplit_once(':')?;
    let is_writable = !required.contains([',', '"', '#']);
    is_writable.then(|| format!("p, {client}, {realm}, {resource}, {action}, allow"))
}

/// The remedy.
fn hint(reason: &str, required: Option<&str>) -> Option<&'static str> {
    Some(match reason {
        "CALL_NOT_ALLOWED"
            if required.is_some_and(|required| required.ends_with("in a production realm")) =>
        {
            "this is about all realms: use an API key of a production realm, no policy of this one gives it"
        }
        "CALL_NOT_ALLOWED" if required == Some("an API key of that realm") => "use an API key of that realm",
        "CLIENT_AUTH_FAILED" => "set TESSERA_API_KEY to a key of this authority and realm, copied whole",
        "REFRESH_TOKEN_INVALID" | "SESSION_EXPIRED" | "SESSION_REVOKED" | "REFRESH_TOKEN_REUSED" => {
            "begin a new session with `tessera token issue`"
        }
        "SCOPE_DENIED" | "CALL_NOT_ALLOWED" => "policy decides this: change the policy files, or ask who may",
        "PLAN_STALE" => "plan again: `tessera policy plan`",
        "TOO_MANY_SESSIONS" => "`tessera policy plan` shows whom it touches; --max-sessions allows more",
        "POLICY_REFUSED" => "fix the files: `tessera policy check` shows where; the policy in force stays",
        "CURSOR_EXPIRED" | "CURSOR_INVALID" => "begin with `--from snapshot`",
        "BACKUP_RUNNING" => "`tessera_backup_running` on /metrics says when it is done",
        "RATE_LIMITED" | "OVERLOADED" | "NOT_FRESH_ENOUGH" => "try again in a moment",
        "DRAINING" => "the authority is stopping: try again in a moment, or at another node",
        "STORE_UNAVAILABLE" => "its disk or its database failed: see its log",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(required: &str) -> Option<String> {
        let metadata = [
            ("required", required),
            ("client", "client:shop"),
            ("realm", "production"),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
        missing_rule("CALL_NOT_ALLOWED", &metadata.into())
    }

    #[test]
    fn where_no_policy_helps_none_is_recommended() {
        let advice = |required| hint("CALL_NOT_ALLOWED", Some(required)).unwrap();
        assert!(advice("tessera/audit:read").contains("change the policy"));
        assert!(advice("tessera/backups:create in a production realm").contains("production realm"));
        assert!(advice("an API key of that realm").starts_with("use an API key"));
    }

    #[test]
    fn a_missing_permission_is_written_as_a_rule_that_can_be_read() {
        for (required, ends_with) in [
            ("tessera/api-keys:create", "tessera/api-keys, create, allow"),
            (
                "tessera/subjects/spiffe://a/b:issue",
                "tessera/subjects/spiffe://a/b, issue, allow",
            ),
            (
                "tessera/api-keys/client:jobs:create",
                "tessera/api-keys/client:jobs, create, allow",
            ),
        ] {
            let line = rule(required).unwrap();
            assert_eq!(line, format!("p, client:shop, production, {ends_with}"));
        }
        for no_rule in [
            "an API key of that realm",
            "tessera/policies:apply in a production realm",
            "tessera/subjects/user:a,b:issue",
        ] {
            assert_eq!(rule(no_rule), None, "{no_rule}");
        }
    }
}
