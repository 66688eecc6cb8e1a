//! One revision of a policy: made from files, and its answers.

mod answers;
pub(crate) mod load;

pub use answers::{Grant, Policy, Question, Verdict};
pub(crate) use answers::{ResolvedSubject, Target};
