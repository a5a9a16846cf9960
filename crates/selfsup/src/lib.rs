#![doc = include_str!("../../../docs/guide.md")]

pub use selfsup_core as core;
pub use selfsup_data as data;
pub use selfsup_encoders as encoders;
pub use selfsup_eval as eval;
pub use selfsup_fetch as fetch;
pub use selfsup_labels as labels;
pub use selfsup_numerics as numerics;
pub use selfsup_objectives as objectives;
pub use selfsup_train as train;
