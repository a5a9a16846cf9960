//! The widest vector instructions of the machine, for loops that the compiler turns into them.
//!
//! A program for any x86-64 machine may not take more than 128 bits for granted. What is passed here is compiled again for
//! 256 and for 512 bits, as far as it is inlined: all it calls should be `#[inline(always)]`. No operation is fused or
//! exchanged, so that results are the same bit for bit.

/// What is to be compiled several times. A closure would not do: it cannot be `#[inline(always)]`.
pub(super) trait Work {
    /// What it gives.
    type Out;

    /// Does it; to be `#[inline(always)]`.
    fn run(self) -> Self::Out;
}

/// Runs `work` in the widest instructions.
#[inline(always)]
pub(super) fn widest<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the machine has the instructions that the function is compiled for.
            return unsafe { by_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the instructions that the function is compiled for.
            return unsafe { by_avx2(work) };
        }
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn by_avx2<W: Work>(work: W) -> W::Out {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn by_avx512<W: Work>(work: W) -> W::Out {
    work.run()
}
