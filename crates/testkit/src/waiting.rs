//! Waiting for what must happen, instead of sleeping.

use std::time::Duration;

/// Far longer than any step takes; only a failing test waits for it.
const TIME_MAX: Duration = Duration::from_secs(20);
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits for something that must happen soon.
///
/// # Panics
/// Panics, naming `what`, if it has not happened after 20 s.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_MAX, happens)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// Waits until something holds.
///
/// # Panics
/// As [`soon`].
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
    .await;
}
