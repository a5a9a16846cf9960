//! Self-supervised learning on libtorch: the facade of the selfsup crates.
