//! Every reason of the contract is used somewhere: each has a test in this directory that names it, or is in the list
//! of reasons that no request can cause yet, with an explanation.

use tessera_proto::v1::ErrorReason;

const SOURCES: [&str; 13] = [
    include_str!("addresses.rs"),
    include_str!("api_keys.rs"),
    include_str!("backups.rs"),
    include_str!("calls.rs"),
    include_str!("sessions.rs"),
    include_str!("hostile.rs"),
    include_str!("introspection.rs"),
    include_str!("issuing.rs"),
    include_str!("policies.rs"),
    include_str!("revoking.rs"),
    include_str!("stores.rs"),
    include_str!("token_size.rs"),
    include_str!("watching.rs"),
];

/// Reasons that no request causes, and why.
const NOT_REACHED: [(&str, &str); 1] = [("INTERNAL", "a defect of the server")];

#[test]
fn every_reason_is_tested() {
    let mut missing = Vec::new();
    for number in 1.. {
        let Ok(reason) = ErrorReason::try_from(number) else {
            break;
        };
        let name = reason.as_str_name().strip_prefix("ERROR_REASON_").unwrap();
        let is_tested = SOURCES
            .iter()
            .any(|source| source.contains(&format!("/ {name}\"")));
        let is_excused = NOT_REACHED.iter().any(|(excused, _)| *excused == name);
        if is_tested == is_excused {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "tested and excused, or neither: {missing:?}");
}
