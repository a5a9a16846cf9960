//! The program's allocator, which is libtorch's too.
//!
//! libtorch takes every activation from `malloc` and gives it back within the step. glibc maps large blocks anew each
//! time, so that a training step on a CPU spends half its time in page faults. jemalloc, linked under `malloc`'s own
//! name, keeps the pages: none goes back to the system after a while (`dirty_decay_ms`, `muzzy_decay_ms`), and they
//! come in huge pages (`thp`). That halves the time of a step, at no cost in peak memory.

#[cfg(unix)]
pub use jemalloc::owns;

#[cfg(unix)]
mod jemalloc {
    use std::ffi::c_void;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// jemalloc reads its settings from this symbol before `main`.
    #[cfg_attr(not(target_vendor = "apple"), unsafe(export_name = "malloc_conf"))]
    #[cfg_attr(target_vendor = "apple", unsafe(export_name = "_rjem_malloc_conf"))]
    #[used]
    static SETTINGS: &[u8; 47] = b"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always\0";

    /// Whether jemalloc manages the memory at `pointer`.
    pub fn owns(pointer: *const c_void) -> bool {
        let mut arena: u32 = 0;
        let mut size = size_of::<u32>();
        // SAFETY: "arenas.lookup" reads the pointer's value and writes a u32; it does not touch what is pointed to.
        let answer = unsafe {
            tikv_jemalloc_sys::mallctl(
                c"arenas.lookup".as_ptr(),
                (&raw mut arena).cast(),
                &raw mut size,
                (&raw const pointer).cast_mut().cast(),
                size_of::<*const c_void>(),
            )
        };
        answer == 0
    }

    #[cfg(all(test, not(target_vendor = "apple")))]
    mod tests {
        use super::owns;
        use selfsup::core::{Device, Kind, Tensor};

        #[test]
        fn the_memory_of_tensors_is_jemallocs() {
            let x = Tensor::zeros([1 << 20], (Kind::Float, Device::Cpu));
            assert!(owns(x.data_ptr()));
            let on_the_stack = 0_u64;
            assert!(!owns((&raw const on_the_stack).cast()));
        }

        #[test]
        fn its_settings_are_read() {
            let mut decay: isize = 0;
            let mut size = size_of::<isize>();
            // SAFETY: "opt.dirty_decay_ms" writes an isize.
            let answer = unsafe {
                tikv_jemalloc_sys::mallctl(
                    c"opt.dirty_decay_ms".as_ptr(),
                    (&raw mut decay).cast(),
                    &raw mut size,
                    std::ptr::null_mut(),
                    0,
                )
            };
            assert_eq!((answer, decay), (0, -1));
        }
    }
}

/// Whether jemalloc manages the memory at `pointer`: there is none here.
#[cfg(not(unix))]
pub fn owns(_pointer: *const std::ffi::c_void) -> bool {
    false
}
