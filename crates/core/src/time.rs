//! Points in time and durations, as plain numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A duration in whole seconds. Configuration writes it as `90s`, `15m`, `1h` or `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

/// 9999-12-30T00:00:00Z: RFC 3339 ends with the year 9999, and jiff a little before.
const LATEST_MILLIS: i64 = 253_402_128_000_000;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// Later than every time that occurs: "forever".
    pub const MAX: Self = Self(LATEST_MILLIS);

    /// The point `millis` milliseconds after the epoch, limited to the years 1970 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, LATEST_MILLIS))
    }

    /// The point `seconds` seconds after the epoch, limited to the years 1970 to 9999.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same point without its fraction of a second.
    #[must_use]
    pub fn floor_to_second(self) -> Self {
        Self(self.as_seconds() * 1000)
    }

    /// The first moment of its day, in UTC.
    #[must_use]
    pub fn floor_to_day(self) -> Self {
        Self(self.0 - self.0.rem_euclid(i64::from(Seconds::DAY.0) * 1000))
    }

    /// This point moved on by `length`.
    #[must_use]
    pub fn plus(self, length: Seconds) -> Self {
        self.plus_millis(i64::from(length.0) * 1000)
    }

    /// This point moved back by `length`.
    #[must_use]
    pub fn minus(self, length: Seconds) -> Self {
        self.plus_millis(-i64::from(length.0) * 1000)
    }

    /// This point moved by `millis` milliseconds, limited to the years 1970 to 9999.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this point; negative if a clock went backwards.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// Whole seconds from `now` to this point, rounded down; 0 if it has passed.
    #[must_use]
    pub fn seconds_from(self, now: Self) -> Seconds {
        let seconds = self.millis_since(now).max(0) / 1000;
        Seconds(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Parses an RFC 3339 time with any offset.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text.parse().ok()?;
        let millis = parsed.as_millisecond();
        (0..=LATEST_MILLIS).contains(&millis).then_some(Self(millis))
    }

    /// The time in whole seconds as RFC 3339, e.g. `2026-11-24T09:30:00Z` (the form of PASETO's claims).
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.as_seconds()) {
            Ok(timestamp) => timestamp.to_string(),
            // Not reached: the constructors hold the value within jiff's range.
            Err(_) => "1970-01-01T00:00:00Z".to_owned(),
        }
    }

    /// In the form of RFC 3339, with milliseconds.
    #[must_use]
    pub fn to_rfc3339_millis(self) -> String {
        match jiff::Timestamp::from_millisecond(self.as_millis()) {
            Ok(timestamp) => format!("{timestamp:.3}"),
            Err(_) => self.to_rfc3339(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Seconds {
    /// One minute.
    pub const MINUTE: Self = Self(60);
    /// One hour.
    pub const HOUR: Self = Self(3600);
    /// One day.
    pub const DAY: Self = Self(86_400);

    /// `days` days.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self(days * Self::DAY.0)
    }
}

/// The text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time: write it as `90s`, `15m`, `1h` or `30d`")]
pub struct SecondsError;

/// A whole number and one unit, as `Display` writes it: `90s`, `15m`, `1h`, `30d`.
impl FromStr for Seconds {
    type Err = SecondsError;

    fn from_str(text: &str) -> Result<Self, SecondsError> {
        let unit = match text.chars().last() {
            Some('s') => Self(1),
            Some('m') => Self::MINUTE,
            Some('h') => Self::HOUR,
            Some('d') => Self::DAY,
            _ => return Err(SecondsError),
        };
        let digits = text
            .get(..text.len() - 1)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let number: u32 = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or(SecondsError)?;
        number.checked_mul(unit.0).map(Self).ok_or(SecondsError)
    }
}

/// In the largest unit that leaves no remainder: `1h`, `90s`, `30d`.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(Self::DAY, "d"), (Self::HOUR, "h"), (Self::MINUTE, "m")] {
            if self.0 > 0 && self.0.is_multiple_of(unit.0) {
                return write!(f, "{}{name}", self.0 / unit.0);
            }
        }
        write!(f, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight() {
        let time = Timestamp::parse_rfc3339("2026-11-24T23:59:59Z").unwrap();
        assert_eq!(time.floor_to_day().to_rfc3339(), "2026-11-24T00:00:00Z");
        assert_eq!(time.floor_to_day().floor_to_day(), time.floor_to_day());
    }

    #[test]
    fn rfc3339_round_trips_in_whole_seconds() {
        let time = Timestamp::from_seconds(1_795_000_000);
        assert_eq!(Timestamp::parse_rfc3339(&time.to_rfc3339()), Some(time));
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-24T10:00:00+01:00"),
            Timestamp::parse_rfc3339("2026-11-24T09:00:00Z")
        );
        for bad in [
            "",
            "yesterday",
            "2026-11-24",
            "2026-13-01T00:00:00Z",
            "1900-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for length in [
            Seconds(0),
            Seconds(90),
            Seconds(900),
            Seconds::HOUR,
            Seconds::days(30),
            Seconds(61),
        ] {
            assert_eq!(length.to_string().parse(), Ok(length));
        }
        for bad in [
            "",
            "s",
            "1",
            "-1s",
            "+1s",
            "1.5h",
            "1 h",
            "1w",
            "1é",
            "99999999999s",
            "999999d",
        ] {
            assert_eq!(bad.parse::<Seconds>(), Err(SecondsError), "{bad}");
        }
    }

    #[test]
    fn arithmetic_stays_within_what_can_be_written() {
        assert_eq!(Timestamp::MAX.plus(Seconds(u32::MAX)), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.minus(Seconds(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::MAX.to_rfc3339(), "9999-12-30T00:00:00Z");
    }
}
