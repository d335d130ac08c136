//! Verdicts on shares.

use std::io;

use daylight_stratum::sha256d::sha256d;
use daylight_stratum::v1;
use tokio::time::{Instant, sleep};

use super::{Connection, READ, Then};
use crate::soak::pool::Phase;
use crate::soak::shapes::Verdict;

/// Rejected shares in a row after which the agent leaves.
const MOST_REJECTED: u32 = 10;

impl Connection {
    /// Answers a share, or not.
    pub(super) async fn judge(&mut self, id: &str, line: &str) -> io::Result<Then> {
        self.since_job += 1;
        self.pool.books().shares += 1;
        let mut verdict = match self.random.below(100) {
            _ if self.pool.phase() != Phase::Misbehaving => Verdict::Accepted,
            0..10 => Verdict::Rejected,
            10..17 => Verdict::Stale,
            _ => Verdict::Accepted,
        };
        match self.check(line) {
            Ok(true) => {}
            Ok(false) => verdict = Verdict::Stale,
            Err(why) => {
                self.pool.books().wrong.push(format!("{why}: {line}"));
                verdict = Verdict::Rejected;
            }
        }
        if self.swallow > 0 {
            self.swallow -= 1;
            self.unanswered += 1;
            self.pool.books().unanswered += 1;
            self.pool.note("share unanswered");
            return Ok(Then::Stay);
        }
        if self.misbehaves() && self.random.chance(5) {
            sleep(self.random.between(10, 300)).await;
        }
        let forget = std::mem::take(&mut self.forget);
        if forget {
            self.pool.note("session forgotten");
            verdict = Verdict::Rejected;
        }
        let answer = match forget {
            true => self.pool.dialect.forgotten(&mut self.random, id),
            false => self.pool.dialect.answer(&mut self.random, verdict, id),
        };
        self.send(&answer).await?;
        self.pool.books().answered.add(verdict);
        while self.recent.front().is_some_and(|(at, _)| at.elapsed() >= READ) {
            self.recent.pop_front();
        }
        self.recent.push_back((Instant::now(), verdict));
        match verdict {
            Verdict::Accepted => self.rejected_in_a_row = 0,
            Verdict::Rejected => self.rejected_in_a_row += 1,
            Verdict::Stale => {}
        }
        if !forget && self.misbehaves() && self.random.chance(2) {
            self.pool.note("share answered twice");
            let again = self.pool.dialect.answer(&mut self.random, Verdict::Rejected, id);
            self.send(again).await?;
            self.rejected_in_a_row += 1;
        }
        // The agent leaves then, and reads no answer behind this one.
        let leaves = forget || self.rejected_in_a_row >= MOST_REJECTED;
        Ok(if leaves { Then::Silence } else { Then::Stay })
    }

    /// Checks a share; returns whether its job still counts.
    fn check(&self, line: &str) -> Result<bool, &'static str> {
        if !self.pool.verifies {
            return Ok(true);
        }
        let Ok(v1::Request { call: v1::Call::Submit(share), .. }) =
            v1::Request::decode(line.as_bytes())
        else {
            return Err("not a share");
        };
        let Some((Some(work), counts)) = self.work.get(&share.job) else {
            return Err("unknown job");
        };
        if share.extranonce2.len() != usize::from(work.extranonce2_size) {
            return Err("extranonce of another length");
        }
        if share.version_bits.unwrap_or(0) & !work.version_mask != 0 {
            return Err("version bits outside of the mask");
        }
        let header = work.header(&v1::Share {
            job: share.job,
            extranonce2: share.extranonce2,
            time: share.time,
            nonce: share.nonce,
            version_bits: share.version_bits,
        });
        let hash = sha256d(&header);
        if !work.difficulty.target().reached_by(&hash) {
            return Err("below the difficulty");
        }
        if !self.pool.books().hashes.insert(hash) {
            return Err("sent before");
        }
        Ok(*counts)
    }
}
