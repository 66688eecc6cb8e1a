//! Medians and percentiles. All values are kept and sorted: a round has some ten thousand of them, and buckets would
//! only add inaccuracy.

use std::time::Duration;

/// Latencies of one round, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The least, the median and the 99th percentile.
    pub(crate) fn into_percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let last = self.0.len().saturating_sub(1);
            self.0.get(last * percent / 100).copied().map_or(0.0, f64::from)
        };
        Percentiles {
            least: at(0),
            p50: at(50),
            p99: at(99),
        }
    }
}

/// The percentiles of one round, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) least: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The median, the least and the greatest of some values; all 0 if there are no values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Middle {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Middle {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(half)
        } else {
            f64::midpoint(at(half.saturating_sub(1)), at(half))
        };
        Self {
            median,
            least: at(0),
            greatest: at(values.len().saturating_sub(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        for micros in (1..=101).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!(latencies.count(), 101);
        let percentiles = latencies.into_percentiles();
        assert_eq!(percentiles.least, 1.0);
        assert_eq!((percentiles.p50, percentiles.p99), (51.0, 100.0));
        assert_eq!(Latencies::default().into_percentiles().p99, 0.0);
    }

    #[test]
    fn medians_stand_in_the_middle() {
        let median = |values: &[f64]| Middle::of(values.iter().copied()).median;
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(Middle::of([3.0, 1.0, 2.0].into_iter()).greatest, 3.0);
    }
}
