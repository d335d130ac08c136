//! Jobs, in the forms in which pools write them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daylight_stratum::sha256d::sha256d;
use daylight_stratum::{Difficulty, v1};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Connection;
use crate::soak::pool::{Phase, QUIET};
use crate::soak::shapes::Dialect;

impl Connection {
    /// Sends a new job.
    pub(super) async fn job(&mut self) -> io::Result<()> {
        match self.pool.dialect {
            Dialect::V1 => self.v1_job().await,
            Dialect::Monero => {
                let job = json!({"jsonrpc": "2.0", "method": "job", "params": self.monero_job()});
                self.last_job = Some(job.to_string());
                self.send(job.to_string()).await
            }
        }
    }

    fn began_job(&mut self) -> (u64, String) {
        self.pool.adjust(self.since_job, self.last_new.elapsed());
        (self.last_new, self.since_job) = (Instant::now(), 0);
        self.next_job = Instant::now() + self.random.between(1_000, 12_000);
        let number = self.pool.jobs.fetch_add(1, Ordering::Relaxed) + 1;
        let quiet = if self.pool.phase() == Phase::Quiet { QUIET } else { "" };
        (number, format!("{quiet}{number}"))
    }

    async fn v1_job(&mut self) -> io::Result<()> {
        let (number, name) = self.began_job();
        let odd = if self.misbehaves() { self.random.below(8) } else { 0 };
        let difficulty = self.pool.difficulty();
        let value = if odd == 1 { json!(difficulty.to_string()) } else { json!(difficulty) };
        self.send(
            json!({"id": null, "method": "mining.set_difficulty", "params": [value]}).to_string(),
        )
        .await?;
        let clean = !matches!(odd, 2) && self.random.chance(40);
        let job = v1::Job {
            id: name.clone(),
            previous: sha256d(format!("previous {number}").as_bytes()),
            coinbase1: b"coinbase1".to_vec(),
            coinbase2: name.clone().into_bytes(),
            branches: if odd == 3 { vec![] } else { vec![sha256d(b"left"), sha256d(b"right")] },
            version: 0x2000_0000,
            bits: 0x1d00_ffff,
            time: 1_700_000_000 + number as u32,
            clean,
        };
        let notice = v1::FromPool::Notice(v1::Notice::Job(job.clone())).encode();
        let mut notice: Value = serde_json::from_str(&notice).expect("JSON");
        match odd {
            2 => drop(notice["params"].as_array_mut().and_then(Vec::pop)),
            3 => notice["params"][4] = Value::Null,
            4 => notice["params"][8] = json!(u8::from(clean)),
            5 if name.parse::<u64>().is_ok() => notice["params"][0] = json!(number),
            _ => {}
        }
        if (1..=5).contains(&odd) {
            self.pool.note("job in another form");
        }
        if clean {
            self.work.values_mut().for_each(|(_, counts)| *counts = false);
        }
        let work = v1::Work {
            job: Arc::new(job),
            extranonce1: self.extranonce1.clone(),
            extranonce2_size: self.extranonce2_size,
            difficulty: Difficulty::new(difficulty).expect("a difficulty"),
            version_mask: self.mask,
        };
        self.work.insert(name, (Some(work), true));
        self.last_job = Some(notice.to_string());
        self.send(notice.to_string()).await
    }

    pub(super) fn monero_job(&mut self) -> Value {
        let (number, name) = self.began_job();
        let odd = if self.pool.phase() == Phase::Misbehaving { self.random.below(6) } else { 0 };
        if (1..=4).contains(&odd) {
            self.pool.note("job in another form");
        }
        let blob = sha256d(&self.random.next().to_be_bytes());
        let blob =
            format!("1010{}00000000{}", hex::encode(&[blob, blob].concat()[..37]), "cd".repeat(33));
        let id = if odd == 1 && name.parse::<u64>().is_ok() { json!(number) } else { json!(name) };
        let height = if odd == 2 { json!(number.to_string()) } else { json!(number) };
        let mut job = json!({
            "job_id": id, "blob": blob, "target": "b88d0600", "algo": "rx/0", "height": height,
            "seed_hash": "11".repeat(32),
        });
        match odd {
            3 => job["algo"] = Value::Null,
            4 => job["next_seed_hash"] = json!(""),
            _ => {}
        }
        self.work.insert(name, (None, true));
        job
    }
}
