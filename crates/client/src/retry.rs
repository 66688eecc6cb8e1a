//! Waiting between attempts.

use std::time::Duration;

use tessera_token::random;

/// Exponential backoff with jitter.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            next: first.min(max),
        }
    }

    /// How long to wait now: between half of the step and all of it.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.max);
        step.mul_f64(0.5 + 0.5 * fraction())
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first.min(self.max);
    }
}

/// A random number from 0 to 1. The middle if the operating system provides none: jitter is not secret.
pub(crate) fn fraction() -> f64 {
    random::<4>().map_or(0.5, |bytes| {
        f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for step in [100, 200, 350, 350] {
            let wait = backoff.wait().as_micros();
            assert!((step * 500..=step * 1000).contains(&wait), "{wait} of {step} ms");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(100));
    }
}
