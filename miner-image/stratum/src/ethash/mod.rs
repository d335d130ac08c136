//! Ethash, Etchash and `KawPow`, as their pools give them out: the hash of a block's header, for which a
//! nonce of eight bytes is searched.
//!
//! There are three dialects, with the same [`Work`] and [`Share`]:
//!
//! - [`stratum::EthereumStratum`] is EthereumStratum/1.0.0, which `NiceHash` wrote down: the pool has the
//!   first bytes of the nonce, and sets a difficulty.
//! - [`stratum::Kawpow`] is the Stratum of Ravencoin and its like: the job has a target, and a share the
//!   mix hash.
//! - [`ethproxy::Session`] is `EthProxy`, the node's own `eth_getWork` and `eth_submitWork` with a login.
//!   A job is known by its header.
//!
//! Nothing here computes or verifies a hash.

pub mod ethproxy;
pub mod stratum;

use std::sync::Arc;

use crate::{Difficulty, Target};

/// Bytes of a nonce.
pub const NONCE: usize = 8;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The pool's name of it; in `EthProxy` the header in hexadecimal digits.
    pub id: String,
    /// The hash of the block's header without nonce and mix hash.
    pub header: [u8; 32],
    /// The hash that identifies the epoch, and with it the data set.
    pub seed: [u8; 32],
    /// The target of its shares, where the job itself has it.
    pub target: Option<Target>,
    /// The block's height, if the pool names it.
    pub height: Option<u64>,
    /// The network's target, in the compact form of the header, if the pool names it.
    pub bits: Option<u32>,
    /// Whether shares for earlier jobs no longer count.
    pub clean: bool,
}

/// Requirement that a share has to meet, as the pool states it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// As in Bitcoin, 1 stands for some 2³² hashes.
    Difficulty(Difficulty),
    Target(Target),
}

impl Limit {
    /// Returns the average number of hashes that a share takes.
    pub fn expected_hashes(self) -> u64 {
        match self {
            Self::Difficulty(difficulty) => difficulty.target(),
            Self::Target(target) => target,
        }
        .expected_hashes()
    }
}

/// Work: a job with everything that the search takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub job: Arc<Job>,
    /// The first bytes of the nonce, which are the pool's.
    pub extranonce: Vec<u8>,
    pub limit: Limit,
}

impl Work {
    /// Whether two pieces of work are the same. Whether earlier jobs end with it is no part of it.
    fn same(&self, other: &Self) -> bool {
        let Self { job, extranonce, limit } = self;
        let job = Job { clean: other.job.clean, ..Job::clone(job) };
        job == *other.job && *extranonce == other.extranonce && *limit == other.limit
    }
}

/// A share: a nonce, and where the dialect sends it the mix hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub job: String,
    /// As the dialect sends it: whole, or without the pool's bytes.
    pub nonce: Vec<u8>,
    pub mix: Option<[u8; 32]>,
}
