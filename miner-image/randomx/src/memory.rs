//! What is hashed with: the cache or the dataset, and the threads' machines on it.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::library::{Cache, Dataset, Flags, Machine};
use crate::{Error, NoHugePages, Pages, limits};

/// How much memory the hashing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 256 MiB.
    Light,
    /// 2080 MiB, and 256 MiB more while they are made. Several times as fast.
    Fast,
}

/// How to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many threads are to hash; in fast mode as many make the dataset.
    pub threads: NonZeroU32,
    /// How much memory they may have.
    pub mode: Mode,
    /// Whether to use huge pages where the system has enough of them.
    pub huge_pages: bool,
}

/// The memory that all threads share.
#[derive(Debug)]
pub struct Memory {
    options: Options,
    pages: Pages,
    /// In fast mode only while the dataset is made.
    cache: Option<Cache>,
    dataset: Option<Dataset>,
    /// What all of it was made of.
    key: Option<Vec<u8>>,
}

/// Memory that is made.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a>(&'a Memory);

/// A thread's means to hash.
#[derive(Debug)]
pub struct Hasher<'a>(Machine<'a>);

/// Is told how many percent are done, and tells whether to go on.
pub type Tell<'a> = dyn Fn(u8) -> ControlFlow<()> + Sync + 'a;

impl Mode {
    /// In MiB, as the library's sizes are.
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

/// Sizes in MiB: what is shared, and what each thread has.
const CACHE: u64 = 256;
const DATASET: u64 = 2080;
const THREAD: u64 = 2;

const MIB: u64 = 1 << 20;

/// How long it may take until a cache that is being made is given up.
const PATIENCE: Duration = Duration::from_millis(5);

impl Options {
    /// In MiB, at most.
    pub(crate) fn needed(self) -> u64 {
        self.mode.shared() + THREAD * u64::from(self.threads.get())
    }

    /// Whether the container may have as much. What it takes beyond that it would be killed for.
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

    /// Tries huge pages first where they may be had, and gives up on them for good where there are
    /// none.
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
    /// Checks that there may be as much; takes none yet.
    pub fn new(options: Options) -> Result<Self, Error> {
        let root = Path::new(limits::ROOT);
        options.check(root)?;
        let pages = options.pages(root);
        Ok(Self { options, pages, cache: None, dataset: None, key: None })
    }

    /// Makes it for a key, which is a job's seed; there is nothing to do where it is made for this
    /// key already. All the while it tells how many percent are done, and gives up soon after
    /// it is told to break: then there is none.
    pub fn prepare(&mut self, key: &[u8], tell: &Tell<'_>) -> Result<Option<Ready<'_>>, Error> {
        if self.key.as_deref() != Some(key) {
            self.key = None;
            if tell(0).is_break()
                || !self.fill_cache(key, tell)?
                || !(self.options.mode == Mode::Light || self.fill_dataset(tell)?)
            {
                return Ok(None);
            }
            self.key = Some(key.into());
        }
        Ok(Some(Ready(self)))
    }

    /// The pages that it is on, or will be as far as can be told before.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The library fills a cache in one go; where that is not waited for, a thread of its own ends
    /// it and throws it away.
    fn fill_cache(&mut self, key: &[u8], tell: &Tell<'_>) -> Result<bool, Error> {
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
            // Nobody may wait for it any more.
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
                Err(RecvTimeoutError::Timeout) if tell(0).is_continue() => {}
                // Told to break, or the thread panicked and has said so.
                Err(_) => return Ok(false),
            }
        }
    }

    fn fill_dataset(&mut self, tell: &Tell<'_>) -> Result<bool, Error> {
        let Some(cache) = &self.cache else { return Ok(false) };
        let dataset = match &mut self.dataset {
            Some(dataset) => dataset,
            none => {
                let dataset =
                    self.options.allocate(&mut self.pages, "dataset", Dataset::allocate)?;
                none.insert(dataset)
            }
        };
        let tell = |part: f64| tell((part * 100.0) as u8);
        let filled = dataset.fill(cache, self.options.threads.get(), &tell);
        if filled {
            // Only the dataset is hashed with. Who gave up is not to wait for this.
            self.cache = None;
        }
        Ok(filled)
    }
}

impl<'a> Ready<'a> {
    /// The pages that it is on.
    pub fn pages(&self) -> &'a Pages {
        &self.0.pages
    }

    /// A thread's means to hash.
    pub fn hasher(&self) -> Result<Hasher<'a>, Error> {
        let memory = self.0;
        // Where these last few huge pages are missing, little is lost.
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
    /// The hash of one input.
    pub fn hash(&mut self, input: &[u8]) -> [u8; 32] {
        self.begin(input);
        self.0.last()
    }

    /// Begins with an input, whose hash [`Self::next`] gives.
    pub fn begin(&mut self, input: &[u8]) {
        self.0.first(input);
    }

    /// The hash of the input that was begun with; begins with another in the same pass over the
    /// thread's memory. Means nothing where nothing was begun.
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
    fn what_the_container_may_not_have_is_not_tried() {
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
            "normal pages instead of huge ones, since the container may have 300 MiB of huge pages \
             and 2344 MiB are needed: give it more hugepages-2Mi"
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
            "normal pages instead of huge ones, since the system has not 264 MiB of huge pages \
             free: have the node set aside more (vm.nr_hugepages)"
        );
        // It is not tried again.
        assert_eq!(options.allocate(&mut pages, "dataset", large), Ok(()));
        assert_eq!(*asked.borrow(), [true, false, false]);
        let none = options.allocate::<()>(&mut pages, "dataset", |_| None);
        assert!(matches!(none, Err(Error::Memory { part: "dataset", .. })));
    }
}
