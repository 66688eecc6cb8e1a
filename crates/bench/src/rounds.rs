//! Interleaved rounds: in each, all sides that are compared have their turn.

use std::{ops::AsyncFnMut, time::Duration};

use crate::{arguments::Run, failure::Failure};

/// Runs one round that does not count, and then those that do.
pub(crate) async fn rounds<T>(
    arguments: &Run,
    name: &str,
    mut round: impl AsyncFnMut(Duration) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let Run { rounds, seconds, .. } = *arguments;
    eprintln!("{name}: warming up");
    round(seconds / 4).await?;
    let mut results = Vec::new();
    for number in 1..=rounds {
        eprintln!("{name}: round {number} of {rounds}");
        results.push(round(seconds).await?);
    }
    Ok(results)
}
