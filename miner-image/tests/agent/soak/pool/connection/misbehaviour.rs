//! What pools do that they should not.

use std::io;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use super::{Connection, Then};
use crate::soak::pool::WALLET;
use crate::soak::shapes::{Dialect, JUNK, UNREADABLE};

impl Connection {
    /// Does something that every client should live with.
    pub(super) async fn whim(&mut self) -> io::Result<Then> {
        let is_v1 = self.pool.dialect == Dialect::V1;
        match self.random.below(14) {
            0..3 => {
                self.pool.note("ping");
                self.send(r#"{"params":[],"id":42,"method":"mining.ping"}"#).await?;
            }
            3 => {
                self.pool.note("message");
                self.send(format!(r#"{{"id":null,"method":"client.show_message","params":["Maintenance, {WALLET}\u0007"]}}"#)).await?;
            }
            4..6 => {
                self.pool.note("junk");
                for _ in 0..=self.random.below(5) {
                    let junk = *self.random.one_of(JUNK);
                    self.send(junk).await?;
                }
                // Lines that are unreadable count only in a row.
                self.send(r#"{"params":[],"id":42,"method":"mining.ping"}"#).await?;
            }
            6..8 if self.last_job.is_some() => {
                self.pool.note("job repeated");
                let job = self.last_job.clone().unwrap_or_default();
                for _ in 0..=self.random.below(3) {
                    self.send(&job).await?;
                }
            }
            8 if is_v1 => {
                self.pool.note("extranonce changed");
                self.extranonce2_size = 2 + self.random.below(7) as u8;
                self.extranonce1 =
                    [&self.extranonce1[..4], &self.random.next().to_be_bytes()[..3]].concat();
                let extranonce1 = hex::encode(&self.extranonce1);
                let params = json!([extranonce1, self.extranonce2_size]);
                let line = json!({"id": null, "method": "mining.set_extranonce", "params": params});
                self.send(line.to_string()).await?;
                self.job().await?;
            }
            9 if is_v1 => {
                self.pool.note("mask changed");
                self.mask = *self.random.one_of(&[0x1fff_e000, 0, 0x00ff_e000]);
                let params = json!([format!("{:08x}", self.mask)]);
                let line =
                    json!({"id": null, "method": "mining.set_version_mask", "params": params});
                self.send(line.to_string()).await?;
                self.job().await?;
            }
            10 => {
                self.pool.note("long line");
                let length = 20_000 + self.random.below(45_000) as usize;
                self.send(long_line(length)).await?;
            }
            11 => {
                self.pool.note("shares unanswered");
                self.swallow = 1 + self.random.below(5);
            }
            12 => {
                self.pool.note("slow line");
                let line = r#"{"id":null,"method":"client.show_message","params":["slow"]}"#;
                for part in line.as_bytes().chunks(20) {
                    self.write.write_all(part).await?;
                    sleep(self.random.between(50, 500)).await;
                }
                self.send("").await?;
            }
            13 => {
                let most = if self.random.chance(10) { 400_000 } else { 40_000 };
                self.pool.note(if most > 40_000 {
                    "no work for minutes"
                } else {
                    "no work for a time"
                });
                self.next_job = Instant::now() + self.random.between(most / 2, most);
            }
            _ => {}
        }
        Ok(Then::Stay)
    }

    /// Ends the session in some way.
    pub(super) async fn last_straw(&mut self) -> io::Result<Then> {
        let is_v1 = self.pool.dialect == Dialect::V1;
        Ok(match self.random.below(9) {
            0 => {
                self.pool.note("silence");
                Then::Silence
            }
            1 if is_v1 => {
                self.pool.note("redirect to itself");
                let here = self.write.local_addr()?;
                let params = match self.random.below(3) {
                    0 => json!([]),
                    1 => json!(["", 0, 0]),
                    _ => json!([here.ip().to_string(), here.port().to_string(), 0]),
                };
                let line = json!({"id": null, "method": "client.reconnect", "params": params});
                self.send(line.to_string()).await?;
                Then::Silence
            }
            2 | 3 => {
                // It ends with the next share.
                self.forget = true;
                Then::Stay
            }
            4 => {
                self.pool.note("line beyond the bound");
                let length = 66_000 + self.random.below(5_000_000) as usize;
                self.send(long_line(length)).await?;
                Then::Silence
            }
            5 => {
                self.pool.note("nothing but junk");
                for _ in 0..40 {
                    self.send(UNREADABLE).await?;
                }
                Then::Silence
            }
            6 => {
                self.pool.note("line without an end");
                self.write.write_all(br#"{"id":null,"method":"#).await?;
                Then::Silence
            }
            _ => {
                self.pool.note("close");
                Then::Close
            }
        })
    }
}

fn long_line(length: usize) -> String {
    format!(r#"{{"id":null,"method":"client.show_message","params":["{}"]}}"#, "x".repeat(length))
}
