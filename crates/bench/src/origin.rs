//! The origin of a run: its sources, machine and date. Without it figures can't be compared.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::arguments::Run;

/// The commit of the measured binary, the date and the machine.
pub(crate) struct Origin {
    /// `None` if it is not known, for example because the sources have changes that are not committed.
    pub(crate) commit: Option<String>,
    /// In UTC, as in RFC 3339.
    pub(crate) date: Option<String>,
    pub(crate) machine: Value,
}

impl Origin {
    /// The origin of the run of `arguments`, which begins now.
    pub(crate) fn find(arguments: &Run) -> Self {
        let commit = match (&arguments.commit, &arguments.tessera) {
            (Some(named), _) => Some(named.clone()),
            // The source of another binary is not known.
            (None, Some(_)) => None,
            (None, None) => commit(),
        };
        Self {
            commit,
            // The wall clock is read only here, so no library is used for it.
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            machine: machine(),
        }
    }
}

/// The commit that is checked out, unless something other than the documents was changed since.
fn commit() -> Option<String> {
    let changed = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":(top)",
        ":(top,exclude)docs",
    ];
    if !output("git", &changed)?.is_empty() {
        eprintln!("note: the sources have changes that are in no commit, so the run has no commit either");
        return None;
    }
    output("git", &["rev-parse", "HEAD"])
}

/// The output of a program, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// What the figures depend on; nothing that names the machine.
fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let kib = value_of(&read("/proc/meminfo"), "MemTotal").and_then(|text| {
        let number = text.split(' ').next()?;
        number.parse::<u64>().ok()
    });
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": value_of(&read("/proc/cpuinfo"), "model name"),
        "memory_mib": kib.map(|kib| kib / 1024),
        "kernel": value_of(&format!("release: {}", read("/proc/sys/kernel/osrelease")), "release"),
    })
}

/// The value of the first line `name: value`.
fn value_of(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0\nmodel name\t: other\n";
        assert_eq!(value_of(text, "model name").as_deref(), Some("Some CPU @ 2.0"));
        assert_eq!(value_of(text, "model"), None);
    }

    #[test]
    fn a_program_that_fails_says_nothing() {
        assert_eq!(output("false", &[]), None);
        assert_eq!(output("there-is-no-such-program", &[]), None);
        assert_eq!(output("echo", &["a"]).as_deref(), Some("a"));
    }
}
