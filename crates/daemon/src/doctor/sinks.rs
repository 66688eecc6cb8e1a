//! Checks of the sinks of the audit trail: what they name on this machine, and whether a token travels in plaintext.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::{Access, access};

use super::finding::Finding;
use crate::config::{Config, SinkConfig, SyslogAddress};

const CHECK: &str = "audit sink";

/// Findings about each sink of the configuration.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, sink) in &config.audit.sinks {
        let problems = problems(sink);
        if problems.is_empty() {
            found.push(Finding::ok(
                CHECK,
                format!("{}: what it names is there", name.as_str()),
            ));
        }
        let warn = |(problem, todo): (String, &str)| {
            Finding::warn(CHECK, format!("{}: {problem}", name.as_str()), todo)
        };
        found.extend(problems.into_iter().map(warn));
    }
    found
}

/// What is wrong with a sink, and what to do about it.
fn problems(sink: &SinkConfig) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    match sink {
        SinkConfig::File { path, .. } => found.extend(unwritable(path)),
        SinkConfig::Syslog { address, .. } => {
            if let SyslogAddress::Unix(path) = address {
                found.extend(missing(path, "start the syslog service, or name its socket"));
            }
        }
        SinkConfig::Http { url, token_file, .. } => {
            let host = url.0.host().unwrap_or_default();
            let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
            if token_file.is_some() && url.0.scheme_str() == Some("http") && !is_here {
                let problem = format!("its token is sent to {host} without encryption");
                found.push((problem, "use an https:// URL"));
            }
            found.extend(token_file.iter().filter_map(|file| unreadable(file)));
        }
        SinkConfig::Otlp { headers_file, ca, .. } => {
            found.extend(headers_file.iter().chain(ca).filter_map(|file| unreadable(file)));
        }
    }
    found
}

/// A file that can't be appended to; the sink makes it if its directory exists.
fn unwritable(path: &Path) -> Option<(String, &'static str)> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let is_there = path.exists();
    let rights = if is_there {
        Access::WRITE_OK
    } else {
        Access::WRITE_OK | Access::EXEC_OK
    };
    let error = access(if is_there { path } else { directory }, rights).err()?;
    let problem = format!(
        "`{}` can't be written: {}",
        path.display(),
        io::Error::from(error)
    );
    Some((
        problem,
        "make its directory, and let the user that runs the authority write it",
    ))
}

fn unreadable(path: &Path) -> Option<(String, &'static str)> {
    let error = File::open(path).err()?;
    let problem = format!("`{}` can't be read: {error}", path.display());
    Some((
        problem,
        "put the file there, and let the user that runs the authority read it",
    ))
}

fn missing(path: &Path, todo: &'static str) -> Option<(String, &'static str)> {
    let error = fs::metadata(path).err()?;
    Some((format!("`{}` can't be reached: {error}", path.display()), todo))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{SinkFormat, SinkUrl};

    #[test]
    fn what_a_sink_names_and_is_not_there_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        fs::write(&token, "t").unwrap();
        let nowhere = PathBuf::from("/nonexistent/file");
        let http = |url: &'static str, token_file: &Path| SinkConfig::Http {
            url: SinkUrl(http::Uri::from_static(url)),
            token_file: Some(token_file.to_owned()),
            format: SinkFormat::Json,
        };
        let file = |path: PathBuf| SinkConfig::File {
            path,
            format: SinkFormat::Json,
        };
        let syslog = |path: &Path| SinkConfig::Syslog {
            address: SyslogAddress::Unix(path.to_owned()),
            format: SinkFormat::Json,
        };
        for (sink, expected) in [
            (file(directory.path().join("audit.jsonl")), None),
            (file(nowhere.clone()), Some("can't be written")),
            (http("https://siem.example.org/", &token), None),
            (http("http://127.0.0.1:9/", &token), None),
            (
                http("http://siem.example.org/", &token),
                Some("without encryption"),
            ),
            (http("https://siem.example.org/", &nowhere), Some("can't be read")),
            (syslog(&token), None),
            (syslog(&nowhere), Some("can't be reached")),
        ] {
            let found = problems(&sink);
            let said = found.first().map(|(problem, _)| problem.as_str());
            let is_right = match (said, expected) {
                (Some(said), Some(expected)) => said.contains(expected),
                (said, expected) => said == expected,
            };
            assert!(is_right, "{sink:?}: {found:?}");
        }
    }
}
