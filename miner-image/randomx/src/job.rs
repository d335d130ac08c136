//! The parts of a job that concern the engine.

use std::ops::RangeInclusive;

use daylight_stratum::monero::{Job, Work};

/// Reason why a job cannot be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedJob {
    /// It is for another algorithm.
    #[error("the pool's job is for {0}, and this engine hashes only rx/0: choose a pool for rx/0")]
    Algorithm(String),
    /// It has no seed, from which the memory is filled.
    #[error("the pool's job has no seed_hash, which rx/0 needs: choose a pool for rx/0")]
    NoSeed,
}

/// Returns the seed of a job. A job that names no algorithm counts as rx/0.
pub(crate) fn seed(job: &Job) -> Result<[u8; 32], UnsupportedJob> {
    match &job.algorithm {
        Some(algorithm) if algorithm != "rx/0" => Err(UnsupportedJob::Algorithm(algorithm.clone())),
        _ => job.seed.ok_or(UnsupportedJob::NoSeed),
    }
}

/// One thread's part of the nonces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) thread: u32,
    /// Number of threads.
    pub(crate) of: u32,
}

impl Part {
    /// Returns its nonces for work. Where the highest byte is the pool's, all of them have it.
    pub(crate) fn nonces(self, work: &Work) -> RangeInclusive<u32> {
        let (bits, fixed) = match work.kept_byte() {
            None => (32, 0),
            Some(byte) => (24, u32::from(byte) << 24),
        };
        let start = |thread: u32| (u64::from(thread) << bits) / u64::from(self.of);
        let end = start(self.thread + 1) - 1;
        let within = |nonce: u64| u32::try_from(nonce).unwrap_or(u32::MAX) | fixed;
        within(start(self.thread))..=within(end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn job(algorithm: Option<&str>, seed: Option<[u8; 32]>) -> Job {
        let algorithm = algorithm.map(String::from);
        Job { id: "1".into(), blob: vec![0; 76], target: 1, algorithm, height: None, seed }
    }

    #[test]
    fn other_algorithms_are_refused_in_a_sentence() {
        assert_eq!(seed(&job(Some("rx/0"), Some([1; 32]))), Ok([1; 32]));
        assert_eq!(seed(&job(None, Some([1; 32]))), Ok([1; 32]));
        assert_eq!(seed(&job(Some("rx/0"), None)), Err(UnsupportedJob::NoSeed));
        assert_eq!(
            seed(&job(Some("rx/wow"), Some([1; 32]))).unwrap_err().to_string(),
            "the pool's job is for rx/wow, and this engine hashes only rx/0: choose a pool for rx/0"
        );
    }

    #[test]
    fn the_parts_are_all_nonces_and_none_twice() {
        let mut with_byte = job(None, None);
        with_byte.blob[42] = 0xa7;
        for (job, first, last) in
            [(job(None, None), 0_u64, 0xffff_ffff), (with_byte, 0xa700_0000, 0xa7ff_ffff)]
        {
            let work = Work { keeps_byte: first > 0, job: Arc::new(job) };
            for of in [1, 2, 3, 7, 64, 255] {
                let mut next = first;
                for thread in 0..of {
                    let nonces = Part { thread, of }.nonces(&work);
                    assert_eq!(u64::from(*nonces.start()), next, "{thread} of {of}");
                    next = u64::from(*nonces.end()) + 1;
                }
                assert_eq!(next, last + 1, "{of}");
            }
        }
    }
}
