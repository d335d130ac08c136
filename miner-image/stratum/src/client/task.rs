//! The task of a client: one connection after the other, and shares on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::connection::{Connection, Opened, Unread, open};
use super::judgement::{Unjudged, judge};
use super::route::{Attempt, Route, Then};
use super::{Config, Fault, Offer, Order, State, Status, Verdict};
use crate::lines::{LineError, Lines};
use crate::v1::Redirect;
use crate::{Endpoint, Failure, Login, Received, Session};

/// State of the task over all connections.
pub(super) struct Task<S: Session> {
    config: Config,
    route: Arc<Route>,
    orders: mpsc::Receiver<Order<S::Share>>,
    work: watch::Sender<Option<Arc<Offer<S::Work>>>>,
    status: watch::Sender<Status>,
    /// Connections so far, which is the number of the current one.
    connections: u64,
    era: u64,
    /// The pool of the last connection.
    last: Option<usize>,
    /// Redirects in a row.
    redirects: u32,
    /// Returns to the first pool in a row that were of no use.
    vain_returns: u32,
    /// Connections that were left with shares still to be judged.
    left: JoinSet<()>,
}

/// Endpoint to connect to: a declared pool, or a port of its host to which it redirected.
#[derive(Clone)]
struct Goal {
    pool: usize,
    endpoint: Endpoint,
}

/// Reason for leaving a connection.
enum End<S: Session> {
    Drained(Over),
    Failed(Fault),
    Moved(Redirect),
    /// A pool earlier in the list is back.
    Better(Box<Connection<S>>),
}

/// The client was drained, or all its handles were dropped. What is left to do has to be done by then.
struct Over {
    by: Instant,
}

/// Longest pause before a redirect that a pool can ask for, in seconds.
const LONGEST_WAIT: u32 = 60;

/// Rejected shares in a row after which a session is taken for one that the pool has forgotten.
const MOST_REJECTED: u32 = 10;

impl<S: Session> Task<S> {
    pub(super) fn new(
        config: Config,
        route: Arc<Route>,
        orders: mpsc::Receiver<Order<S::Share>>,
        work: watch::Sender<Option<Arc<Offer<S::Work>>>>,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            config,
            route,
            orders,
            work,
            status,
            connections: 0,
            era: 0,
            last: None,
            redirects: 0,
            vain_returns: 0,
            left: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        if !self.config.pools.is_empty() {
            let Over { by } = self.keep_connected().await;
            self.work.send_replace(None);
            let judged = async { while self.left.join_next().await.is_some() {} };
            // The shares that are left then are lost.
            let _ = timeout_at(by, judged).await;
            self.left.shutdown().await;
        }
        self.work.send_replace(None);
        self.status.send_modify(|status| status.state = State::Drained);
    }

    async fn keep_connected(&mut self) -> Over {
        // Where a pool has sent this client, instead of the pool whose turn it is.
        let mut redirected: Option<Goal> = None;
        loop {
            let attempt = self.route.attempt();
            if let Some(from) = attempt.from {
                self.status.send_modify(|status| status.state = State::Waiting);
                match self.meanwhile(sleep_until(from)).await {
                    Ok(()) => continue,
                    Err(over) => return over,
                }
            }
            let goal = redirected.take().unwrap_or_else(|| self.declared(attempt.pool));
            self.status.send_modify(|status| status.state = State::Connecting);
            let (route, config) = (Arc::clone(&self.route), self.config.clone());
            let endpoint = goal.endpoint.clone();
            let opened =
                self.meanwhile(async move { open::<S>(&endpoint, &config, &route).await }).await;
            let end = match opened {
                Err(over) => return over,
                Ok(Err(fault)) => self.ended(End::Failed(fault), &goal, attempt, None),
                Ok(Ok(Opened::Moved(to))) => self.ended(End::Moved(to), &goal, attempt, None),
                Ok(Ok(Opened::Connection(connection))) => self.serve_all(*connection, goal).await,
            };
            match end {
                Err(over) => return over,
                Ok(None) => {}
                Ok(Some((wait, goal))) => {
                    if let Err(over) = self.meanwhile(sleep(wait)).await {
                        return over;
                    }
                    redirected = Some(goal);
                }
            }
        }
    }

    /// Serves a connection, and those to better pools that follow it.
    async fn serve_all(
        &mut self,
        mut connection: Connection<S>,
        mut goal: Goal,
    ) -> Result<Option<(Duration, Goal)>, Over> {
        let mut returned = false;
        loop {
            let attempt = self.route.logged_in(goal.pool);
            let began = Instant::now();
            let (end, accepted) = self.serve(connection, &goal).await;
            self.work.send_replace(None);
            let lasting = began.elapsed() >= self.config.timing.lasting;
            if returned {
                self.vain_returns = if lasting { 0 } else { self.vain_returns + 1 };
            }
            match end {
                End::Better(better) => {
                    connection = *better;
                    goal = self.declared(0);
                    returned = true;
                }
                end => return self.ended(end, &goal, attempt, Some((accepted, lasting))),
            }
        }
    }

    /// Notes the end of an attempt, and of its session if there was one: the shares accepted in it, and
    /// whether it lasted. Returns where the pool sends the client.
    fn ended(
        &mut self,
        end: End<S>,
        goal: &Goal,
        attempt: Attempt,
        session: Option<(u64, bool)>,
    ) -> Result<Option<(Duration, Goal)>, Over> {
        let (accepted, lasting) = session.unwrap_or_default();
        let pool = goal.endpoint.to_string();
        let mut to = None;
        let fault = match end {
            End::Drained(over) => return Err(over),
            End::Better(_) => return Ok(None),
            End::Failed(fault) => fault,
            End::Moved(redirect) => match self.declared_as(goal, &redirect) {
                Ok(goal) => {
                    let wait = Duration::from_secs(redirect.wait.min(LONGEST_WAIT).into());
                    let fault = Fault::Moved { pool, to: goal.endpoint.to_string() };
                    to = Some((wait, goal));
                    fault
                }
                Err(fault) => {
                    self.status.send_modify(|status| status.refused_redirects += 1);
                    fault
                }
            },
        };
        // A pool that has forgotten the session may know the next one.
        let forgotten = matches!(fault, Fault::Forgotten { .. }) && accepted > 0;
        let then = if forgotten { Then::Same } else { Then::Next };
        self.redirects = if to.is_some() { self.redirects + 1 } else { 0 };
        if self.redirects == 1 {
            // The pool answers, elsewhere.
            return Ok(to);
        }
        if accepted > 0 && lasting {
            self.route.was_useful(then, goal.pool);
        } else {
            self.route.failed(attempt, goal.pool, then, &self.config.timing);
        }
        self.route.note(goal.pool, fault.clone());
        let (faults, refusal) = (self.route.faults(), self.route.refusal());
        self.status.send_modify(|status| {
            status.fault = Some(fault);
            status.faults = faults;
            status.refusal = refusal;
        });
        Ok(to)
    }

    /// Waits for a future while there is no connection. Shares are stale meanwhile, and a drain ends
    /// the task at once.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Over> {
        let mut future = std::pin::pin!(future);
        loop {
            select! {
                result = &mut future => return Ok(result),
                order = self.orders.recv() => match order {
                    None => return Err(Over { by: Instant::now() }),
                    Some(Order::Drain { within }) => {
                        return Err(Over { by: Instant::now() + within });
                    }
                    Some(Order::Submit { answer, .. }) => {
                        judge(&self.status, answer, Verdict::Stale, 0);
                    }
                },
            }
        }
    }

    fn declared(&self, pool: usize) -> Goal {
        Goal { pool, endpoint: self.config.pools[pool].clone() }
    }

    /// Resolves a redirect, if its host is declared. TLS is as declared, whatever the pool asks for: a
    /// redirect must neither lead the wallet to a foreign host nor downgrade the connection. Of several
    /// pools of one host, the current one comes first, then one with the port.
    fn declared_as(&self, goal: &Goal, redirect: &Redirect) -> Result<Goal, Fault> {
        let host = redirect.host.as_ref().unwrap_or(&goal.endpoint.host);
        let port = redirect.port.unwrap_or(goal.endpoint.port);
        let of_host = |pool: &usize| self.config.pools[*pool].host.eq_ignore_ascii_case(host);
        let pools = || (0..self.config.pools.len()).filter(of_host);
        let same_port = pools().find(|pool| self.config.pools[*pool].port == port);
        let current = Some(goal.pool).filter(of_host);
        let keeps_port = redirect.port.is_none_or(|port| port == goal.endpoint.port);
        let pool = if keeps_port { current.or(same_port) } else { same_port.or(current) };
        match pool.or_else(|| pools().next()) {
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

    /// Serves a connection until there is a reason to leave it. Returns the shares accepted on it, too.
    ///
    /// Each turn handles everything received, sends what is to be sent, then waits for one event. So the
    /// state that the exits test (`unjudged`, `drain_by`) is complete whenever they are tested.
    async fn serve(&mut self, connection: Connection<S>, goal: &Goal) -> (End<S>, u64) {
        let Connection { mut lines, mut session, mut received, latency } = connection;
        let timing = self.config.timing;
        let jobs_within = timing.jobs.unwrap_or(S::JOBS);
        let pool = goal.endpoint.to_string();
        self.begin(goal.pool, latency);
        let mut unjudged = Unjudged::new(self.status.clone());
        let mut unread = Unread::default();
        let (mut accepted, mut rejected) = (0_u64, 0_u32);
        let (mut last_received, mut last_sent) = (Instant::now(), Instant::now());
        let mut last_job = Instant::now();
        let mut drain_by: Option<Instant> = None;
        let mut first = (goal.pool > 0).then(|| self.first_pool());
        let lost = |why: &dyn std::fmt::Display| {
            End::Failed(Fault::Lost { pool: pool.clone(), why: why.to_string() })
        };
        let mut outgoing = vec![];
        let end = loop {
            let mut leave = None;
            for effect in received.drain(..) {
                match effect.hiding(&self.config.login) {
                    Received::Work { work, clean } => {
                        if self.offer(work, clean) {
                            last_job = Instant::now();
                        }
                    }
                    Received::Judged { id, verdict } => {
                        if unjudged.judged(id, verdict.clone()) {
                            match &verdict {
                                Ok(()) => (accepted, rejected) = (accepted + 1, 0),
                                Err(failure) => rejected += u32::from(!failure.is_stale()),
                            }
                        }
                        let forgotten = |failure: &&Failure| {
                            failure.ends_session() || rejected >= MOST_REJECTED
                        };
                        if let Some(failure) = verdict.as_ref().err().filter(forgotten) {
                            let (pool, failure) = (pool.clone(), failure.clone());
                            leave = Some(End::Failed(Fault::Forgotten { pool, failure }));
                        }
                    }
                    Received::Send(line) => outgoing.push(line),
                    Received::Moved(redirect) => match self.declared_as(goal, &redirect) {
                        Ok(_) => leave = Some(End::Moved(redirect)),
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
            if let Some(by) = drain_by.filter(|_| unjudged.is_empty()) {
                lines.close().await;
                break End::Drained(Over { by });
            }
            if let Some(end) = leave {
                break end;
            }
            if !outgoing.is_empty() {
                last_sent = Instant::now();
                if let Err(broken) = send_all(&mut lines, outgoing.drain(..)).await {
                    break lost(&broken);
                }
            }
            let next = select! {
                line = lines.next() => match line {
                    Err(broken) => break lost(&broken),
                    Ok(line) => {
                        last_received = Instant::now();
                        let malformed =
                            |error| End::Failed(Fault::Malformed { pool: pool.clone(), error });
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
                () = sleep_until(last_job + jobs_within) => {
                    break End::Failed(Fault::NoWork { pool: pool.clone() });
                }
                () = until(unjudged.due(timing.reply)) => {
                    if !unjudged.give_up(timing.reply, last_received) {
                        break lost(&"it does not answer shares");
                    }
                    None
                }
                () = until(drain_by) => break End::Drained(Over { by: Instant::now() }),
                () = sleep_until(last_sent + timing.keep_alive) => {
                    last_sent = Instant::now();
                    outgoing.extend(session.keep_alive());
                    None
                }
                connection = ready(&mut first) => {
                    while self.left.try_join_next().is_some() {}
                    let login = self.config.login.clone();
                    self.left.spawn(leave_behind(lines, session, unjudged, login, timing.reply));
                    return (End::Better(connection), accepted);
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
                        None => judge(&self.status, answer, Verdict::Stale, 0),
                        Some(submission) => {
                            unjudged.sent(submission.id, submission.hashes, answer);
                            outgoing.push(submission.line);
                        }
                    }
                }
            }
        };
        (end, accepted)
    }

    fn begin(&mut self, pool: usize, latency: Duration) {
        self.connections += 1;
        self.era += 1;
        let faults = self.route.faults();
        let other = self.last.replace(pool).is_some_and(|last| last != pool);
        self.status.send_modify(|status| {
            status.state = State::LoggedIn { pool };
            status.logins += 1;
            status.failovers += u64::from(other);
            status.latency = Some(latency);
            status.faults = faults;
            status.refusal = None;
        });
    }

    /// Offers work; returns `false` if it is the same as before.
    fn offer(&mut self, work: S::Work, clean: bool) -> bool {
        let repeated = |offer: &Arc<Offer<S::Work>>| {
            offer.connection == self.connections && S::same(&offer.work, &work)
        };
        if self.work.borrow().as_ref().is_some_and(repeated) {
            return false;
        }
        self.era += u64::from(clean);
        let offer = Offer { connection: self.connections, era: self.era, work };
        self.work.send_replace(Some(Arc::new(offer)));
        true
    }

    /// Resolves to a connection to the first pool, once that accepts the login and gives work. The work
    /// at the current pool continues until then.
    fn first_pool(&self) -> Pin<Box<dyn Future<Output = Box<Connection<S>>> + Send>> {
        let (config, route) = (self.config.clone(), Arc::clone(&self.route));
        let pause = config.timing.return_to_first * 2_u32.pow(self.vain_returns.min(4));
        Box::pin(async move {
            loop {
                sleep(pause).await;
                let first = open::<S>(&config.pools[0], &config, &route).await;
                if let Ok(Opened::Connection(connection)) = first {
                    return connection;
                }
            }
        })
    }
}

async fn send_all(
    lines: &mut Lines,
    outgoing: impl Iterator<Item = String>,
) -> Result<(), LineError> {
    for line in outgoing {
        lines.send(&line).await?;
    }
    Ok(())
}

/// Waits for the verdicts on the last shares of a connection that was left, and closes it.
async fn leave_behind<S: Session>(
    mut lines: Lines,
    mut session: S,
    mut unjudged: Unjudged,
    login: Login,
    limit: Duration,
) {
    let by = Instant::now() + limit;
    while !unjudged.is_empty() {
        let Ok(Ok(line)) = timeout_at(by, lines.next()).await else { return };
        for received in session.receive(&line).unwrap_or_default() {
            if let Received::Judged { id, verdict } = received.hiding(&login) {
                unjudged.judged(id, verdict);
            }
        }
    }
    lines.close().await;
}

/// Waits for a moment, if there is one; else for ever.
pub(crate) async fn until(moment: Option<Instant>) {
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
