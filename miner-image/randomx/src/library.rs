//! The reference library by its C interface; `randomx-rs` builds and links it.
//!
//! The types of `randomx-rs` are not used: they fill a dataset in one call on one thread, and assume
//! that there is always memory for a machine.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) use randomx_rs::RandomXFlag as Flags;

/// The source of a dataset or, in light mode, the memory of all machines.
#[derive(Debug)]
pub(crate) struct Cache(NonNull<c_void>);

/// The memory of all machines in fast mode.
#[derive(Debug)]
pub(crate) struct Dataset(NonNull<c_void>);

/// One thread's virtual machine, on memory that outlives it.
#[derive(Debug)]
pub(crate) struct Machine<'a>(NonNull<c_void>, PhantomData<&'a ()>);

// SAFETY: the library ties none of them to a thread. Shared caches and datasets are written only in
// `Dataset::fill`, where each thread writes items of its own. All methods of a machine take `&mut self`.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}
// SAFETY: as above.
unsafe impl Send for Dataset {}
// SAFETY: as above.
unsafe impl Sync for Dataset {}
// SAFETY: as above.
unsafe impl Send for Machine<'_> {}

impl Cache {
    /// Allocates a cache, if there is memory for it. It must be filled before it is used.
    pub(crate) fn allocate(flags: Flags) -> Option<Self> {
        // SAFETY: takes no pointer, and returns null where there is no memory.
        NonNull::new(unsafe { randomx_alloc_cache(flags.bits()) }).map(Self)
    }

    /// Fills it for a key. The library cannot interrupt this.
    pub(crate) fn fill(&mut self, key: &[u8]) {
        // SAFETY: the cache is valid and borrowed exclusively; the library copies the key.
        unsafe { randomx_init_cache(self.0.as_ptr(), key.as_ptr().cast(), key.len()) }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: machines borrow their memory, so none is left.
        unsafe { randomx_release_cache(self.0.as_ptr()) }
    }
}

impl Dataset {
    /// Allocates a dataset, if there is memory for it. It must be filled before it is used.
    pub(crate) fn allocate(flags: Flags) -> Option<Self> {
        // SAFETY: takes no pointer, and returns null where there is no memory.
        NonNull::new(unsafe { randomx_alloc_dataset(flags.bits()) }).map(Self)
    }

    /// Computes all items from a filled cache. Every few hundred items, each thread reports the share
    /// that is done, from 0 to 1, and stops if the answer is to break. Returns whether it is complete.
    pub(crate) fn fill(
        &mut self,
        cache: &Cache,
        threads: u32,
        progress: &(dyn Fn(f64) -> ControlFlow<()> + Sync),
    ) -> bool {
        // SAFETY: takes no arguments.
        let all = unsafe { randomx_dataset_item_count() };
        let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let dataset = &*self;
        let fill = || {
            loop {
                let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                let count = CHUNK.min(all.saturating_sub(start));
                if count == 0 {
                    return;
                }
                // SAFETY: both are valid, the cache is filled and only read, and the items are within
                // the dataset and this thread's alone, as `next` gives each out once. No machine uses
                // the dataset, or it could not be borrowed exclusively.
                unsafe {
                    randomx_init_dataset(dataset.0.as_ptr(), cache.0.as_ptr(), start, count);
                }
                let done = done.fetch_add(count, Ordering::Relaxed) + count;
                if progress(done as f64 / all as f64).is_break() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for index in 1..threads {
                let thread = thread::Builder::new().name(format!("randomx-dataset-{index}"));
                // A thread that cannot be started only makes this slower.
                let _ = thread.spawn_scoped(scope, fill);
            }
            fill();
        });
        done.into_inner() == all
    }
}

/// Items that a thread computes between two reports: some milliseconds, so that a stop is quick.
const CHUNK: u64 = 512;

impl Drop for Dataset {
    fn drop(&mut self) {
        // SAFETY: machines borrow their memory, so none is left.
        unsafe { randomx_release_dataset(self.0.as_ptr()) }
    }
}

impl<'a> Machine<'a> {
    /// Creates a machine on a filled cache, if there is memory for it.
    pub(crate) fn light(flags: Flags, cache: &'a Cache) -> Option<Self> {
        // SAFETY: the cache outlives the machine, which borrows it.
        let machine = unsafe { randomx_create_vm(flags.bits(), cache.0.as_ptr(), ptr::null_mut()) };
        NonNull::new(machine).map(|machine| Self(machine, PhantomData))
    }

    /// Creates a machine on a filled dataset, if there is memory for it.
    pub(crate) fn fast(flags: Flags, dataset: &'a Dataset) -> Option<Self> {
        let flags = flags | Flags::FLAG_FULL_MEM;
        // SAFETY: the dataset outlives the machine, which borrows it and needs no cache then.
        let machine =
            unsafe { randomx_create_vm(flags.bits(), ptr::null_mut(), dataset.0.as_ptr()) };
        NonNull::new(machine).map(|machine| Self(machine, PhantomData))
    }

    /// Begins the hash of an input.
    pub(crate) fn first(&mut self, input: &[u8]) {
        // SAFETY: the machine is valid; the input is not read after the call returns.
        unsafe { randomx_calculate_hash_first(self.0.as_ptr(), input.as_ptr().cast(), input.len()) }
    }

    /// Returns the hash that was begun, and begins that of the next input.
    pub(crate) fn next(&mut self, input: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        // SAFETY: the machine is valid; the input is not read, and the 32 bytes are not written, after
        // the call returns.
        unsafe {
            let (data, length) = (input.as_ptr().cast(), input.len());
            randomx_calculate_hash_next(self.0.as_ptr(), data, length, hash.as_mut_ptr().cast());
        }
        restore_rounding();
        hash
    }

    /// Returns the hash that was begun.
    pub(crate) fn last(&mut self) -> [u8; 32] {
        let mut hash = [0; 32];
        // SAFETY: the machine is valid; the 32 bytes are not written after the call returns.
        unsafe { randomx_calculate_hash_last(self.0.as_ptr(), hash.as_mut_ptr().cast()) }
        restore_rounding();
        hash
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // SAFETY: it is valid and owned.
        unsafe { randomx_destroy_vm(self.0.as_ptr()) }
    }
}

/// Restores the floating-point environment. A hash leaves the thread with another rounding mode, which
/// Rust assumes never changes.
fn restore_rounding() {
    // C's `FE_DFL_ENV`, which is not an address.
    let default = ptr::without_provenance(usize::MAX);
    // SAFETY: sets the environment with which every thread begins.
    unsafe { fesetenv(default) };
}

unsafe extern "C" {
    fn randomx_alloc_cache(flags: c_uint) -> *mut c_void;
    fn randomx_init_cache(cache: *mut c_void, key: *const c_void, size: usize);
    fn randomx_release_cache(cache: *mut c_void);
    fn randomx_alloc_dataset(flags: c_uint) -> *mut c_void;
    fn randomx_dataset_item_count() -> c_ulong;
    fn randomx_init_dataset(
        dataset: *mut c_void,
        cache: *mut c_void,
        start: c_ulong,
        count: c_ulong,
    );
    fn randomx_release_dataset(dataset: *mut c_void);
    fn randomx_create_vm(flags: c_uint, cache: *mut c_void, dataset: *mut c_void) -> *mut c_void;
    fn randomx_destroy_vm(machine: *mut c_void);
    fn randomx_calculate_hash_first(machine: *mut c_void, input: *const c_void, size: usize);
    fn randomx_calculate_hash_next(
        machine: *mut c_void,
        next_input: *const c_void,
        next_size: usize,
        output: *mut c_void,
    );
    fn randomx_calculate_hash_last(machine: *mut c_void, output: *mut c_void);
}

#[link(name = "m")]
unsafe extern "C" {
    fn fesetenv(environment: *const c_void) -> c_int;
}
