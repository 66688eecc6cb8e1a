//! The history: the kept runs, oldest first, in one file beside the documents.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use crate::{
    arguments::History,
    chart,
    failure::Failure,
    report::{FORMAT, VERSION, field},
};

/// The name of the history's format, which has a separate version.
const HISTORY_FORMAT: &str = "tessera-bench-history";
const HISTORY_VERSION: u64 = 1;

/// Appends the runs to the history, and draws it.
pub(crate) fn append(arguments: &History) -> Result<(), Failure> {
    let mut runs = read_history(&arguments.file)?;
    for path in &arguments.runs {
        let run = read(path)?;
        let refused = |problem: &str| Failure::at(format!("taking `{}`", path.display()), problem);
        check(&run).map_err(|problem| refused(&problem))?;
        if runs.iter().any(|kept| is_same(kept, &run)) {
            return Err(refused("the history has it"));
        }
        runs.push(run);
    }
    // Not the order of the arguments: a run of an older commit may be made later.
    runs.sort_by(|one, other| field(one, "date").as_str().cmp(&field(other, "date").as_str()));
    let document = json!({ "format": HISTORY_FORMAT, "version": HISTORY_VERSION, "runs": runs });
    write(&arguments.file, &format!("{document:#}\n"))?;
    write(&arguments.chart, &chart::draw(&runs))?;
    println!("{} runs in {}", runs.len(), arguments.file.display());
    Ok(())
}

/// The runs that are kept already; empty if there is no history.
fn read_history(path: &Path) -> Result<Vec<Value>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let history = read(path)?;
    if *field(&history, "format") != HISTORY_FORMAT || *field(&history, "version") != HISTORY_VERSION {
        return Err(Failure::at(
            format!("reading `{}`", path.display()),
            format!("it is no history of the form {HISTORY_VERSION}"),
        ));
    }
    Ok(field(&history, "runs").as_array().cloned().unwrap_or_default())
}

/// Why later readers can't use a run.
fn check(run: &Value) -> Result<(), String> {
    if *field(run, "format") != FORMAT || *field(run, "version") != VERSION {
        return Err(format!("it is no run of the form {VERSION}"));
    }
    for name in ["commit", "date"] {
        if field(run, name).as_str().is_none_or(str::is_empty) {
            return Err(format!("its {name} is not known (see `run --commit`)"));
        }
    }
    if *field(field(run, "setup"), "optimised") != true {
        return Err("it was built without optimisation".to_owned());
    }
    if *field(field(run, "setup"), "engine") == "postgres" {
        return Err("its data was in PostgreSQL, and the history is of data directories".to_owned());
    }
    match field(run, "figures").as_array() {
        Some(figures) if !figures.is_empty() => Ok(()),
        _ => Err("it has no figures".to_owned()),
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["commit", "date"]
        .iter()
        .all(|name| field(one, name) == field(other, name))
}

fn read(path: &Path) -> Result<Value, Failure> {
    let what = format!("reading `{}`", path.display());
    let text = fs::read_to_string(path).map_err(|error| Failure::at(&what, error))?;
    serde_json::from_str(&text).map_err(|error| Failure::at(&what, error))
}

/// Replaces the whole file or nothing.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let replace = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, path)
    };
    replace().map_err(|error| Failure::at(format!("writing `{}`", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(commit: &str, date: &str) -> Value {
        json!({
            "format": FORMAT,
            "version": VERSION,
            "commit": commit,
            "date": date,
            "machine": { "processors": 2 },
            "setup": { "optimised": true },
            "figures": [{ "what": "issue", "unit": "server CPU µs/call", "ratio": { "median": 2.0, "least": 1.0, "greatest": 3.0 } }],
        })
    }

    fn history_in(directory: &Path, runs: &[Value]) -> History {
        let paths = (0..).map(|number| directory.join(format!("run-{number}.json")));
        let runs = runs.iter().zip(paths).map(|(run, path)| {
            fs::write(&path, run.to_string()).unwrap();
            path
        });
        History {
            runs: runs.collect(),
            file: directory.join("kept/history.json"),
            chart: directory.join("kept/history.svg"),
        }
    }

    #[test]
    fn runs_are_kept_in_the_order_of_their_dates() {
        let directory = tempfile::tempdir().unwrap();
        let (late, early) = (run("b", "2026-02-01T00:00:00Z"), run("a", "2026-01-01T00:00:00Z"));
        append(&history_in(directory.path(), std::slice::from_ref(&late))).unwrap();
        let history = history_in(directory.path(), std::slice::from_ref(&early));
        append(&history).unwrap();
        assert_eq!(read_history(&history.file).unwrap(), [early, late]);
        assert!(fs::read_to_string(&history.chart).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_run_is_kept_once_and_only_where_it_can_be_placed() {
        let directory = tempfile::tempdir().unwrap();
        let good = run("a", "2026-01-01T00:00:00Z");
        let refusal = |runs: &[Value]| {
            append(&history_in(directory.path(), runs))
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(&[good.clone(), good.clone()]).contains("the history has it"));
        let of = |name: &str, value: Value| {
            let mut run = good.clone();
            run[name] = value;
            run
        };
        for (name, value, problem) in [
            ("version", json!(2), "no run of the form 1"),
            ("commit", Value::Null, "its commit is not known"),
            ("date", Value::Null, "its date is not known"),
            ("setup", json!({ "optimised": false }), "without optimisation"),
            (
                "setup",
                json!({ "optimised": true, "engine": "postgres" }),
                "in PostgreSQL",
            ),
            ("figures", json!([]), "no figures"),
        ] {
            let refusal = refusal(&[of(name, value)]);
            assert!(refusal.contains(problem), "{refusal}");
        }
        assert!(!history_in(directory.path(), &[]).file.exists());
    }

    #[test]
    fn what_is_no_history_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let history = history_in(directory.path(), &[run("a", "2026-01-01T00:00:00Z")]);
        write(&history.file, "{}").unwrap();
        assert!(append(&history).is_err());
        assert_eq!(fs::read_to_string(&history.file).unwrap(), "{}");
    }
}
