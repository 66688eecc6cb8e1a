//! The line by which the parent process knows that the load is there.

/// Prints it.
pub(super) fn announce() {
    println!("{{}}");
}
