//! How many instructions a call takes, counted by callgrind: unlike time, that hardly depends on what else the machine
//! does, so that it can be a gate. Fails where a call takes a tenth more than the committed figures.
//!
//! `cargo bench -p tessera-authority --bench instructions` compares, `-- --renew` after it commits to what is counted
//! now, `-- --print` only prints.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "no part of what runs in the server"
)]

mod calls;
mod figures;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use self::{
    calls::{SETTINGS, Which},
    figures::Figures,
};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells this program to make the calls, under callgrind.
const MAKE_CALLS: &str = "--make-calls";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, store, directory] = arguments.as_slice()
        && command == MAKE_CALLS
    {
        calls::make(store, Path::new(directory));
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let counted = match count() {
        Ok(counted) => counted,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    if has("--print") {
        print!("{}", counted.to_text());
        return ExitCode::SUCCESS;
    }
    if has("--renew") {
        fs::write(&path, counted.to_text()).unwrap();
        print!("{}", counted.to_text());
        return ExitCode::SUCCESS;
    }
    let committed = Figures::read(&fs::read_to_string(&path).unwrap_or_default());
    let (report, is_passed) = counted.compared_with(&committed);
    print!("{report}");
    if is_passed {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "error: a call takes more than it did. Make it cheaper; or, where what it does now is worth that, say so in \
         the commit and renew the figures: cargo bench -p tessera-authority --bench instructions -- --renew"
    );
    ExitCode::FAILURE
}

/// Counts each call on each store.
fn count() -> Result<Figures, String> {
    let mut figures = Figures::default();
    for (store, calls) in SETTINGS {
        let directory =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        let profile = directory.path().join("profile");
        let status = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet", "--trace-children=no"])
            // Each call of it ends a part, and the parts are numbered in this order.
            .arg(format!("--dump-before=*{}*", calls::MARK))
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(env::current_exe().map_err(|error| error.to_string())?)
            .args([MAKE_CALLS, store])
            .arg(directory.path())
            .status()
            .map_err(|error| format!("valgrind can't be started: {error}"))?;
        if !status.success() {
            return Err(format!("the calls on the store `{store}` failed: {status}"));
        }
        for number in 0..calls.len() {
            let (call, instructions) = of_call(&profile, number, calls)?;
            figures.add(format!("{store} {}", call.name()), instructions);
        }
    }
    Ok(figures)
}

/// The instructions of one call: the least of its parts, as what else happens only adds to it.
fn of_call(profile: &Path, number: usize, calls: &[Which]) -> Result<(Which, u64), String> {
    let call = *calls.get(number).ok_or("there is no such call")?;
    // The first part is what comes before all calls; then those of each repetition, and what is between them.
    let parts = (0..calls::REPETITIONS).map(|repetition| {
        let part = 2 * (repetition * calls.len() + number) + 2;
        total(&PathBuf::from(format!("{}.{part}", profile.display())))
    });
    let least = parts.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    Ok((call, least.unwrap_or(0) / call.times()))
}

/// How many instructions a part has.
fn total(part: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(part).map_err(|error| format!("reading `{}`: {error}", part.display()))?;
    let summary = text.lines().find_map(|line| {
        let total = line.strip_prefix("summary: ").or(line.strip_prefix("totals: "))?;
        total.trim().parse().ok()
    });
    summary.ok_or_else(|| format!("`{}` has no summary", part.display()))
}
