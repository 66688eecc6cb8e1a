//! Logs and traces.
//!
//! Logs are lines for people on a terminal, JSON elsewhere if so set. `RUST_LOG` chooses what is logged.
//!
//! One module escapes and cuts every value, and removes text with the shape of a secret, since a caller may have
//! written it. So no caller can add its own line, or fill the log with one.

mod format;
mod line;
mod queue;
mod traces;

use std::{
    io::{self, IsTerminal},
    panic,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use opentelemetry_sdk::Resource;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use tessera_core::SPANS;

use line::Lines;
use queue::Queue;

use crate::config::TelemetryConfig;

pub use format::LogFormat;
pub use traces::Traces;

/// How long the end of a process waits for its last lines.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The lines that are not written yet.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Sends logs to stderr, including panics. Call it once, before anything is logged; `default_filter` applies unless
/// `RUST_LOG` is set.
pub fn init(format: LogFormat, default_filter: &str) {
    subscribe(format, default_filter, None);
}

/// The same, and sends traces to the collector that `traced` and the environment name, if they do. It is called within
/// a runtime.
///
/// A wrong environment for traces is logged, and nothing is traced: it does not prevent a start.
pub fn init_traced(format: LogFormat, default_filter: &str, traced: &TelemetryConfig) -> Option<Traces> {
    let (traces, problem) = match Traces::start(traced) {
        Ok(traces) => (traces, None),
        Err(problem) => (None, Some(problem)),
    };
    subscribe(format, default_filter, traces.as_ref());
    if let Some(problem) = problem {
        tracing::error!(problem, "nothing is traced");
    }
    if let Some(traces) = &traces {
        traces.warn();
    }
    traces
}

/// The sender's identity for a collector, the same for all signals.
pub(crate) fn sender(config: &TelemetryConfig) -> Resource {
    traces::sender(config)
}

fn subscribe(format: LogFormat, default_filter: &str, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    // Spans are only for traces: without traces, none is made.
    let filter = match format!("{SPANS}=off").parse() {
        Ok(no_spans) => filter.add_directive(no_spans),
        Err(_) => filter,
    };
    let Ok(queue) = Queue::start(io::stderr()) else {
        // No thread can be made: nothing will be served, and the reason is reported elsewhere.
        return;
    };
    let queue = Arc::clone(QUEUE.get_or_init(|| queue));
    // A second initialization fails; the first one stays, as its caller expects.
    let _ = match traces {
        None => registry().with(filter).with(lines(format, queue)).try_init(),
        Some(traces) => registry()
            .with(lines(format, queue).with_filter(filter))
            .with(traces.layer())
            .try_init(),
    };
    panic::set_hook(Box::new(log_panic));
}

fn lines<S>(format: LogFormat, queue: Arc<Queue>) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let is_colored = io::stderr().is_terminal();
    fmt::layer()
        .with_writer(queue::Lines(queue))
        .event_format(Lines { format, is_colored })
}

/// Waits a short time until the logged lines are written: before a process ends, or writes to stderr itself.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_TIME_MAX);
    }
}

/// Logs a panic as one line: by default, Rust writes several, with the message unchanged.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    tracing::error!(
        place = info.location().map(tracing::field::display),
        thread = thread::current().name(),
        problem = info.payload_as_str(),
        "panicked"
    );
    // It may be the last.
    flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_without_secrets() {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            log_panic(info);
            before(info);
        }));
        let logged = line::tests::line(LogFormat::Json, || {
            let wrong = "tsk_production_0123456789abcdef is bad\nat all";
            assert!(panic::catch_unwind(|| panic!("the key {wrong}")).is_err());
        });
        assert_eq!(logged.matches('\n').count(), 1, "{logged}");
        assert!(!logged.contains("0123456789abcdef"), "{logged}");
        for part in [
            r#""message":"panicked""#,
            "telemetry.rs:",
            "is bad",
            r#""level":"ERROR""#,
        ] {
            assert!(logged.contains(part), "{part}: {logged}");
        }
    }
}
