use std::cell::Cell;

use tessera_core::{ApiKeyId, Timestamp};
use tessera_store_conformance::fixture::{api_key, api_key_id};

use super::*;

fn revoked(number: u64) -> ApiKey {
    ApiKey {
        revoked_at: Some(Timestamp::from_millis(1)),
        ..api_key(number, "production")
    }
}

fn ask(keys: &ApiKeys, id: &ApiKeyId, row: ApiKey) -> ApiKey {
    let found = keys.get(id, || Ok(Some(row))).unwrap().unwrap();
    ApiKey::clone(&found)
}

#[test]
fn a_key_is_read_once_until_one_changes() {
    let (keys, id) = (ApiKeys::default(), api_key_id(1));
    let old = api_key(1, "production");
    assert_eq!(ask(&keys, &id, old.clone()), old);
    assert_eq!(ask(&keys, &id, revoked(1)), old);
    keys.clear();
    assert_eq!(ask(&keys, &id, revoked(1)), revoked(1));
}

#[test]
fn what_was_read_before_a_change_is_not_kept_after_it() {
    let (keys, id) = (ApiKeys::default(), api_key_id(1));
    let old = api_key(1, "production");
    let slow = keys.get(&id, || {
        keys.clear();
        Ok(Some(old.clone()))
    });
    assert_eq!(slow.unwrap().as_deref(), Some(&old));
    assert_eq!(ask(&keys, &id, revoked(1)), revoked(1));
}

#[test]
fn what_is_not_there_is_asked_for_each_time_and_the_number_of_keys_is_bounded() {
    let keys = ApiKeys::default();
    let reads = Cell::new(0);
    for _ in 0..2 {
        let none = keys.get(&api_key_id(1), || {
            reads.set(reads.get() + 1);
            Ok(None)
        });
        assert_eq!(none.unwrap(), None);
    }
    assert_eq!(reads.get(), 2);
    for number in 0..KEPT_MAX as u64 + 10 {
        ask(&keys, &api_key_id(number), api_key(number, "production"));
    }
    assert!((1..=KEPT_MAX).contains(&keys.0.read().keys.len()));
}
