//! The caller's trace, from its request: `traceparent` and `tracestate` (W3C Trace Context).

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceState},
};
use tessera_core::secret;

/// The longest `tracestate` that is accepted (W3C Trace Context, section 3.3.1.5).
const TRACE_STATE_CHARACTERS_MAX: usize = 512;

/// The context of a request; one without a span if it has none that can be read.
pub(super) fn caller(propagator: &dyn TextMapPropagator, head: &HeaderMap) -> Context {
    if !head.contains_key("traceparent") {
        return Context::new();
    }
    let head = Head {
        parent: parent(head),
        state: state(head),
    };
    propagator.extract_with_context(&Context::new(), &head)
}

/// The same without the state, which only the systems of the caller read.
pub(super) fn without_state(caller: &SpanContext) -> SpanContext {
    SpanContext::new(
        caller.trace_id(),
        caller.span_id(),
        caller.trace_flags(),
        caller.is_remote(),
        TraceState::default(),
    )
}

struct Head {
    parent: Option<String>,
    state: Option<String>,
}

impl Extractor for Head {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent.as_deref(),
            "tracestate" => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The `traceparent`, if there is exactly one and it is complete; several are ignored.
fn parent(head: &HeaderMap) -> Option<String> {
    let mut values = head.get_all("traceparent").iter();
    let value = values.next()?.to_str().ok()?;
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // A version, a trace, a span and flags; a later version adds more.
    let lengths = [2, 32, 16, 2];
    let mut parts = value.split('-');
    let is_whole = lengths.into_iter().all(|length| {
        parts
            .next()
            .is_some_and(|part| part.len() == length && is_hex(part))
    });
    (values.next().is_none() && is_whole).then(|| value.to_owned())
}

/// All headers of `tracestate` together, if they are short enough, and contain nothing that looks like a credential.
fn state(head: &HeaderMap) -> Option<String> {
    let values = head.get_all("tracestate").iter().map(HeaderValue::to_str);
    let values: Vec<_> = values.collect::<Result<_, _>>().ok()?;
    let state = values.join(",");
    let is_taken =
        !state.is_empty() && state.len() <= TRACE_STATE_CHARACTERS_MAX && secret::find(&state).is_none();
    is_taken.then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for value in values {
            head.append(name, value.parse().unwrap());
        }
        head
    }

    #[test]
    fn only_one_whole_traceparent_is_read() {
        let read = |values: &[&str]| parent(&head("traceparent", values)).is_some();
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(read(&[good]));
        assert!(read(&[
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"
        ]));
        assert!(!read(&[good, good]));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f35-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!read(&[bad]), "{bad}");
        }
    }

    #[test]
    fn a_tracestate_is_short_and_without_credentials() {
        let read = |values: &[&str]| state(&head("tracestate", values));
        assert_eq!(read(&["a=1", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(read(&[&format!("a={}", "x".repeat(600))]), None);
        assert_eq!(read(&["a=tsk_production_0123456789abcdef0123456789abcdef"]), None);
        assert_eq!(read(&[]), None);
    }
}
