//! Benchmarks of the selfsup workspace; run them with `cargo xtask bench`.
