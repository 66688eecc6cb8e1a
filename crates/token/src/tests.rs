//! Tests of the whole crate: the official vectors, and our own credentials.

mod credentials;
mod vectors;
