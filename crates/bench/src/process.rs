//! The servers: separate processes, so that their processor time is separate from the generator's.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::failure::Failure;

/// How long a server may take to report that it is ready.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// `/proc` counts in hundredths of a second on every Linux (`USER_HZ`, proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// A running server. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// Kept open, so that the server can always print.
    _stdout: BufReader<ChildStdout>,
}

/// Starts `command` and waits for the line of JSON that reports that it is ready.
pub(crate) async fn start(name: &str, mut command: Command) -> Result<(Process, Value), Failure> {
    let what = format!("starting {name}");
    command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| Failure::at(&what, error))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failure::new("a child has no stdout"))?;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    match tokio::time::timeout(START_TIME_MAX, stdout.read_line(&mut line)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(Failure::at(&what, error)),
        Err(_) => return Err(Failure::at(&what, "it says nothing")),
    }
    let ready = serde_json::from_str(&line)
        .map_err(|_| Failure::at(&what, "it ended, or did not say where it serves"))?;
    let process = Process {
        child,
        _stdout: stdout,
    };
    Ok((process, ready))
}

impl Process {
    /// Sends a signal, such as `STOP`.
    pub(crate) async fn signal(&self, name: &str) -> Result<(), Failure> {
        let what = "sending a signal";
        let id = self
            .child
            .id()
            .ok_or_else(|| Failure::at(what, "the process has ended"))?;
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id.to_string())
            .status()
            .await;
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::at(what, status)),
            Err(error) => Err(Failure::at(what, error)),
        }
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        let what = "reading a server's processor time";
        let id = self
            .child
            .id()
            .ok_or_else(|| Failure::at(what, "the server has ended"))?;
        let path = Path::new("/proc").join(id.to_string()).join("stat");
        let text = std::fs::read_to_string(path).map_err(|error| Failure::at(what, error))?;
        cpu_time(&text).ok_or_else(|| Failure::at(what, "`stat` has another form"))
    }

    /// The most memory that it has used, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<u64, Failure> {
        Ok(self.number("status", "VmHWM:")? / 1024)
    }

    /// The memory that it uses now, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64, Failure> {
        let kib = u32::try_from(self.number("status", "VmRSS:")?).unwrap_or(u32::MAX);
        Ok(f64::from(kib) / 1024.0)
    }

    /// How many bytes were written to disks for it so far.
    pub(crate) fn written_bytes(&self) -> Result<u64, Failure> {
        self.number("io", "write_bytes:")
    }

    /// The number after a name in one of its files in `/proc`.
    fn number(&self, file: &str, name: &str) -> Result<u64, Failure> {
        let what = format!("reading `{file}` of a server");
        let id = self
            .child
            .id()
            .ok_or_else(|| Failure::at(&what, "the server has ended"))?;
        let path = Path::new("/proc").join(id.to_string()).join(file);
        let text = std::fs::read_to_string(path).map_err(|error| Failure::at(&what, error))?;
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let number = found.and_then(|found| found.trim().split(' ').next()?.parse().ok());
        number.ok_or_else(|| Failure::at(&what, format!("it has no `{name}`")))
    }

    /// Kills it, and waits until it has ended.
    pub(crate) async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

/// `utime` and `stime` of `/proc/<pid>/stat`: fields 14 and 15. The second field, the program's name in brackets, may
/// contain spaces and brackets.
fn cpu_time(stat: &str) -> Option<Duration> {
    time_of_two(stat, 11)
}

/// `cutime` and `cstime`: fields 16 and 17.
fn cpu_time_of_ended_children(stat: &str) -> Option<Duration> {
    time_of_two(stat, 13)
}

/// The sum of two neighbouring fields, of which the first is this far behind the program's name.
fn time_of_two(stat: &str, first: usize) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(first);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()? + TICK * ticks()?)
}

/// The number of a process's parent, from its `stat`.
pub(crate) fn parent(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// The processor time so far of the process with this number and of its children, including those that have ended.
pub(crate) fn cpu_time_with_children(number: u32) -> Result<Duration, Failure> {
    let what = "reading a server's processor time";
    let own = std::fs::read_to_string(format!("/proc/{number}/stat"));
    let own = own.map_err(|error| Failure::at(what, error))?;
    let another_form = || Failure::at(what, "`stat` has another form");
    let ended = cpu_time_of_ended_children(&own).ok_or_else(another_form)?;
    let mut time = cpu_time(&own).ok_or_else(another_form)? + ended;
    for process in std::fs::read_dir("/proc")
        .map_err(|error| Failure::at(what, error))?
        .flatten()
    {
        // Not every entry is a process, and a process may end at any time.
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        if parent(&stat) == Some(number) {
            time += cpu_time(&stat).unwrap_or_default();
        }
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_time("7 (a) S 1"), None);
        assert_eq!(cpu_time(""), None);
        let ended = cpu_time_of_ended_children(stat);
        assert_eq!(ended, Some(Duration::from_millis(270)));
        assert_eq!(parent(stat), Some(1));
    }

    #[test]
    fn a_process_has_at_least_its_own_time() {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let with_children = cpu_time_with_children(std::process::id()).unwrap();
        assert!(with_children >= cpu_time(&own).unwrap());
    }

    #[test]
    fn the_kernel_writes_what_is_read() {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(cpu_time(&own).is_some());
    }
}
