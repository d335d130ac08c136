//! A connection of the agent at the pool.

mod jobs;
mod misbehaviour;
mod shares;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daylight_stratum::v1;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Phase, Pool, WALLET};
use crate::soak::random::Random;
use crate::soak::shapes::{Dialect, Verdict};

/// Time after which an answer counts as read while the connection lives.
const READ: Duration = Duration::from_secs(3);

/// What follows for a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    /// Closes it.
    Close,
    /// Nothing is sent any more: the agent has reason to leave, or is to notice the silence.
    Silence,
    /// The agent has left.
    Left,
}

/// Behaviour at a login.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Usual,
    Close,
    Silence,
    Refuse,
    NoJob,
}

pub(super) struct Connection {
    pool: Arc<Pool>,
    random: Random,
    write: OwnedWriteHalf,
    greeting: Greeting,
    logged_in: bool,
    extranonce1: Vec<u8>,
    extranonce2_size: u8,
    mask: u32,
    /// Work by the name of its job, and whether shares for it still count.
    work: HashMap<String, (Option<v1::Work>, bool)>,
    last_job: Option<String>,
    last_new: Instant,
    next_job: Instant,
    since_job: u64,
    /// Verdicts that were sent within the last seconds.
    recent: VecDeque<(Instant, Verdict)>,
    unanswered: u64,
    rejected_in_a_row: u32,
    swallow: u64,
    forget: bool,
}

type Reader = Lines<BufReader<OwnedReadHalf>>;

impl Connection {
    pub(super) async fn serve(pool: Arc<Pool>, stream: TcpStream, up: watch::Receiver<bool>) {
        let number = pool.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut random = Random::new(pool.seed, number << 8);
        let greeting = match random.below(100) {
            _ if pool.phase() != Phase::Misbehaving => Greeting::Usual,
            0..3 => Greeting::Close,
            3..5 => Greeting::Silence,
            5..10 => Greeting::Refuse,
            10..13 => Greeting::NoJob,
            _ => Greeting::Usual,
        };
        {
            let mut books = pool.books();
            books.connections += 1;
            books.open += 1;
        }
        let mut connection = Self {
            random,
            write,
            greeting,
            logged_in: false,
            extranonce1: (number as u32).to_be_bytes().to_vec(),
            extranonce2_size: 4,
            mask: 0,
            work: HashMap::new(),
            last_job: None,
            last_new: Instant::now(),
            next_job: Instant::now(),
            since_job: 0,
            recent: VecDeque::new(),
            unanswered: 0,
            rejected_in_a_row: 0,
            swallow: 0,
            forget: false,
            pool: Arc::clone(&pool),
        };
        let then = connection.talk(&mut lines, up).await.unwrap_or(Then::Left);
        connection.end(then, lines).await;
        pool.books().open -= 1;
    }

    /// Closes the connection so that nothing is lost that was sent in either direction: an abrupt end
    /// would discard what the agent has not read yet.
    async fn end(mut self, then: Then, mut lines: Reader) {
        if then == Then::Left {
            let doubts = self.unanswered > 0 || self.last_new.elapsed() > Duration::from_mins(4);
            let mut books = self.pool.books();
            for (at, verdict) in self.recent.drain(..).filter(|_| doubts) {
                if at.elapsed() < READ {
                    books.doubtful.add(verdict);
                }
            }
        }
        let mut phase = self.pool.phase.clone();
        phase.borrow_and_update();
        if then != Then::Silence || self.pool.phase() != Phase::Misbehaving {
            let _ = self.write.shutdown().await;
        }
        loop {
            let line = select! {
                line = lines.next_line() => line,
                // A silent pool stays so until the misbehaviour is over.
                Ok(()) = phase.changed() => {
                    let _ = self.write.shutdown().await;
                    continue;
                }
            };
            let Ok(Some(line)) = line else { return };
            if is_share(&line) {
                let mut books = self.pool.books();
                books.shares += 1;
                books.unanswered += 1;
            }
        }
    }

    async fn talk(
        &mut self,
        lines: &mut Reader,
        mut up: watch::Receiver<bool>,
    ) -> io::Result<Then> {
        if self.greeting == Greeting::Close {
            self.pool.note("close at the start");
            return Ok(Then::Close);
        }
        let mut phase = self.pool.phase.clone();
        phase.borrow_and_update();
        // The mean time of a session is some two minutes, for a third of them much shorter.
        let end = if self.random.chance(30) { 20_000 } else { 300_000 };
        let mut end = Instant::now() + self.random.between(1_000, end);
        let mut whim = Instant::now() + self.random.between(300, 4_000);
        loop {
            let then = select! {
                line = lines.next_line() => match line? {
                    None => Then::Left,
                    Some(line) => self.receive(&line).await?,
                },
                () = sleep_until(self.next_job), if self.has_work() => {
                    self.job().await?;
                    Then::Stay
                }
                () = sleep_until(whim), if self.misbehaves() => {
                    whim = Instant::now() + self.random.between(300, 4_000);
                    self.whim().await?
                }
                () = sleep_until(end), if self.misbehaves() => {
                    end = Instant::now() + Duration::from_secs(30);
                    self.last_straw().await?
                }
                _ = up.changed() => Then::Close,
                Ok(()) = phase.changed() => {
                    self.next_job = Instant::now();
                    if self.greeting == Greeting::NoJob { Then::Close } else { Then::Stay }
                }
            };
            if then != Then::Stay {
                return Ok(then);
            }
        }
    }

    fn misbehaves(&self) -> bool {
        self.has_work() && self.pool.phase() == Phase::Misbehaving
    }

    fn has_work(&self) -> bool {
        self.logged_in && self.greeting != Greeting::NoJob
    }

    async fn send(&mut self, line: impl AsRef<[u8]>) -> io::Result<()> {
        let line = [line.as_ref(), b"\n"].concat();
        self.write.write_all(&line).await
    }

    async fn receive(&mut self, line: &str) -> io::Result<Then> {
        let request: Value = serde_json::from_str(line).expect("JSON of the agent");
        let id = request["id"].to_string();
        if request["result"] == "pong" {
            self.pool.books().pongs += 1;
            return Ok(Then::Stay);
        }
        match request["method"].as_str().unwrap_or_default() {
            "mining.configure" => {
                let (result, mask) = match self.random.below(5) {
                    0 => (json!({"version-rolling": true}), 0),
                    1 => (json!({"version-rolling": false}), 0),
                    2 => (json!({"version-rolling": true, "version-rolling.mask": "00000000"}), 0),
                    _ => {
                        let mask =
                            json!({"version-rolling": true, "version-rolling.mask": "1fffe000"});
                        (mask, 0x1fff_e000)
                    }
                };
                self.mask = mask;
                self.reply(&id, &result).await?;
            }
            "mining.subscribe" => {
                let result = json!([[], hex::encode(&self.extranonce1), self.extranonce2_size]);
                self.reply(&id, &result).await?;
            }
            "mining.authorize" | "login" => return self.login(&id).await,
            "mining.submit" | "submit" => return self.judge(&id, line).await,
            "keepalived" => self.reply(&id, &json!({"status": "KEEPALIVED"})).await?,
            _ => {}
        }
        Ok(Then::Stay)
    }

    async fn reply(&mut self, id: &str, result: &Value) -> io::Result<()> {
        self.send(format!(r#"{{"id":{id},"result":{result},"error":null}}"#)).await
    }

    async fn login(&mut self, id: &str) -> io::Result<Then> {
        match self.greeting {
            Greeting::Silence => {
                self.pool.note("login unanswered");
                return Ok(Then::Silence);
            }
            Greeting::Refuse => {
                self.pool.note("login refused");
                let error = json!({"code": -1, "message": format!("Invalid address {WALLET}")});
                self.send(format!(r#"{{"id":{id},"result":null,"error":{error}}}"#)).await?;
                return Ok(if self.random.chance(50) { Then::Close } else { Then::Silence });
            }
            Greeting::NoJob => self.pool.note("login without a job"),
            Greeting::Usual | Greeting::Close => {}
        }
        self.logged_in = true;
        self.pool.books().logins += 1;
        match self.pool.dialect {
            Dialect::V1 => {
                self.reply(id, &json!(true)).await?;
                if self.greeting != Greeting::NoJob {
                    self.job().await?;
                }
            }
            // Without a job this is no answer to a login, and the agent leaves.
            Dialect::Monero if self.greeting == Greeting::NoJob => {
                self.reply(id, &json!({"id": "s1", "status": "OK"})).await?;
                return Ok(Then::Silence);
            }
            Dialect::Monero => {
                let job = self.monero_job();
                let result =
                    json!({"id": "s1", "job": job, "extensions": ["keepalive"], "status": "OK"});
                self.reply(id, &result).await?;
            }
        }
        Ok(Then::Stay)
    }
}

fn is_share(line: &str) -> bool {
    let request: Value = serde_json::from_str(line).unwrap_or_default();
    request["method"].as_str().is_some_and(|method| method.ends_with("submit"))
}
