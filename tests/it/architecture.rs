//! The rules of `docs/ARCHITECTURE.md`, checked on the source tree: a test fails if one is broken, and each rule has a
//! test that shows that a violation is found.
//!
//! `figures` prints counts of the tree, for comparing one state of it with another.

mod crates;
mod documents;
mod events;
mod figures;
mod imports;
mod rooms;
mod sizes;
mod tree;
mod words;
