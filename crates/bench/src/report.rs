//! What was measured, for people and for programs.

use serde_json::{Value, json};

use crate::{arguments::Run, statistics::Middle};

/// All figures of one run.
pub(crate) struct Report {
    setup: Value,
    lines: Vec<Line>,
}

/// One figure of Tessera's beside its baseline's, over all rounds.
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    tessera: Middle,
    baseline: Middle,
    /// Of the ratios of the single rounds, where noise that both sides had cancels out. None where the
    /// baseline took less than the clock can tell.
    ratio: Option<Middle>,
    goal: Option<Goal>,
}

/// Which ratio is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn new(arguments: &Run) -> Self {
        Self {
            setup: json!({
                "version": env!("CARGO_PKG_VERSION"),
                "optimised": !cfg!(debug_assertions),
                "processors": std::thread::available_parallelism().map_or(0, usize::from),
                "rounds": arguments.rounds,
                "seconds": arguments.seconds.as_secs_f64(),
                "in_flight": arguments.in_flight,
                "connections": arguments.connections,
                "watchers": arguments.watchers,
            }),
            lines: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, lines: impl IntoIterator<Item = Line>) {
        self.lines.extend(lines);
    }

    pub(crate) fn to_json(&self) -> Value {
        let lines: Vec<Value> = self.lines.iter().map(Line::to_json).collect();
        json!({ "setup": self.setup, "figures": lines })
    }

    /// A table that is as readable in a terminal as in a Markdown file.
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
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.lines.iter().map(Line::cells));
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let rule = widths.map(|width| "-".repeat(width));
        rows.insert(1, rule);
        let rows: Vec<String> = rows.iter().map(|row| padded(row, &widths)).collect();
        rows.join("\n")
    }
}

fn padded(row: &[String; 7], widths: &[usize; 7]) -> String {
    let cells = row.iter().zip(widths);
    let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("| {} |", cells.join(" | "))
}

impl Line {
    /// A line of what both sides did in each round.
    pub(crate) fn of(
        what: impl Into<String>,
        unit: &'static str,
        rounds: impl Iterator<Item = (f64, f64)>,
    ) -> Self {
        let rounds: Vec<_> = rounds.collect();
        let measurable = rounds.iter().filter(|(_, baseline)| *baseline > 0.0);
        let ratios: Vec<f64> = measurable.map(|(tessera, baseline)| tessera / baseline).collect();
        Self {
            what: what.into(),
            unit,
            tessera: Middle::of(rounds.iter().map(|(tessera, _)| *tessera)),
            baseline: Middle::of(rounds.iter().map(|(_, baseline)| *baseline)),
            ratio: (!ratios.is_empty()).then(|| Middle::of(ratios.into_iter())),
            goal: None,
        }
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
        let range = |ratio: Middle| format!("{}–{}", figure(ratio.least), figure(ratio.greatest));
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

    /// None where there is no goal, or nothing to say whether it is reached.
    fn is_reached(&self) -> Option<bool> {
        Some(self.goal?.allows(self.ratio?.median))
    }

    fn to_json(&self) -> Value {
        let middle = |middle: Middle| json!({ "median": middle.median, "least": middle.least, "greatest": middle.greatest });
        json!({
            "what": self.what,
            "unit": self.unit,
            "tessera": middle(self.tessera),
            "baseline": middle(self.baseline),
            "ratio": self.ratio.map(middle),
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

/// Three digits or so: more would pretend.
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
        let report = Report {
            setup: Value::Null,
            lines,
        };
        let table = report.to_table();
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 4);
        assert!(widths.iter().all(|width| *width == widths[0]));
    }
}
