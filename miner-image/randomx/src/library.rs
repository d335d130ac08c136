//! The reference library, by its C interface: `randomx-rs` builds and links it. Its own types make
//! a dataset in one go on one thread, and take it that there is always memory for a machine.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) use randomx_rs::RandomXFlag as Flags;

/// What a dataset is made of, or, in light mode, what is hashed with.
#[derive(Debug)]
pub(crate) struct Cache(NonNull<c_void>);

/// What is hashed with in fast mode.
#[derive(Debug)]
pub(crate) struct Dataset(NonNull<c_void>);

/// One thread's state, on memory that outlives it.
#[derive(Debug)]
pub(crate) struct Machine<'a>(NonNull<c_void>, PhantomData<&'a ()>);

// SAFETY: the library ties none of them to a thread. Through a shared cache or dataset nothing is
// written but in `Dataset::fill`, where each thread keeps to its own items; all of a machine's methods
// want it for themselves.
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
    /// Memory for a cache, if the system gives it. It has to be filled before it is used.
    pub(crate) fn allocate(flags: Flags) -> Option<Self> {
        // SAFETY: takes no pointer, and gives null where there is no memory.
        NonNull::new(unsafe { randomx_alloc_cache(flags.bits()) }).map(Self)
    }

    /// Fills it for a key: all of it, however long it takes.
    pub(crate) fn fill(&mut self, key: &[u8]) {
        // SAFETY: the cache is there, and nobody else has it; the key is copied.
        unsafe { randomx_init_cache(self.0.as_ptr(), key.as_ptr().cast(), key.len()) }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: machines borrow what they use, so there is none any more.
        unsafe { randomx_release_cache(self.0.as_ptr()) }
    }
}

impl Dataset {
    /// Memory for a dataset, if the system gives it. It has to be filled before it is used.
    pub(crate) fn allocate(flags: Flags) -> Option<Self> {
        // SAFETY: takes no pointer, and gives null where there is no memory.
        NonNull::new(unsafe { randomx_alloc_dataset(flags.bits()) }).map(Self)
    }

    /// Makes all of its items out of a filled cache. The threads tell, every few hundred items,
    /// how much of it is done, from 0 to 1, and give up once they are told to break: true if they
    /// came to the end.
    pub(crate) fn fill(
        &mut self,
        cache: &Cache,
        threads: u32,
        tell: &(dyn Fn(f64) -> ControlFlow<()> + Sync),
    ) -> bool {
        // SAFETY: takes nothing.
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
                // SAFETY: both are there, the cache is filled and only read, and the items are
                // within the dataset and this thread's alone. Nobody hashes with the dataset: it
                // would be borrowed.
                unsafe {
                    randomx_init_dataset(dataset.0.as_ptr(), cache.0.as_ptr(), start, count);
                }
                let done = done.fetch_add(count, Ordering::Relaxed) + count;
                if tell(done as f64 / all as f64).is_break() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for index in 1..threads {
                let thread = thread::Builder::new().name(format!("randomx-dataset-{index}"));
                // With fewer threads it takes longer, and that is all.
                let _ = thread.spawn_scoped(scope, fill);
            }
            fill();
        });
        done.into_inner() == all
    }
}

/// How many items a thread makes before it looks whether to go on.
const CHUNK: u64 = 512;

impl Drop for Dataset {
    fn drop(&mut self) {
        // SAFETY: machines borrow what they use, so there is none any more.
        unsafe { randomx_release_dataset(self.0.as_ptr()) }
    }
}

impl<'a> Machine<'a> {
    /// A machine that hashes with a filled cache, if there is memory for it.
    pub(crate) fn light(flags: Flags, cache: &'a Cache) -> Option<Self> {
        // SAFETY: the cache is there for as long as the machine.
        let machine = unsafe { randomx_create_vm(flags.bits(), cache.0.as_ptr(), ptr::null_mut()) };
        NonNull::new(machine).map(|machine| Self(machine, PhantomData))
    }

    /// A machine that hashes with a filled dataset, if there is memory for it.
    pub(crate) fn fast(flags: Flags, dataset: &'a Dataset) -> Option<Self> {
        let flags = flags | Flags::FLAG_FULL_MEM;
        // SAFETY: the dataset is there for as long as the machine, which needs no cache then.
        let machine =
            unsafe { randomx_create_vm(flags.bits(), ptr::null_mut(), dataset.0.as_ptr()) };
        NonNull::new(machine).map(|machine| Self(machine, PhantomData))
    }

    /// Begins with an input.
    pub(crate) fn first(&mut self, input: &[u8]) {
        // SAFETY: the machine is there; the input is read only before the call returns.
        unsafe { randomx_calculate_hash_first(self.0.as_ptr(), input.as_ptr().cast(), input.len()) }
    }

    /// The hash of the input that was begun with; begins with the next.
    pub(crate) fn next(&mut self, input: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        // SAFETY: the machine is there; the input is read, and the 32 bytes are written, only
        // before the call returns.
        unsafe {
            let (data, length) = (input.as_ptr().cast(), input.len());
            randomx_calculate_hash_next(self.0.as_ptr(), data, length, hash.as_mut_ptr().cast());
        }
        round_as_usual();
        hash
    }

    /// The hash of the input that was begun with.
    pub(crate) fn last(&mut self) -> [u8; 32] {
        let mut hash = [0; 32];
        // SAFETY: the machine is there; the 32 bytes are written before the call returns.
        unsafe { randomx_calculate_hash_last(self.0.as_ptr(), hash.as_mut_ptr().cast()) }
        round_as_usual();
        hash
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // SAFETY: it is there, and nobody else has it.
        unsafe { randomx_destroy_vm(self.0.as_ptr()) }
    }
}

/// A hash leaves the thread with another rounding of floating-point numbers than Rust counts on.
fn round_as_usual() {
    // C's `FE_DFL_ENV`, which is no address.
    let default = ptr::without_provenance(usize::MAX);
    // SAFETY: sets the thread's floating-point environment to the one that every thread begins with.
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
