//! The committed figures, and the comparison with them.

use std::{collections::BTreeMap, fmt::Write as _};

/// So many times the committed figure a call may take.
const MORE_MAX: f64 = 1.10;
/// Below that the committed figures would let much of what was gained go again.
const LESS_MIN: f64 = 0.93;

/// Instructions by the store and the call.
#[derive(Default)]
pub(super) struct Figures {
    of: BTreeMap<String, u64>,
    target: String,
}

impl Figures {
    pub(super) fn add(&mut self, name: String, instructions: u64) {
        target().clone_into(&mut self.target);
        self.of.insert(name, instructions);
    }

    /// Reads what [`Figures::to_text`] wrote.
    pub(super) fn read(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.rsplit_once(' ') {
                Some(("target", target)) => target.clone_into(&mut figures.target),
                Some((name, number)) => {
                    let Ok(number) = number.parse() else { continue };
                    figures.of.insert(name.trim().to_owned(), number);
                }
                None => {}
            }
        }
        figures
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = "\
# Instructions that a call takes on each store, its authentication with it. Renewed by
# cargo bench -p tessera-authority --bench instructions -- --renew
"
        .to_owned();
        let _ = writeln!(text, "target {}", self.target);
        for (name, instructions) in &self.of {
            let _ = writeln!(text, "{name} {instructions}");
        }
        text
    }

    /// What there is to say about these beside the committed ones, and whether they are good.
    #[expect(clippy::cast_precision_loss, reason = "they are far below 2^52")]
    pub(super) fn compared_with(&self, committed: &Self) -> (String, bool) {
        if committed.target != self.target {
            let report = format!(
                "the committed figures are of `{}`, and this is `{}`: they can't be compared\n",
                committed.target, self.target
            );
            return (report, false);
        }
        let (mut report, mut is_passed) = (String::new(), true);
        for (name, now) in &self.of {
            let Some(before) = committed.of.get(name) else {
                let _ = writeln!(report, "{name}: {now}, which no committed figure is for");
                is_passed = false;
                continue;
            };
            let ratio = *now as f64 / *before as f64;
            let verdict = match ratio {
                ratio if ratio > MORE_MAX => "TOO MANY",
                ratio if ratio < LESS_MIN => "fewer: renew the figures",
                _ => "good",
            };
            is_passed &= ratio <= MORE_MAX;
            let percent = (ratio - 1.0) * 100.0;
            let _ = writeln!(
                report,
                "{name}: {now}, committed {before}, {percent:+.1} %: {verdict}"
            );
        }
        for name in committed.of.keys().filter(|name| !self.of.contains_key(*name)) {
            let _ = writeln!(report, "{name}: committed, and not counted");
            is_passed = false;
        }
        (report, is_passed)
    }
}

/// What the figures are of: elsewhere a call has other instructions.
fn target() -> &'static str {
    std::env::consts::ARCH
}
