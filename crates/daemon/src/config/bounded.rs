//! Numbers and durations with bounds. A value outside of them is refused with its line and column.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use tessera_core::{Seconds, secret};

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The number, as a size or a count of things in memory.
    #[must_use]
    pub fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// A default, as near to `number` as the bounds allow.
    pub(super) fn of(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(MAX).clamp(MIN, MAX))
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(D::Error::custom(format!("expected a number from {MIN} to {MAX}"))),
        }
    }
}

/// A duration from `MIN` to `MAX` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time<const MIN: u32, const MAX: u32>(Seconds);

impl<const MIN: u32, const MAX: u32> Time<MIN, MAX> {
    /// The duration.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_secs(self.0.0.into())
    }

    /// The duration in seconds.
    #[must_use]
    pub fn seconds(self) -> Seconds {
        self.0
    }

    /// A default, as near to `time` as the bounds allow.
    pub(super) fn of(time: Duration) -> Self {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(MAX);
        Self(Seconds(seconds.clamp(MIN, MAX)))
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Time<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = Seconds::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&time.0) {
            return Ok(Self(time));
        }
        let (shortest, longest) = (Seconds(MIN), Seconds(MAX));
        Err(D::Error::custom(format!(
            "expected a time from {shortest} to {longest}"
        )))
    }
}
/// The longest path that Linux accepts, and the longest name in one, in bytes.
const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;

/// A path that the operating system accepts.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    let problem = if text.is_empty() {
        "expected a path, not an empty text"
    } else if text.contains('\0') {
        "a path can't have a NUL"
    } else if secret::find(&text).is_some() {
        "expected a path, and this looks like a secret itself: write it to a file, and name that"
    } else if text.len() > PATH_BYTES_MAX || text.split('/').any(|name| name.len() > NAME_BYTES_MAX) {
        "the path, or a name in it, is too long"
    } else {
        return Ok(PathBuf::from(text));
    };
    Err(D::Error::custom(problem))
}

/// Several paths.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths: Vec<OnePath> = Vec::deserialize(deserializer)?;
    Ok(paths.into_iter().map(|path| path.0).collect())
}

/// A path, or `None` if the key is not present.
pub(super) fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

#[derive(Deserialize)]
struct OnePath(#[serde(deserialize_with = "path")] PathBuf);
