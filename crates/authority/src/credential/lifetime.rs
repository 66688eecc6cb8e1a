//! How long a new API key works: the requested lifetime, within the limits of the realm.

use tessera_core::{RealmLimits, Seconds, Timestamp};

use crate::credential::error::ApiKeyError;

/// The shortest life of a new API key.
const TTL_MIN: Seconds = Seconds::MINUTE;

/// When a new key ends; `None` if it works until it is revoked. A caller that names no time gets the realm's default,
/// or, if the realm has only a longest time, that.
pub(crate) fn end_of_new(
    limits: &RealmLimits,
    ttl: Option<Seconds>,
    now: Timestamp,
) -> Result<Option<Timestamp>, ApiKeyError> {
    let Some(ttl) = ttl else {
        let ttl = limits.api_key_ttl_default.or(limits.api_key_ttl_max);
        return Ok(ttl.map(|ttl| now.plus(ttl)));
    };
    if ttl < TTL_MIN {
        return Err(ttl_refused(format!("must be at least {TTL_MIN}")));
    }
    match limits.api_key_ttl_max {
        Some(max) if ttl > max => Err(ttl_refused(format!(
            "must be at most {max}, the `api_key_ttl_max` of the realm"
        ))),
        _ => Ok(Some(now.plus(ttl))),
    }
}

/// When a successor ends if the caller named no time: when its predecessor would have ended, and never later than a new
/// key must end.
pub(crate) fn end_of_successor(
    limits: &RealmLimits,
    predecessor: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let latest = limits.api_key_ttl_max.map(|max| now.plus(max));
    earlier(predecessor, latest)
}

/// Whether a key that ends at `end` works longer than one that ends at `other`.
pub(crate) fn is_longer(end: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    end.unwrap_or(Timestamp::MAX) > other.unwrap_or(Timestamp::MAX)
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn ttl_refused(problem: String) -> ApiKeyError {
    ApiKeyError::Field {
        field: "ttl",
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn limits(default: Option<u32>, max: Option<u32>) -> RealmLimits {
        RealmLimits {
            api_key_ttl_default: default.map(Seconds),
            api_key_ttl_max: max.map(Seconds),
            ..RealmLimits::default()
        }
    }

    #[test]
    fn the_end_of_a_new_key_as_a_table() {
        let cases = [
            ("nothing is set or asked for", None, None, None, Ok(None)),
            ("asked for", None, None, Some(90), Ok(Some(90))),
            ("the default", Some(600), None, None, Ok(Some(600))),
            (
                "the default below the longest",
                Some(600),
                Some(900),
                None,
                Ok(Some(600)),
            ),
            ("only the longest is set", None, Some(900), None, Ok(Some(900))),
            (
                "longer than the default",
                Some(600),
                Some(900),
                Some(900),
                Ok(Some(900)),
            ),
            (
                "beyond the longest",
                None,
                Some(900),
                Some(901),
                Err("at most 15m"),
            ),
            ("too short", None, None, Some(59), Err("at least 1m")),
        ];
        for (name, default, max, ttl, expected) in cases {
            let end = end_of_new(&limits(default, max), ttl.map(Seconds), at(0));
            match expected {
                Ok(expected) => assert_eq!(end.unwrap(), expected.map(at), "{name}"),
                Err(expected) => {
                    let problem = end.unwrap_err().to_string();
                    assert!(problem.contains(expected), "{name}: {problem}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_successor_as_a_table() {
        let cases = [
            ("no end", None, None, None),
            ("its predecessor's", None, Some(60), Some(60)),
            ("a longest time that came later", Some(900), None, Some(900)),
            ("the earlier of both", Some(900), Some(60), Some(60)),
            (
                "the earlier of both, the other way",
                Some(900),
                Some(1000),
                Some(900),
            ),
        ];
        for (name, max, predecessor, expected) in cases {
            let end = end_of_successor(&limits(None, max), predecessor.map(at), at(0));
            assert_eq!(end, expected.map(at), "{name}");
        }
    }
}
