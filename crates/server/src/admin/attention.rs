//! What needs an operator's attention, and what to do: warnings, which `/readyz` shows too, and due tasks.

use tessera_authority::{AttemptOutcome, Authority, PolicyStatus};
use tessera_core::{Seconds, Timestamp};
use tessera_policy::Diagnostic;
use tessera_store::SubscriberKey;

use crate::listen::Tls;

/// How long before its expiry a certificate causes a warning: one that is renewed on time has more time left.
const EXPIRES_SOON: Seconds = Seconds::days(7);
/// How old the last backup may be.
const BACKUP_AGE_MAX: Seconds = Seconds::days(2);
/// Keys that end within this time and have no successor should be rolled.
const KEYS_END_SOON: Seconds = Seconds::days(7);
/// How long a required verifier may be behind without acknowledging anything.
const BEHIND_MAX_SECONDS: u64 = 10;

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attention {
    /// Its kind, such as `policy_refused`.
    pub(super) code: &'static str,
    /// What is wrong, or due. It contains nothing of the content of files.
    pub(super) message: String,
    /// What to do.
    pub(super) todo: String,
}

impl Attention {
    fn new(code: &'static str, message: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            todo: todo.into(),
        }
    }
}

/// Why no requests can be served; `None` if they can be.
pub(super) fn why_not_ready(authority: &Authority) -> Option<String> {
    if authority.is_ready() {
        return None;
    }
    if !authority.takes_writes() {
        return Some(if authority.is_over() {
            "the store failed, or is closed".to_owned()
        } else {
            "the database is away, or commits nothing: it is tried again".to_owned()
        });
    }
    if authority.was_rolled_back() {
        return Some(
            "the data directory is older than what it gave: stop, and run `tessera restore`".to_owned(),
        );
    }
    if authority.is_stuck() {
        return Some("what another node did can't be followed: the log says why".to_owned());
    }
    Some(match authority.commit_waiting().as_secs() {
        0 => "the server is stopping".to_owned(),
        seconds => format!("a commit has waited for the disk for {seconds} s, or the server is stopping"),
    })
}

/// Problems that do not prevent serving.
pub(super) fn warnings(authority: &Authority, tls: Option<&Tls>) -> Vec<Attention> {
    let mut found = of_policy(&authority.policies().policy_status());
    found.extend(of_clock(authority));
    found.extend(tls.into_iter().flat_map(|tls| of_tls(tls, authority.now())));
    found.extend(of_sinks(authority));
    found.extend(of_server_keys(authority));
    found
}

/// Everything that needs attention.
pub(super) fn all(authority: &Authority, tls: Option<&Tls>) -> Vec<Attention> {
    let not_ready = why_not_ready(authority)
        .map(|why| Attention::new("not_ready", why, "see the log of the authority, and its disk"));
    let mut found: Vec<_> = not_ready.into_iter().collect();
    found.extend(warnings(authority, tls));
    found.extend(of_verifiers(authority));
    found.extend(of_api_keys(authority));
    found.extend(of_backups(authority));
    found
}

fn of_policy(status: &PolicyStatus) -> Vec<Attention> {
    let mut found = Vec::new();
    if let AttemptOutcome::Refused { diagnostics, .. } = &status.last_attempt.outcome {
        let place = places(diagnostics);
        found.push(Attention::new(
            "policy_refused",
            format!("the last change of policy was refused, this one stays: {place}"),
            "fix the files: `tessera policy check` shows where",
        ));
    }
    if !status.is_reconciled {
        found.push(Attention::new(
            "policy_not_reconciled",
            "not every live session is updated to the policy",
            "apply the policy again (`tessera policy reload`), or restart",
        ));
    }
    if !status.is_compiled {
        found.push(Attention::new(
            "policy_not_compiled",
            "casbin itself answers, which is slow: the model is not the compiled one",
            "see docs/casbin.md for what is compiled",
        ));
    }
    found
}

/// The location and kind of the first finding. The caller may not read the files, so it shows nothing of their content.
fn places(diagnostics: &[Diagnostic]) -> String {
    let Some(first) = diagnostics.first() else {
        return "see the log".to_owned();
    };
    let Diagnostic {
        code,
        file,
        line,
        column,
        ..
    } = first;
    match diagnostics.len() - 1 {
        0 => format!("{code} at {file}:{line}:{column}"),
        more => format!("{code} at {file}:{line}:{column}, and {more} more"),
    }
}

fn of_clock(authority: &Authority) -> Option<Attention> {
    let state = authority.timekeeping().clock_state();
    state.is_stepped.then(|| {
        let message = format!(
            "the machine's clock stepped by {} s; nothing is removed until it is right, or believed",
            state.offset_millis / 1000
        );
        Attention::new(
            "clock_stepped",
            message,
            "set the clock; if it is right now, restart",
        )
    })
}

/// These are warnings only: making the authority not ready would not serve any caller better.
fn of_tls(tls: &Tls, now: Timestamp) -> Vec<Attention> {
    let mut found = Vec::new();
    if tls.is_last_change_refused() {
        found.push(Attention::new(
            "certificate_refused",
            "the files of [server.tls] have changed and can't be used, the certificate before stays; see the log",
            "replace certificate and key by two that belong together",
        ));
    }
    if let Some(expires_at) = tls.expires_at().filter(|at| *at < now.plus(EXPIRES_SOON)) {
        let (verb, when) = match expires_at <= now {
            true => ("expired", expires_at.to_rfc3339()),
            false => ("expires", expires_at.to_rfc3339()),
        };
        found.push(Attention::new(
            "certificate_expires",
            format!("the certificate of [server.tls] {verb} at {when}"),
            "renew it",
        ));
    }
    found
}

/// The sinks of the audit trail that accept nothing.
fn of_sinks(authority: &Authority) -> Vec<Attention> {
    let failing = authority.audit_sinks().states().into_iter().filter_map(|sink| {
        let since = sink.failing_since?.to_rfc3339();
        let (name, after) = (sink.name, sink.position);
        Some(Attention::new(
            "audit_sink_failing",
            format!(
                "audit records after {after} can't be delivered to sink {name} since {since}; see the log"
            ),
            "repair the receiver before `audit_retention` is over",
        ))
    });
    failing.collect()
}

fn of_server_keys(authority: &Authority) -> Option<Attention> {
    let is_refused = authority
        .signing_keys()
        .server_key_status()
        .is_last_change_refused;
    is_refused.then(|| {
        Attention::new(
            "server_keys_refused",
            "the server keys of [keys] have changed and can't be used, and the old keys stay in use; see the log",
            "fix [keys] of the configuration, or the files that it names",
        )
    })
}

/// Verifiers that are behind, acknowledge nothing, and keep accepting.
fn of_verifiers(authority: &Authority) -> Vec<Attention> {
    let committed = authority.position().sequence;
    let behind = authority
        .fence()
        .required_subscribers()
        .into_iter()
        .filter(|state| {
            !state.has_failed_closed()
                && state.acknowledged < committed
                && state.acknowledged_before.as_secs() >= BEHIND_MAX_SECONDS
        });
    let found = behind.map(|state| {
        let SubscriberKey { realm, client, name } = state.key;
        let events = committed.0.saturating_sub(state.acknowledged.0);
        let seconds = state.acknowledged_before.as_secs();
        Attention::new(
            "verifier_behind",
            format!("verifier {name} of {client} ({realm}) is {events} events behind for {seconds} s"),
            format!("look at it, or `tessera subscribers evict {client} {name}`"),
        )
    });
    found.collect()
}

fn of_api_keys(authority: &Authority) -> Vec<Attention> {
    let counts = authority.credentials().ending_api_keys();
    let ending = counts
        .iter()
        .filter(|count| count.within == KEYS_END_SOON && count.keys > 0);
    let found = ending.map(|count| {
        let (keys, realm, within) = (count.keys, &count.realm, count.within);
        Attention::new(
            "api_keys_ending",
            format!("{keys} API keys of {realm} end within {within} and have no successor"),
            format!("`tessera apikey list --expiring {within}`, then `tessera apikey roll`"),
        )
    });
    found.collect()
}

fn of_backups(authority: &Authority) -> Option<Attention> {
    let state = authority.backups().backup_state();
    let message = match state.last {
        None => "no backup was made of this data yet".to_owned(),
        Some(last) if last.at.plus(BACKUP_AGE_MAX) < authority.now() => {
            format!("the last backup is of {}", last.at.to_rfc3339())
        }
        Some(_) => return None,
    };
    let todo = "`tessera backup create`, each day";
    (!state.is_running).then(|| Attention::new("backup_due", message, todo))
}
