//! The memory of the hashes: the cache or the dataset, and the threads' machines on it.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::library::{Cache, Dataset, Flags, Machine};
use crate::{Error, NoHugePages, Pages, limits};

/// Trade of memory for speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 256 MiB.
    Light,
    /// 2080 MiB, and 256 MiB more while they are filled. Several times as fast.
    Fast,
}

/// Options of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that hash and, in fast mode, fill the dataset.
    pub threads: NonZeroU32,
    pub mode: Mode,
    /// Whether to use huge pages if the system has enough of them.
    pub huge_pages: bool,
}

/// The memory that all threads share. [`Memory::prepare`] fills it, and returns the [`Ready`] from which
/// each thread gets a [`Hasher`].
#[derive(Debug)]
pub struct Memory {
    options: Options,
    pages: Pages,
    /// In fast mode only while the dataset is filled.
    cache: Option<Cache>,
    dataset: Option<Dataset>,
    /// The key for which all of it was filled.
    key: Option<Vec<u8>>,
}

/// Memory that is filled for a key.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a>(&'a Memory);

/// Computes hashes on one thread.
#[derive(Debug)]
pub struct Hasher<'a>(Machine<'a>);

/// Receives the percentage that is done, and returns whether to continue.
pub type Progress<'a> = dyn Fn(u8) -> ControlFlow<()> + Sync + 'a;

impl Mode {
    /// Shared memory in MiB, by the library's sizes.
    fn shared(self) -> u64 {
        match self {
            Self::Light => CACHE,
            Self::Fast => CACHE + DATASET,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Light => "light",
            Self::Fast => "fast",
        })
    }
}

/// Sizes in MiB: the shared parts, and each thread's.
const CACHE: u64 = 256;
const DATASET: u64 = 2080;
const THREAD: u64 = 2;

const MIB: u64 = 1 << 20;

/// Longest time until a break is noticed while a cache is filled.
const PATIENCE: Duration = Duration::from_millis(5);

impl Options {
    /// Memory in MiB, at most.
    pub(crate) fn needed(self) -> u64 {
        self.mode.shared() + THREAD * u64::from(self.threads.get())
    }

    /// Checks the container's limit, since the kernel kills a container that passes it.
    pub(crate) fn check(self, root: &Path) -> Result<(), Error> {
        let (needed, limit) = (self.needed(), limits::memory(root));
        match limit.map(|limit| limit / MIB).filter(|limit| *limit < needed) {
            Some(limit) => Err(Error::Limit { mode: self.mode, needed, limit }),
            None => Ok(()),
        }
    }

    fn pages(self, root: &Path) -> Pages {
        let needed = self.needed();
        match limits::huge_pages(root).map(|limit| limit / MIB) {
            _ if !self.huge_pages => Pages::Normal,
            Some(limit) if limit < needed => {
                Pages::NormalInstead(NoHugePages::Limit { needed, limit })
            }
            _ => Pages::Huge,
        }
    }

    /// Allocates a part, on huge pages first if they are allowed. Once an allocation on them fails, they
    /// are not tried again: cache and dataset would otherwise be on different pages.
    fn allocate<T>(
        self,
        pages: &mut Pages,
        part: &'static str,
        allocate: impl Fn(Flags) -> Option<T>,
    ) -> Result<T, Error> {
        let needed = self.needed();
        if *pages == Pages::Huge {
            if let Some(memory) = allocate(Flags::get_recommended_flags() | Flags::FLAG_LARGE_PAGES)
            {
                return Ok(memory);
            }
            *pages = Pages::NormalInstead(NoHugePages::Free { needed });
        }
        allocate(Flags::get_recommended_flags()).ok_or(Error::Memory {
            mode: self.mode,
            part,
            needed,
        })
    }
}

impl Memory {
    /// Checks the limits. Allocates nothing so far.
    pub fn new(options: Options) -> Result<Self, Error> {
        let root = Path::new(limits::ROOT);
        options.check(root)?;
        let pages = options.pages(root);
        Ok(Self { options, pages, cache: None, dataset: None, key: None })
    }

    /// Fills it for a key, which is a job's seed, unless it is filled for that key already. Reports the
    /// progress meanwhile, and returns none soon after the answer is to break.
    pub fn prepare(
        &mut self,
        key: &[u8],
        progress: &Progress<'_>,
    ) -> Result<Option<Ready<'_>>, Error> {
        if self.key.as_deref() != Some(key) {
            self.key = None;
            if progress(0).is_break()
                || !self.fill_cache(key, progress)?
                || !(self.options.mode == Mode::Light || self.fill_dataset(progress)?)
            {
                return Ok(None);
            }
            self.key = Some(key.into());
        }
        Ok(Some(Ready(self)))
    }

    /// Returns its pages; before they are allocated, those that will be tried.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Fills the cache. The library cannot interrupt that, so a thread does it: after a break it is left
    /// to finish, and drops the cache itself.
    fn fill_cache(&mut self, key: &[u8], progress: &Progress<'_>) -> Result<bool, Error> {
        let (options, mut pages) = (self.options, self.pages.clone());
        let (cache, key) = (self.cache.take(), key.to_vec());
        let (done, filled) = mpsc::sync_channel(1);
        let fill = move || {
            let cache = match cache {
                Some(cache) => Ok(cache),
                None => options.allocate(&mut pages, "cache", Cache::allocate),
            };
            let filled = cache.map(|mut cache| {
                cache.fill(&key);
                (cache, pages)
            });
            // Fails after a break. The cache is dropped here then.
            let _ = done.send(filled);
        };
        let thread = thread::Builder::new().name("randomx-cache".into()).spawn(fill);
        thread.map_err(|error| Error::thread(&error))?;
        loop {
            match filled.recv_timeout(PATIENCE) {
                Ok(filled) => {
                    let (cache, pages) = filled?;
                    (self.cache, self.pages) = (Some(cache), pages);
                    return Ok(true);
                }
                Err(RecvTimeoutError::Timeout) if progress(0).is_continue() => {}
                // A break, or the thread panicked, which has been printed.
                Err(_) => return Ok(false),
            }
        }
    }

    fn fill_dataset(&mut self, progress: &Progress<'_>) -> Result<bool, Error> {
        let Some(cache) = &self.cache else { return Ok(false) };
        let dataset = match &mut self.dataset {
            Some(dataset) => dataset,
            none => {
                let dataset =
                    self.options.allocate(&mut self.pages, "dataset", Dataset::allocate)?;
                none.insert(dataset)
            }
        };
        let percent = |part: f64| progress((part * 100.0) as u8);
        let filled = dataset.fill(cache, self.options.threads.get(), &percent);
        if filled {
            // Hashes use only the dataset. Not freed after a break, which must not wait for the system.
            self.cache = None;
        }
        Ok(filled)
    }
}

impl<'a> Ready<'a> {
    /// Returns its pages.
    pub fn pages(&self) -> &'a Pages {
        &self.0.pages
    }

    /// Creates the hasher of a thread.
    pub fn hasher(&self) -> Result<Hasher<'a>, Error> {
        let memory = self.0;
        // A machine has 2 MiB. On normal pages it loses little, so the memory's pages are still reported.
        let mut pages = memory.pages.clone();
        let machine = memory.options.allocate(&mut pages, "threads", |flags| {
            match (&memory.dataset, &memory.cache) {
                (Some(dataset), _) => Machine::fast(flags, dataset),
                (None, Some(cache)) => Machine::light(flags, cache),
                (None, None) => None,
            }
        })?;
        Ok(Hasher(machine))
    }
}

impl Hasher<'_> {
    /// Returns the hash of one input.
    pub fn hash(&mut self, input: &[u8]) -> [u8; 32] {
        self.begin(input);
        self.0.last()
    }

    /// Begins the hash of an input, which [`Self::next`] returns.
    pub fn begin(&mut self, input: &[u8]) {
        self.0.first(input);
    }

    /// Returns the hash that was begun, and begins another in the same pass over the thread's memory.
    /// Meaningless where none was begun.
    pub fn next(&mut self, input: &[u8]) -> [u8; 32] {
        self.0.next(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn options(mode: Mode, huge_pages: bool) -> Options {
        Options { threads: NonZeroU32::new(4).unwrap(), mode, huge_pages }
    }

    #[test]
    fn memory_above_the_containers_limit_is_not_tried() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let (light, fast) = (options(Mode::Light, true), options(Mode::Fast, true));
        assert_eq!(fast.check(root), Ok(()));
        assert_eq!(fast.pages(root), Pages::Huge);

        fs::write(root.join("memory.max"), (300 * MIB).to_string()).unwrap();
        fs::write(root.join("hugetlb.2MB.max"), (300 * MIB).to_string()).unwrap();
        assert_eq!(light.check(root), Ok(()));
        assert_eq!(light.pages(root), Pages::Huge);
        assert_eq!(options(Mode::Light, false).pages(root), Pages::Normal);
        let limit = Error::Limit { mode: Mode::Fast, needed: 2344, limit: 300 };
        assert_eq!(fast.check(root), Err(limit));
        assert_eq!(
            fast.pages(root).to_string(),
            "normal pages instead of huge ones, since 2344 MiB of huge pages are needed and the \
             container's limit is 300 MiB: raise its hugepages-2Mi"
        );
    }

    #[test]
    fn without_huge_pages_there_are_normal_ones() {
        let options = options(Mode::Light, true);
        let asked = std::cell::RefCell::new(vec![]);
        let large = |flags: Flags| {
            asked.borrow_mut().push(flags.contains(Flags::FLAG_LARGE_PAGES));
            (!flags.contains(Flags::FLAG_LARGE_PAGES)).then_some(())
        };
        let mut pages = Pages::Huge;
        assert_eq!(options.allocate(&mut pages, "cache", large), Ok(()));
        assert_eq!(
            pages.to_string(),
            "normal pages instead of huge ones, since 264 MiB of huge pages are needed and the node \
             has fewer free: reserve more there (vm.nr_hugepages)"
        );
        // It is not tried again.
        assert_eq!(options.allocate(&mut pages, "dataset", large), Ok(()));
        assert_eq!(*asked.borrow(), [true, false, false]);
        let none = options.allocate::<()>(&mut pages, "dataset", |_| None);
        assert!(matches!(none, Err(Error::Memory { part: "dataset", .. })));
    }
}
