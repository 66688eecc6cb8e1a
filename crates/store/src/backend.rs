//! What the backends share, and no other crate needs.

pub use crate::{
    caught::caught,
    encoding::{decode, encode},
    log::{
        LogStart,
        cutoff::{FAR, LEFT_MAX, cutoff_target, cutoff_until, placed, remembered},
    },
    pauses::Pauses,
    unit::Step,
};
