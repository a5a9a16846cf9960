//! The `selfsup` program.
fn main() {}
