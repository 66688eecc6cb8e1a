//! `tessera top`: the activity of an authority, live, from its metrics of a second ago and now.

mod samples;

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tessera_daemon::{admin_address, ask_admin};

use self::samples::Samples;
use crate::{
    arguments::{Connection, Output, Top},
    failure::Failure,
    output::columns,
};

const INTERVAL: Duration = Duration::from_secs(1);
/// How many methods are shown, the busiest first.
const METHODS_MAX: usize = 15;

pub(crate) async fn run(command: &Top, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let (url, time) = (&command.admin.admin_addr, connection.admin_time());
    let address = admin_address(url).map_err(|error| unreachable_at(url, &error))?;
    let mut seen = sample(url, address, time)?;
    if command.once || output.json || output.field.is_some() || !io::stdout().is_terminal() {
        let since_start = View::of(&Samples::default(), &seen, uptime(&seen));
        return output.print(&since_start.to_json(), || since_start.told());
    }
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = sample(url, address, time)?;
        let (view, at) = (
            View::of(&seen, &now, looked.elapsed().as_secs_f64()),
            Instant::now(),
        );
        // Moves the cursor home, rewrites each line, and clears the rest of the previous screen.
        let text = view.told().replace('\n', "\x1b[K\n");
        print_screen(&format!("\x1b[H{text}\x1b[K\n\x1b[J"))?;
        (seen, looked) = (now, at);
    }
}

fn print_screen(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::cannot_run(format!("stdout can't be written: {error}")))
}

fn sample(url: &str, address: SocketAddr, time: Duration) -> Result<Samples, Failure> {
    let text = ask_admin(address, "/metrics", time).map_err(|error| unreachable_at(url, &error))?;
    Ok(Samples::read(&text))
}

fn unreachable_at(url: &str, error: &io::Error) -> Failure {
    Failure::cannot_run(format!(
        "no authority answers at the admin socket {url}: {error}; --admin-addr or TESSERA_ADMIN_ADDR say where it is"
    ))
}

/// Seconds since the start of the authority, by the clock of this machine.
fn uptime(samples: &Samples) -> f64 {
    use tessera_core::{Clock, SystemClock};
    let now = f64::from(u32::try_from(SystemClock.now().as_seconds()).unwrap_or(u32::MAX));
    (now - samples.sum("process_start_time_seconds", &[])).max(1.0)
}

/// The displayed values.
struct View {
    facts: Vec<(&'static str, f64)>,
    methods: Vec<Method>,
}

/// The activity of one method or endpoint.
struct Method {
    name: String,
    per_second: f64,
    errors_per_second: f64,
    mean_seconds: f64,
}

impl View {
    /// The activity in `seconds` between two samples.
    fn of(before: &Samples, now: &Samples, seconds: f64) -> Self {
        let seconds = seconds.max(0.001);
        let rate = |name: &str| (now.sum(name, &[]) - before.sum(name, &[])).max(0.0) / seconds;
        let is = |name: &str| now.sum(name, &[]);
        let groups = rate("tessera_store_commit_seconds_count");
        let mean = |name: &str| match groups {
            0.0 => 0.0,
            groups => rate(name) / groups,
        };
        let facts = vec![
            ("ready", is("tessera_ready")),
            ("calls_per_second", rate("tessera_calls_total")),
            ("commits_per_second", groups),
            ("commit_ms", 1000.0 * mean("tessera_store_commit_seconds_sum")),
            ("units_per_commit", mean("tessera_store_group_units_sum")),
            ("units_waiting", is("tessera_store_waiting_units")),
            ("events_per_second", rate("tessera_events_total")),
            ("sessions", is("tessera_sessions")),
            ("connections", is("tessera_connections")),
            ("watchers", is("tessera_watchers")),
            ("verifiers", is("tessera_required_subscribers")),
            (
                "verifier_lag_events",
                now.greatest("tessera_subscriber_lag_events"),
            ),
            ("cpu_cores", rate("process_cpu_seconds_total")),
            (
                "memory_mib",
                is("process_resident_memory_bytes") / (1024.0 * 1024.0),
            ),
        ];
        let mut methods: Vec<_> = now
            .values_of("tessera_calls_total", "rpc")
            .into_iter()
            .map(|name| Method::of(before, now, name, seconds))
            .filter(|method| method.per_second > 0.0)
            .collect();
        methods.sort_by(|one, other| other.per_second.total_cmp(&one.per_second));
        methods.truncate(METHODS_MAX);
        Self { facts, methods }
    }

    fn to_json(&self) -> Value {
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        let mut document: serde_json::Map<_, _> = facts.collect();
        let methods = self.methods.iter().map(|method| {
            json!({
                "rpc": method.name,
                "per_second": method.per_second,
                "errors_per_second": method.errors_per_second,
                "mean_ms": 1000.0 * method.mean_seconds,
            })
        });
        document.insert("methods".to_owned(), methods.collect::<Vec<_>>().into());
        document.into()
    }

    fn told(&self) -> String {
        let facts: Vec<_> = self
            .facts
            .chunks(2)
            .map(|pair| {
                let cell = |at: usize| {
                    pair.get(at).map_or_else(Default::default, |(name, value)| {
                        (name.replace('_', " "), short(*value))
                    })
                };
                let ((one, first), (two, second)) = (cell(0), cell(1));
                [one, first, two, second]
            })
            .collect();
        let rows: Vec<_> = self
            .methods
            .iter()
            .map(|method| {
                [
                    method.name.clone(),
                    short(method.per_second),
                    short(method.errors_per_second),
                    short(1000.0 * method.mean_seconds),
                ]
            })
            .collect();
        let facts = columns(["", "", "", ""], &facts);
        format!(
            "{}\n{}",
            facts.trim_start_matches('\n'),
            columns(["CALL", "PER SECOND", "ERRORS", "MEAN MS"], &rows)
        )
    }
}

impl Method {
    fn of(before: &Samples, now: &Samples, name: &str, seconds: f64) -> Self {
        let of = [("rpc", name)];
        let grown =
            |metric: &str, labels: &[(&str, &str)]| now.sum(metric, labels) - before.sum(metric, labels);
        let calls = grown("tessera_calls_total", &of);
        let good = grown("tessera_calls_total", &[("rpc", name), ("code", "OK")]);
        let count = grown("tessera_call_duration_seconds_count", &of);
        let sum = grown("tessera_call_duration_seconds_sum", &of);
        Self {
            name: name.to_owned(),
            per_second: calls / seconds,
            errors_per_second: (calls - good) / seconds,
            mean_seconds: if count > 0.0 { sum / count } else { 0.0 },
        }
    }
}

/// A number with a readable number of digits.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value.abs() >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value.abs() >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_what_was_added_between_two_samples() {
        let before = Samples::read("tessera_calls_total{rpc=\"Issue\",code=\"OK\",reason=\"\"} 10\n");
        let now = Samples::read(
            "tessera_calls_total{rpc=\"Issue\",code=\"OK\",reason=\"\"} 14\n\
             tessera_calls_total{rpc=\"Issue\",code=\"NOT_FOUND\",reason=\"A\"} 2\n\
             tessera_call_duration_seconds_sum{rpc=\"Issue\"} 0.75\n\
             tessera_call_duration_seconds_count{rpc=\"Issue\"} 6\n\
             tessera_subscriber_lag_events{subscriber=\"a, \\\"b\\\"\"} 3\n",
        );
        let view = View::of(&before, &now, 2.0).to_json();
        assert_eq!(view["calls_per_second"], 3.0);
        assert_eq!(view["verifier_lag_events"], 3.0);
        let method = &view["methods"][0];
        assert_eq!(
            (&method["rpc"], &method["per_second"]),
            (&json!("Issue"), &json!(3.0))
        );
        assert_eq!(
            (&method["errors_per_second"], &method["mean_ms"]),
            (&json!(1.0), &json!(125.0))
        );
    }
}
