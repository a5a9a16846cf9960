//! Is one representation better than another, or only luckier?
//!
//! - `paired`: two classifiers on the same samples, by bootstrap and by permutation
//! - `mcnemar`: the same for right and wrong answers alone, exactly
//! - `holm`: several tests at once
//! - `seeds`: repetitions with other seeds
//! - `cka`: how alike the layers of two networks are

pub mod cka;
pub mod holm;
pub mod mcnemar;
pub mod paired;
pub mod seeds;
