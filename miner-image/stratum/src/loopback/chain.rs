//! A chain without blocks: its jobs are invented, and no share is ever a block.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::pool::{Event, MoneroNode, Node, Order, V1Job, V1Node, V1Share};
use crate::sha256d::sha256d;
use crate::{Difficulty, Failure, monero, v1};

/// The node behind a [`super::LoopbackPool`].
#[derive(Debug)]
pub(super) struct Chain {
    proof: fn(&[u8]) -> [u8; 32],
    user: Option<String>,
    refuses_all: bool,
    jobs: Mutex<Jobs>,
    events: watch::Sender<Vec<Event>>,
    orders: broadcast::Sender<Order>,
}

#[derive(Debug)]
struct Jobs {
    /// The first has the number 1.
    all: Vec<Terms>,
    next: Terms,
}

/// Terms of a job. The rest of it follows from its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Number of the last clean job: jobs of one height are valid together.
    height: u64,
    pub(super) difficulty: Difficulty,
    /// Seed of Monero's jobs.
    pub(super) seed: [u8; 32],
}

impl Jobs {
    fn number(&self) -> u64 {
        self.all.len() as u64
    }

    /// The terms of a job for which shares count.
    fn valid(&self, number: u64) -> Option<Terms> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let newest = self.all.last()?;
        self.all.get(index).copied().filter(|terms| terms.height == newest.height)
    }

    fn push(&mut self, clean: bool) {
        if clean {
            self.next.height = self.number() + 1;
        }
        self.all.push(self.next);
    }
}

impl Chain {
    pub(super) fn new(
        proof: fn(&[u8]) -> [u8; 32],
        difficulty: Difficulty,
        user: Option<String>,
        refuses_all: bool,
    ) -> Self {
        let mut jobs = Jobs { all: vec![], next: Terms { height: 0, difficulty, seed: [0; 32] } };
        jobs.push(true);
        let (events, orders) = (watch::channel(vec![]).0, broadcast::channel(64).0);
        Self { proof, user, refuses_all, jobs: Mutex::new(jobs), events, orders }
    }

    pub(super) fn events(&self) -> watch::Receiver<Vec<Event>> {
        self.events.subscribe()
    }

    /// Adds a job and returns its number.
    pub(super) fn extend(&self, clean: bool) -> u64 {
        let mut jobs = self.jobs();
        jobs.push(clean);
        jobs.number()
    }

    /// Changes the terms from the next job on.
    pub(super) fn change(&self, change: impl FnOnce(&mut Terms)) {
        change(&mut self.jobs().next);
    }

    pub(super) fn order(&self, order: Order) {
        // Fails where there is no connection, which needs no order either.
        let _ = self.orders.send(order);
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node for Chain {
    fn orders(&self) -> broadcast::Receiver<Order> {
        self.orders.subscribe()
    }

    fn admits(&self, user: &str) -> bool {
        !self.refuses_all && self.user.as_ref().is_none_or(|wanted| wanted == user)
    }

    fn record(&self, _: Option<&str>, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }
}

impl V1Node for Chain {
    fn newest(&self) -> Option<V1Job> {
        let number = self.jobs().number();
        V1Node::job(self, number)
    }

    fn job(&self, number: u64) -> Option<V1Job> {
        let Terms { height, difficulty, .. } = self.jobs().valid(number)?;
        let bytes = |part: &str| sha256d(format!("{part} {number}").as_bytes());
        let time = 1_700_000_000 + number as u32;
        let job = v1::Job {
            id: String::new(),
            previous: sha256d(format!("previous {height}").as_bytes()),
            coinbase1: bytes("coinbase1").to_vec(),
            coinbase2: bytes("coinbase2").to_vec(),
            branches: vec![bytes("left"), bytes("right")],
            version: 0x2000_0000,
            bits: 0x1d00_ffff,
            time,
            clean: false,
        };
        Some(V1Job { number, job, difficulty, times: time..=time + 7200 })
    }

    async fn accept(&self, _: V1Share<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

impl MoneroNode for Chain {
    async fn new_job(&self, miner: u32) -> Result<monero::Job, Failure> {
        let number = self.jobs().number();
        let gone = || Failure::new(Failure::STALE, "Another job came first");
        MoneroNode::job(self, miner, number).ok_or_else(gone)
    }

    fn job(&self, miner: u32, number: u64) -> Option<monero::Job> {
        let Terms { height, difficulty, seed } = self.jobs().valid(number)?;
        let mut blob = sha256d(format!("{miner} {number}").as_bytes()).repeat(2);
        blob.resize(76, 0);
        blob[monero::Job::NONCE].fill(0);
        Some(monero::Job {
            id: number.to_string(),
            blob,
            target: u64::MAX / difficulty.target().expected_hashes(),
            algorithm: Some("rx/0".into()),
            height: Some(height),
            seed: Some(seed),
        })
    }

    fn is_away(&self) -> bool {
        false
    }

    async fn hash(&self, _: u64, blob: &[u8]) -> Result<[u8; 32], Failure> {
        Ok((self.proof)(blob))
    }

    async fn accept(&self, _: &str, _: u64, _: &monero::Submit) -> Result<(), Failure> {
        Ok(())
    }
}
