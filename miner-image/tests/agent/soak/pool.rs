//! A pool that misbehaves at random.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daylight_stratum::sha256d::sha256d;
use daylight_stratum::{Difficulty, v1};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::books::Books;
use super::random::Random;
use super::shapes::{Dialect, JUNK, UNREADABLE, Verdict};

/// Phase of a soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Misbehaving,
    /// The pool behaves, and there is work.
    Calm,
    /// No more shares are wanted, so that both sides can finish their books.
    Quiet,
}

/// A pool at two addresses, with one set of books.
pub(super) struct Pool {
    dialect: Dialect,
    seed: u64,
    /// Whether shares are checked: those of a stand-in are made up.
    verifies: bool,
    /// Bits of the difficulty, which follows the rate of shares.
    difficulty: AtomicU64,
    connections: AtomicU64,
    jobs: AtomicU64,
    phase: watch::Receiver<Phase>,
    books: Mutex<Books>,
}

/// The first word of names of jobs for which no shares are wanted.
pub(super) const QUIET: &str = "quiet";

/// Difficulty that no engine of a test reaches.
const UNREACHABLE: f64 = 1e12;

/// Words in which the pool repeats the login.
pub(super) const WALLET: &str = "49wallet";

/// Time after which an answer counts as read while the connection lives.
const READ: Duration = Duration::from_secs(3);

/// Rejected shares in a row after which the agent leaves.
const MOST_REJECTED: u32 = 10;

impl Pool {
    pub(super) fn new(
        dialect: Dialect,
        seed: u64,
        verifies: bool,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            dialect,
            seed,
            verifies,
            difficulty: AtomicU64::new(0.002_f64.to_bits()),
            connections: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            phase,
            books: Mutex::default(),
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn note(&self, misbehaviour: &'static str) {
        *self.books().misbehaved.entry(misbehaviour).or_default() += 1;
    }

    /// Serves a port for ever, with restarts between: then nothing listens, and all connections end.
    pub(super) async fn serve(self: Arc<Self>, first: TcpListener, user: u64) {
        let port = first.local_addr().expect("an address").port();
        let mut random = Random::new(self.seed, user);
        let mut listener = Some(first);
        loop {
            let here = match listener.take() {
                Some(listener) => listener,
                None => TcpListener::bind(("127.0.0.1", port)).await.expect("the same port"),
            };
            let (up, ended) = watch::channel(true);
            let restart = Instant::now() + random.between(120_000, 480_000);
            let mut phase = self.phase.clone();
            loop {
                let stream = select! {
                    accepted = here.accept() => accepted.expect("a connection").0,
                    () = sleep_until(restart), if self.phase() == Phase::Misbehaving => break,
                    Ok(()) = phase.changed() => continue,
                };
                tokio::spawn(Connection::serve(Arc::clone(&self), stream, ended.clone()));
            }
            drop(here);
            self.note("restart");
            up.send_replace(false);
            let calm = async { phase.wait_for(|phase| *phase != Phase::Misbehaving).await.is_ok() };
            let _ = timeout(random.between(1_000, 40_000), calm).await;
        }
    }

    fn difficulty(&self) -> f64 {
        match self.phase() {
            Phase::Quiet => UNREACHABLE,
            _ => f64::from_bits(self.difficulty.load(Ordering::Relaxed)),
        }
    }

    /// Doubles or halves the difficulty, for about two shares a second.
    fn adjust(&self, shares: u64, over: Duration) {
        let rate = shares as f64 / over.as_secs_f64().max(0.1);
        let now = f64::from_bits(self.difficulty.load(Ordering::Relaxed));
        let next = match rate {
            _ if rate > 4.0 => now * 2.0,
            _ if rate < 1.0 && over > Duration::from_secs(3) => now / 2.0,
            _ => now,
        };
        self.difficulty.store(next.clamp(1e-5, 10.0).to_bits(), Ordering::Relaxed);
    }
}

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

struct Connection {
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
    async fn serve(pool: Arc<Pool>, stream: TcpStream, up: watch::Receiver<bool>) {
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

    /// Sends a new job.
    async fn job(&mut self) -> io::Result<()> {
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

    fn monero_job(&mut self) -> Value {
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

    /// Answers a share, or not.
    async fn judge(&mut self, id: &str, line: &str) -> io::Result<Then> {
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

    /// Does something that every client should live with.
    async fn whim(&mut self) -> io::Result<Then> {
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
    async fn last_straw(&mut self) -> io::Result<Then> {
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

fn is_share(line: &str) -> bool {
    let request: Value = serde_json::from_str(line).unwrap_or_default();
    request["method"].as_str().is_some_and(|method| method.ends_with("submit"))
}

fn long_line(length: usize) -> String {
    format!(r#"{{"id":null,"method":"client.show_message","params":["{}"]}}"#, "x".repeat(length))
}
