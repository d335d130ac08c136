//! The parts of a job that concern the engine.

use std::ops::RangeInclusive;

use daylight_stratum::monero::Job;

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

/// Returns a thread's part of the nonces.
pub(crate) fn nonces(thread: u32, of: u32) -> RangeInclusive<u32> {
    let start = |thread: u32| (u64::from(thread) << 32) / u64::from(of);
    let end = start(thread + 1) - 1;
    let within = |nonce: u64| u32::try_from(nonce).unwrap_or(u32::MAX);
    within(start(thread))..=within(end)
}

#[cfg(test)]
mod tests {
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
        for threads in [1, 2, 3, 7, 64, 255] {
            let mut next = 0_u64;
            for thread in 0..threads {
                let part = nonces(thread, threads);
                assert_eq!(u64::from(*part.start()), next, "{thread} of {threads}");
                next = u64::from(*part.end()) + 1;
            }
            assert_eq!(next, 1 << 32, "{threads}");
        }
    }
}
