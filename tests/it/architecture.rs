//! The rules of `docs/ARCHITECTURE.md`, read off the tree: a test fails where one is broken, and each rule has a test
//! that shows that it would.
//!
//! `figures` prints what is counted of the tree, for comparing one state of it with another.

mod crates;
mod documents;
mod events;
mod figures;
mod imports;
mod rooms;
mod sizes;
mod tree;
mod words;
