//! The measurements, for people and for programs.

use serde_json::{Value, json};

use crate::{arguments::Run, origin::Origin, statistics::Middle};

/// The name and the version of the document's format (docs/performance.md). The version changes if a reader of the
/// previous one would misread it.
pub(crate) const FORMAT: &str = "tessera-bench";
pub(crate) const VERSION: u64 = 1;

/// A field of such a document; null if it is missing.
pub(crate) fn field<'a>(document: &'a Value, name: &str) -> &'a Value {
    document.get(name).unwrap_or(&Value::Null)
}

/// All figures of one run.
pub(crate) struct Report {
    origin: Origin,
    setup: Value,
    /// The version of the other `tessera`, if there is one.
    against: Option<String>,
    lines: Vec<Line>,
    remarks: Vec<String>,
}

/// One figure of Tessera's beside its baseline's, over all rounds.
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    tessera: Middle,
    baseline: Middle,
    /// The ratios of the single rounds, in which noise of both sides cancels out. `None` if the baseline took less than
    /// the clock can measure.
    ratio: Option<Middle>,
    /// The other `tessera`'s figures.
    other: Option<Other>,
    goal: Option<Goal>,
}

/// The figures of another `tessera` in the same rounds.
#[derive(Clone, Copy)]
struct Other {
    value: Middle,
    /// The ratio of Tessera to it; `None` if it took less than the clock can measure.
    ratio: Option<Middle>,
}

/// The goal for a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    /// An empty report of a run. If `against` has a version, that `tessera` is measured, too.
    pub(crate) fn new(arguments: &Run, against: Option<String>) -> Self {
        Self {
            origin: Origin::find(arguments),
            against,
            setup: json!({
                "version": env!("CARGO_PKG_VERSION"),
                "optimised": !cfg!(debug_assertions),
                "engine": if arguments.postgres.is_some() { "postgres" } else { "sled" },
                "rounds": arguments.rounds,
                "seconds": arguments.seconds.as_secs_f64(),
                "in_flight": arguments.in_flight,
                "connections": arguments.connections,
                "watchers": arguments.watchers,
                "sessions": arguments.sessions,
                "group_sessions": arguments.group_sessions,
            }),
            lines: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Notes what could not be measured as requested.
    pub(crate) fn remark(&mut self, remarks: impl IntoIterator<Item = String>) {
        self.remarks.extend(remarks);
    }

    pub(crate) fn add(&mut self, lines: impl IntoIterator<Item = Line>) {
        self.lines.extend(lines);
    }

    pub(crate) fn to_json(&self) -> Value {
        let lines: Vec<Value> = self.lines_by_weight().map(Line::to_json).collect();
        json!({
            "format": FORMAT,
            "version": VERSION,
            "commit": self.origin.commit,
            "date": self.origin.date,
            "machine": self.origin.machine,
            "setup": self.setup,
            "against": self.against,
            "figures": lines,
            "remarks": self.remarks,
        })
    }

    /// The processor time comes first: other users of the machine affect it least.
    fn lines_by_weight(&self) -> impl Iterator<Item = &Line> {
        let (first, then): (Vec<_>, Vec<_>) = self.lines.iter().partition(|line| line.is_of_cpu());
        first.into_iter().chain(then)
    }

    /// A table that is readable in a terminal and in a Markdown file.
    pub(crate) fn to_table(&self) -> String {
        let head = [
            "what",
            "unit",
            "tessera",
            "baseline",
            "ratio",
            "least–greatest",
            "goal",
        ];
        let mut rows = vec![Vec::from(head.map(str::to_owned))];
        rows.extend(self.lines_by_weight().map(|line| Vec::from(line.cells())));
        if let Some(against) = &self.against {
            let others = self.lines_by_weight().map(Line::other_cells);
            let head = [
                against.clone(),
                "ratio to it".to_owned(),
                "least–greatest".to_owned(),
            ];
            for (row, cells) in rows.iter_mut().zip([head].into_iter().chain(others)) {
                row.extend(cells);
            }
        }
        let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        rows.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
        let rows = rows.iter().map(|row| padded(row, &widths));
        let remarks = self.remarks.iter().map(|remark| format!("note: {remark}"));
        rows.chain(remarks).collect::<Vec<_>>().join("\n")
    }
}

/// The ratio of Tessera to the baseline, over the rounds in which the baseline is measurable.
fn ratio(rounds: &[(f64, f64)]) -> Option<Middle> {
    let measurable = rounds.iter().filter(|(_, baseline)| *baseline > 0.0);
    let ratios: Vec<f64> = measurable.map(|(tessera, baseline)| tessera / baseline).collect();
    (!ratios.is_empty()).then(|| Middle::of(ratios.into_iter()))
}

fn range(middle: Middle) -> String {
    format!("{}–{}", figure(middle.least), figure(middle.greatest))
}

fn padded(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths);
    let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("| {} |", cells.join(" | "))
}

impl Line {
    /// A line with the figures of both sides in each round.
    pub(crate) fn of(
        what: impl Into<String>,
        unit: &'static str,
        rounds: impl Iterator<Item = (f64, f64)>,
    ) -> Self {
        let rounds: Vec<_> = rounds.collect();
        Self {
            what: what.into(),
            unit,
            tessera: Middle::of(rounds.iter().map(|(tessera, _)| *tessera)),
            baseline: Middle::of(rounds.iter().map(|(_, baseline)| *baseline)),
            ratio: ratio(&rounds),
            other: None,
            goal: None,
        }
    }

    /// The same with the figures of another `tessera` in each round; unchanged if there is no round.
    pub(crate) fn with_other(self, rounds: impl Iterator<Item = (f64, f64)>) -> Self {
        let rounds: Vec<_> = rounds.collect();
        let other = (!rounds.is_empty()).then(|| Other {
            value: Middle::of(rounds.iter().map(|(_, other)| *other)),
            ratio: ratio(&rounds),
        });
        Self { other, ..self }
    }

    pub(crate) fn is_of_cpu(&self) -> bool {
        self.unit.contains("CPU")
    }

    pub(crate) fn with_goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    fn cells(&self) -> [String; 7] {
        let none = || "–".to_owned();
        let ratio = self.ratio.map_or_else(none, |ratio| figure(ratio.median));
        let goal = self.goal.map(|goal| match self.is_reached() {
            None => goal.text(),
            Some(true) => format!("{} reached", goal.text()),
            Some(false) => format!("{} missed", goal.text()),
        });
        [
            self.what.clone(),
            self.unit.to_owned(),
            figure(self.tessera.median),
            figure(self.baseline.median),
            ratio,
            self.ratio.map_or_else(none, range),
            goal.unwrap_or_default(),
        ]
    }

    fn other_cells(&self) -> [String; 3] {
        let none = || "–".to_owned();
        let ratio = self.other.and_then(|other| other.ratio);
        [
            self.other.map_or_else(none, |other| figure(other.value.median)),
            ratio.map_or_else(none, |ratio| figure(ratio.median)),
            ratio.map_or_else(none, range),
        ]
    }

    /// `None` if there is no goal, or no value to compare with it.
    fn is_reached(&self) -> Option<bool> {
        Some(self.goal?.allows(self.ratio?.median))
    }

    pub(crate) fn to_json(&self) -> Value {
        let middle = |middle: Middle| json!({ "median": middle.median, "least": middle.least, "greatest": middle.greatest });
        json!({
            "what": self.what,
            "unit": self.unit,
            "tessera": middle(self.tessera),
            "baseline": middle(self.baseline),
            "ratio": self.ratio.map(middle),
            "other": self.other.map(|other| middle(other.value)),
            "ratio_to_other": self.other.and_then(|other| other.ratio).map(middle),
            "goal": self.goal.map(Goal::text),
            "reached": self.is_reached(),
        })
    }
}

impl Goal {
    fn allows(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least:.2}"),
            Self::AtMost(most) => format!("≤ {most:.2}"),
        }
    }
}

/// About three digits: more would not be accurate.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rounds_and_not_of_medians() {
        let rounds = [(1.0, 2.0), (30.0, 30.0), (8.0, 10.0)];
        let line = Line::of("issue", "calls/s", rounds.into_iter()).with_goal(Goal::AtLeast(0.65));
        assert_eq!(line.ratio.unwrap().median, 0.8);
        let cells = line.cells();
        assert_eq!(cells[5], "0.50–1.00");
        assert_eq!(cells[6], "≥ 0.65 reached");
        assert_eq!(line.to_json()["reached"], true);
    }

    #[test]
    fn a_baseline_of_nothing_gives_no_ratio() {
        let line = Line::of("watch", "µs", [(5.0, 0.0)].into_iter()).with_goal(Goal::AtMost(1.2));
        assert_eq!(line.cells()[4..], ["–", "–", "≤ 1.20"]);
        assert_eq!(line.to_json()["reached"], Value::Null);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let lines = vec![
            Line::of("a", "µs", [(1.0, 2.0)].into_iter()),
            Line::of("a long name", "calls/s", [(1234.5, 2.0)].into_iter()),
        ];
        let table = report(lines, None).to_table();
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 5);
        assert!(widths[..4].iter().all(|width| *width == widths[0]));
    }

    fn report(lines: Vec<Line>, against: Option<&str>) -> Report {
        Report {
            origin: Origin {
                commit: Some("abc".to_owned()),
                date: None,
                machine: Value::Null,
            },
            against: against.map(str::to_owned),
            setup: Value::Null,
            lines,
            remarks: vec!["something".to_owned()],
        }
    }

    #[test]
    fn processor_time_comes_first() {
        let line = |what, unit| Line::of(what, unit, [(1.0, 2.0)].into_iter());
        let lines = vec![
            line("a", "calls/s"),
            line("a", "server CPU µs/call"),
            line("b", "server CPU µs/call"),
        ];
        let document = report(lines, None).to_json();
        let figures = document["figures"].as_array().unwrap();
        let order: Vec<_> = figures
            .iter()
            .map(|figure| (figure["what"].as_str().unwrap(), figure["unit"].as_str().unwrap()))
            .collect();
        let cpu = "server CPU µs/call";
        assert_eq!(order, [("a", cpu), ("b", cpu), ("a", "calls/s")]);
    }

    #[test]
    fn another_binary_has_columns_of_its_own_where_it_was_measured() {
        let compared = Line::of("a", "µs", [(1.0, 2.0), (3.0, 2.0)].into_iter())
            .with_other([(1.0, 4.0), (3.0, 6.0)].into_iter());
        let alone = Line::of("b", "µs", [(1.0, 2.0)].into_iter()).with_other([].into_iter());
        let report = report(vec![compared, alone], Some("tessera 0.0.9"));
        let document = report.to_json();
        assert_eq!(document["figures"][0]["other"]["median"], 5.0);
        assert_eq!(document["figures"][0]["ratio_to_other"]["median"], 0.375);
        assert_eq!(document["figures"][1]["other"], Value::Null);
        let table = report.to_table();
        assert!(table.lines().next().unwrap().contains("tessera 0.0.9"), "{table}");
        assert!(table.ends_with("\nnote: something"), "{table}");
    }
}
