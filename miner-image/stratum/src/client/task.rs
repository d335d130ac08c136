//! The task of a client: one connection after the other, and shares on it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{Connection, Opened, Unread, open};
use super::{Config, Fault, Offer, Order, State, Status, Verdict};
use crate::v1::Redirect;
use crate::{Endpoint, Received, Session};

/// State of the task over all connections.
pub(super) struct Task<S: Session> {
    config: Config,
    orders: mpsc::Receiver<Order<S::Share>>,
    work: watch::Sender<Option<Arc<Offer<S::Work>>>>,
    status: watch::Sender<Status>,
    /// Connections so far, which is the number of the current one.
    connections: u64,
    era: u64,
    /// The pool of the last connection.
    last: Option<usize>,
}

/// Endpoint to connect to: a declared pool, or a port of its host to which it redirected.
struct Goal {
    pool: usize,
    endpoint: Endpoint,
}

/// Reason for leaving a connection.
enum End<S: Session> {
    Drained,
    Failed(Fault),
    Moved(Redirect),
    /// A pool earlier in the list is back.
    Better(Box<Connection<S>>),
}

/// A share without a verdict so far.
struct Pending {
    sent: Instant,
    hashes: u64,
    answer: oneshot::Sender<Verdict>,
}

/// The client was drained, or all its handles were dropped.
struct Over;

/// Longest pause before a redirect that a pool can ask for, in seconds.
const LONGEST_WAIT: u32 = 60;

impl<S: Session> Task<S> {
    pub(super) fn new(
        config: Config,
        orders: mpsc::Receiver<Order<S::Share>>,
        work: watch::Sender<Option<Arc<Offer<S::Work>>>>,
        status: watch::Sender<Status>,
    ) -> Self {
        Self { config, orders, work, status, connections: 0, era: 0, last: None }
    }

    pub(super) async fn run(mut self) {
        if !self.config.pools.is_empty() {
            let Over = self.keep_connected().await;
        }
        self.work.send_replace(None);
        self.status.send_modify(|status| status.state = State::Drained);
    }

    async fn keep_connected(&mut self) -> Over {
        // Failures in a row. Only an accepted share resets them: a pool that lets every miner in and then
        // hangs up would otherwise be tried again without any pause.
        let mut failures = 0_usize;
        let mut goal = self.declared(0);
        loop {
            self.status.send_modify(|status| status.state = State::Connecting);
            let opened = open::<S>(goal.endpoint.clone(), self.config.clone());
            let mut opened = match self.meanwhile(opened).await {
                Err(over) => return over,
                Ok(opened) => opened,
            };
            let accepted = self.status.borrow().accepted;
            let end = loop {
                match opened {
                    Err(fault) => break End::Failed(fault),
                    Ok(Opened::Moved(redirect)) => break End::Moved(redirect),
                    Ok(Opened::Connection(connection)) => {
                        match self.serve(*connection, &goal).await {
                            End::Better(connection) => {
                                goal = self.declared(0);
                                opened = Ok(Opened::Connection(connection));
                            }
                            end => break end,
                        }
                    }
                }
            };
            self.work.send_replace(None);
            let useful = self.status.borrow().accepted > accepted;
            failures = if useful { 0 } else { failures + 1 };
            let next = if useful { 0 } else { (goal.pool + 1) % self.config.pools.len() };
            let fault = match end {
                End::Drained | End::Better(_) => return Over,
                End::Failed(fault) => {
                    goal = self.declared(next);
                    Some(fault)
                }
                End::Moved(redirect) => match self.declared_as(&goal, &redirect) {
                    Ok(to) => {
                        let wait = Duration::from_secs(redirect.wait.min(LONGEST_WAIT).into());
                        if let Err(over) = self.meanwhile(sleep(wait)).await {
                            return over;
                        }
                        goal = to;
                        None
                    }
                    Err(fault) => {
                        self.status.send_modify(|status| status.refused_redirects += 1);
                        goal = self.declared(next);
                        Some(fault)
                    }
                },
            };
            if let Some(fault) = fault {
                self.status.send_modify(|status| status.fault = Some(fault));
            }
            if failures > 0 && failures.is_multiple_of(self.config.pools.len()) {
                self.status.send_modify(|status| status.state = State::Waiting);
                let pause = self.backoff(failures / self.config.pools.len());
                if let Err(over) = self.meanwhile(sleep(pause)).await {
                    return over;
                }
            }
        }
    }

    /// Waits for a future while there is no connection. Shares are stale meanwhile, and a drain ends
    /// the task at once.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Over> {
        let mut future = std::pin::pin!(future);
        loop {
            select! {
                result = &mut future => return Ok(result),
                order = self.orders.recv() => match order {
                    None | Some(Order::Drain { .. }) => return Err(Over),
                    Some(Order::Submit { answer, .. }) => self.judge(answer, Verdict::Stale, 0),
                },
            }
        }
    }

    fn declared(&self, pool: usize) -> Goal {
        Goal { pool, endpoint: self.config.pools[pool].clone() }
    }

    /// Resolves a redirect, if its host is declared. TLS is as declared, whatever the pool asks for: a
    /// redirect must neither lead the wallet to a foreign host nor downgrade the connection.
    fn declared_as(&self, goal: &Goal, redirect: &Redirect) -> Result<Goal, Fault> {
        let host = redirect.host.as_ref().unwrap_or(&goal.endpoint.host);
        let port = redirect.port.unwrap_or(goal.endpoint.port);
        let mut pools = self.config.pools.iter();
        match pools.position(|declared| declared.host.eq_ignore_ascii_case(host)) {
            Some(pool) => {
                let Goal { pool, endpoint } = self.declared(pool);
                Ok(Goal { pool, endpoint: Endpoint { port, ..endpoint } })
            }
            None => Err(Fault::Redirected {
                pool: goal.endpoint.to_string(),
                to: format!("{}:{port}", host.chars().take(253).collect::<String>()),
            }),
        }
    }

    /// Returns the pause before the next round. It doubles each time, and is random in its upper half,
    /// so that a pool that returns does not get all its miners at once.
    fn backoff(&self, round: usize) -> Duration {
        let timing = &self.config.timing;
        let doubled = 2_u32.saturating_pow(u32::try_from(round - 1).unwrap_or(u32::MAX));
        let longest = timing.first_backoff.saturating_mul(doubled).min(timing.longest_backoff);
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Serves a connection until there is a reason to leave it.
    ///
    /// Each turn handles everything received, then waits for one event, then sends. So the state that
    /// the exits test (`pending`, `better`, `drain_by`) is complete whenever they are tested.
    async fn serve(&mut self, connection: Connection<S>, goal: &Goal) -> End<S> {
        let Connection { mut lines, mut session, mut received, latency } = connection;
        let timing = self.config.timing;
        let pool = goal.endpoint.to_string();
        self.begin(goal.pool, latency);
        let mut pending: HashMap<u64, Pending> = HashMap::new();
        let mut unread = Unread::default();
        let (mut last_received, mut last_sent) = (Instant::now(), Instant::now());
        let mut drain_by: Option<Instant> = None;
        let mut better: Option<Box<Connection<S>>> = None;
        let mut first = (goal.pool > 0).then(|| self.first_pool());
        let lost = |why: &dyn std::fmt::Display| {
            End::Failed(Fault::Lost { pool: pool.clone(), why: why.to_string() })
        };
        let end = loop {
            let mut outgoing = vec![];
            let mut moved = None;
            for effect in received.drain(..) {
                match effect.hiding(&self.config.login) {
                    Received::Work { work, clean } => self.offer(work, clean),
                    Received::Judged { id, verdict } => {
                        if let Some(Pending { sent, hashes, answer }) = pending.remove(&id) {
                            let latency = sent.elapsed();
                            self.status.send_modify(|status| status.latency = Some(latency));
                            let verdict =
                                verdict.map_or_else(Verdict::Rejected, |()| Verdict::Accepted);
                            self.judge(answer, verdict, hashes);
                        }
                    }
                    Received::Send(line) => outgoing.push(line),
                    Received::Moved(redirect) => match self.declared_as(goal, &redirect) {
                        Ok(_) => moved = Some(redirect),
                        // Stays: the pool either keeps sending work or closes the connection itself.
                        Err(fault) => self.status.send_modify(|status| {
                            status.refused_redirects += 1;
                            status.fault = Some(fault);
                        }),
                    },
                    Received::Message(message) => {
                        self.status.send_modify(|status| status.message = Some(message));
                    }
                    Received::Unread(error) => self.status.send_modify(|status| {
                        status.unread_lines += 1;
                        status.fault = Some(Fault::Unread { pool: pool.clone(), error });
                    }),
                    Received::LoggedIn | Received::Refused(_) => {}
                }
            }
            // A connection is left only when each of its shares has its verdict, or their time is up.
            if pending.is_empty() {
                if drain_by.is_some() {
                    lines.close().await;
                    return End::Drained;
                }
                if let Some(better) = better {
                    lines.close().await;
                    return End::Better(better);
                }
            }
            if let Some(redirect) = moved {
                break End::Moved(redirect);
            }
            let reply_by = pending.values().map(|pending| pending.sent + timing.reply).min();
            let next = select! {
                line = lines.next() => match line {
                    Err(broken) => break lost(&broken),
                    Ok(line) => {
                        last_received = Instant::now();
                        let malformed = |error| End::Failed(Fault::Malformed { pool: pool.clone(), error });
                        match session.receive(&line) {
                            Ok(effects) => received = effects,
                            Err(error) => break malformed(error),
                        }
                        if let Some(error) = unread.note(&received) {
                            break malformed(error);
                        }
                        None
                    }
                },
                // Shares submitted after a drain stay in the channel and are dropped with it.
                order = self.orders.recv(), if drain_by.is_none() => match order {
                    // All handles are gone, so no caller waits for verdicts.
                    None => Some(Order::Drain { within: Duration::ZERO }),
                    order => order,
                },
                () = sleep_until(last_received + timing.silence) => break lost(&"it sent nothing for too long"),
                () = until(reply_by) => break lost(&"it did not answer a share"),
                () = until(drain_by) => break End::Drained,
                () = sleep_until(last_sent + timing.keep_alive) => {
                    last_sent = Instant::now();
                    outgoing.extend(session.keep_alive());
                    None
                }
                connection = ready(&mut first) => {
                    // The old connection is kept until its last share is judged, see above.
                    first = None;
                    better = Some(connection);
                    None
                }
            };
            match next {
                None => {}
                Some(Order::Drain { within }) => drain_by = Some(Instant::now() + within),
                Some(Order::Submit { connection, share, answer }) => {
                    // Pools reuse the names of jobs, so a share of another connection could pass here
                    // for one of a job that it was not mined for.
                    let submission =
                        (connection == self.connections).then(|| session.submit(&share)).flatten();
                    match submission {
                        None => self.judge(answer, Verdict::Stale, 0),
                        Some(submission) => {
                            let (sent, hashes) = (Instant::now(), submission.hashes);
                            pending.insert(submission.id, Pending { sent, hashes, answer });
                            outgoing.push(submission.line);
                        }
                    }
                }
            }
            let mut broken = None;
            for line in outgoing {
                last_sent = Instant::now();
                if let Err(error) = lines.send(&line).await {
                    broken = Some(error);
                    break;
                }
            }
            if let Some(broken) = broken {
                break lost(&broken);
            }
        };
        for (_, pending) in pending {
            self.judge(pending.answer, Verdict::Lost, 0);
        }
        end
    }

    fn begin(&mut self, pool: usize, latency: Duration) {
        self.connections += 1;
        self.era += 1;
        let other = self.last.replace(pool).is_some_and(|last| last != pool);
        self.status.send_modify(|status| {
            status.state = State::LoggedIn { pool };
            status.logins += 1;
            status.failovers += u64::from(other);
            status.latency = Some(latency);
        });
    }

    fn offer(&mut self, work: S::Work, clean: bool) {
        self.era += u64::from(clean);
        let offer = Offer { connection: self.connections, era: self.era, work };
        self.work.send_replace(Some(Arc::new(offer)));
    }

    fn judge(&self, answer: oneshot::Sender<Verdict>, verdict: Verdict, hashes: u64) {
        self.status.send_modify(|status| match verdict {
            Verdict::Accepted => {
                status.accepted += 1;
                status.accepted_hashes = status.accepted_hashes.saturating_add(hashes);
            }
            Verdict::Rejected(_) => status.rejected += 1,
            Verdict::Stale => status.stale += 1,
            Verdict::Lost => status.lost += 1,
        });
        // Fails where the engine does not wait for the verdict.
        let _ = answer.send(verdict);
    }

    /// Resolves to a connection to the first pool, once a login there succeeds. The work at the current
    /// pool continues until then.
    fn first_pool(&self) -> Pin<Box<dyn Future<Output = Box<Connection<S>>> + Send>> {
        let config = self.config.clone();
        Box::pin(async move {
            loop {
                sleep(config.timing.return_to_first).await;
                let first = open::<S>(config.pools[0].clone(), config.clone()).await;
                if let Ok(Opened::Connection(connection)) = first {
                    return connection;
                }
            }
        })
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn ready<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
