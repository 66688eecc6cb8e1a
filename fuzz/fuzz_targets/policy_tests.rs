//! Any bytes as `tests/dev.toml` of a policy that is right otherwise: refused or loaded, never a panic.
#![no_main]

mod policy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| policy::load_with("tests/dev.toml", bytes));
