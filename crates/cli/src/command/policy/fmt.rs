//! `tessera policy fmt`: formats rules.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use serde_json::{Value, json};
use tessera_policy::format_rules;

use super::directory::shown;
use crate::{
    arguments::Output,
    failure::Failure,
    terminal::{counted, visible},
};

/// The largest file; the loader has the same limit.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) fn run(directory: &Path, is_check: bool, output: &Output) -> Result<ExitCode, Failure> {
    // All files are read before one is written: a mistake leaves no partial change.
    let files = rule_files(directory)?;
    let total = files.len();
    let changed: Vec<Formatted> = files
        .into_iter()
        .map(Formatted::read)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|file| file.before != file.after)
        .collect();
    if !is_check {
        for file in &changed {
            file.write()
                .map_err(|error| file.path.failure("written", &error))?;
        }
    }
    let is_found = is_check && !changed.is_empty();
    let names: Vec<&str> = changed.iter().map(|file| file.path.name.as_str()).collect();
    let document = json!({
        "ok": !is_found,
        "changed": names.iter().copied().collect::<Value>(),
        "unchanged": total - names.len(),
    });
    output.print(&document, || text(&names, total, is_check))?;
    Ok(ExitCode::from(u8::from(is_found)))
}

fn text(names: &[&str], total: usize, is_check: bool) -> String {
    let said = if is_check {
        "would be formatted:"
    } else {
        "formatted"
    };
    let mut text: String = names
        .iter()
        .map(|name| format!("{said} {}\n", visible(name)))
        .collect();
    let unchanged = total - names.len();
    if unchanged > 0 {
        text += &format!("{} formatted already\n", counted(unchanged, "file"));
    }
    text
}

/// A rule file, with its name in the policy.
struct RuleFile {
    path: PathBuf,
    name: String,
}

impl RuleFile {
    fn failure(&self, what: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::cannot_run(format!("`{}` can't be {what}: {error}", shown(&self.path)))
    }
}

impl RuleFile {
    /// Refuses a link that leads out of the directory, as the loader does: its target may be any file.
    fn refuse_outside(&self, directory: &Path) -> Result<(), Failure> {
        let target = fs::canonicalize(&self.path).map_err(|error| self.failure("read", &error))?;
        if target.starts_with(directory) {
            return Ok(());
        }
        Err(self.failure("read", &"it is a link that leads out of the directory"))
    }
}

/// The rule files of a directory in name order.
fn rule_files(directory: &Path) -> Result<Vec<RuleFile>, Failure> {
    let wrong =
        |error: io::Error| Failure::cannot_run(format!("`{}` can't be read: {error}", shown(directory)));
    let within = fs::canonicalize(directory).map_err(wrong)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".csv") && !name.starts_with('.') {
            let file = RuleFile {
                path: entry.path(),
                name,
            };
            file.refuse_outside(&within)?;
            files.push(file);
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    if files.is_empty() {
        return Err(Failure::cannot_run(format!(
            "`{}` has no rule files: none ends in `.csv`",
            shown(directory)
        )));
    }
    Ok(files)
}

/// A file before and after.
struct Formatted {
    path: RuleFile,
    before: String,
    after: String,
}

impl Formatted {
    fn read(path: RuleFile) -> Result<Self, Failure> {
        let bytes = read(&path.path).map_err(|error| path.failure("read", &error))?;
        let before = String::from_utf8(bytes).map_err(|_| path.failure("formatted", &"it is not UTF-8"))?;
        let after = format_rules(&before);
        Ok(Self { path, before, after })
    }

    /// Replaces it completely or not at all, and keeps its name, owner and permissions.
    fn write(&self) -> io::Result<()> {
        // A link is followed: to replace it would disconnect its target.
        let target = fs::canonicalize(&self.path.path)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // Hidden files are not part of a policy.
        let temporary = target.with_file_name(format!(".{name}.{}.new", process::id()));
        let written = self.replace(&target, &temporary);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn replace(&self, target: &Path, temporary: &Path) -> io::Result<()> {
        let metadata = fs::metadata(target)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(self.after.as_bytes())?;
        // Only root may change the owner; for others the formatted file becomes their own.
        let _ = chown(temporary, Some(metadata.uid()), Some(metadata.gid()));
        file.set_permissions(metadata.permissions())?;
        file.sync_all()?;
        if read(target)? != self.before.as_bytes() {
            return Err(io::Error::other("it changed meanwhile; try again"));
        }
        fs::rename(temporary, target)?;
        // The rename itself.
        let directory = target.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

/// The bytes of a file of reasonable size. Anything else, such as a pipe, is not opened.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > BYTES_MAX) {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
