//! The connections of engines, each with one to a pool.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::{Action, Frontend, Seats, Upstream, lock};
use crate::Malformed;
use crate::client::{Client, Offer, Status, Timing, Verdict, until};
use crate::lines::{LineError, Lines};
use crate::message::Id;

/// A connection to a pool, for one engine at a time.
///
/// It ends with its engine, unless that has to connect again because it does not accept the pool's new
/// extranonce: the next engine that connects gets it, so that the pool sees no new login.
pub(super) struct Seat<F: Frontend> {
    client: Client<F::Session>,
    seats: Arc<Mutex<Seats>>,
    timing: Timing,
}

/// Next event of an engine's connection.
enum Next {
    Line(Vec<u8>),
    Judged(Id, Verdict),
    Work,
}

/// Why an engine's connection ends.
enum End {
    /// It left, or has to stop.
    Left,
    /// It has to connect again for the new work.
    Again,
}

/// Verdicts that an engine waits for.
type Judgements = FuturesUnordered<BoxFuture<'static, (Id, Verdict)>>;

/// Limit for the verdicts on an engine's last shares after it has left.
const LEFT: Duration = Duration::from_secs(5);

/// Time for which a seat is kept for an engine that has to connect again.
const KEPT: Duration = Duration::from_secs(30);

impl<F: Frontend> Seat<F> {
    pub(super) fn new(seats: Arc<Mutex<Seats>>, Upstream { route, config }: Upstream) -> Self {
        let timing = config.timing;
        Self { client: Client::start_on(route, config), seats, timing }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Serves an engine until it leaves, or the proxy is drained. Returns the pool's verdicts.
    pub(super) async fn serve(
        self,
        mut stream: TcpStream,
        mut drain: watch::Receiver<Option<Duration>>,
    ) -> Status {
        loop {
            // A job must not wait for more data; without the option it only arrives later.
            let _ = stream.set_nodelay(true);
            let mut lines = Lines::new(stream, self.timing.line);
            let mut frontend = F::default();
            let mut judgements = Judgements::new();
            let end = select! {
                // What broke its connection does not matter: its shares are still to be judged.
                end = self.talk(&mut lines, &mut frontend, &mut judgements) => end.unwrap_or(End::Left),
                _ = drain.wait_for(Option::is_some) => End::Left,
            };
            if let End::Again = end {
                let next = self.vacate();
                lines.close().await;
                let next = select! {
                    next = timeout(KEPT, next) => next.ok().and_then(Result::ok),
                    _ = drain.wait_for(Option::is_some) => None,
                };
                let Some(next) = next else { return self.leave(&drain).await };
                stream = next;
                continue;
            }
            let status = self.leave(&drain).await;
            while let Some((id, verdict)) = judgements.next().await {
                if lines.send(&frontend.verdict(id, verdict)).await.is_err() {
                    break;
                }
            }
            lines.close().await;
            return status;
        }
    }

    /// Waits for the verdicts on the last shares, and disconnects from the pool.
    async fn leave(self, drain: &watch::Receiver<Option<Duration>>) -> Status {
        let within = drain.borrow().unwrap_or(LEFT);
        self.client.drain(within).await
    }

    /// Returns the connection of the next engine.
    fn vacate(&self) -> oneshot::Receiver<TcpStream> {
        let (taken, stream) = oneshot::channel();
        let mut seats = lock(&self.seats);
        seats.vacant.retain(|seat| !seat.is_closed());
        seats.vacant.push(taken);
        stream
    }

    async fn talk(
        &self,
        lines: &mut Lines,
        frontend: &mut F,
        judgements: &mut Judgements,
    ) -> Result<End, LineError> {
        let (shares, mut work) = (self.client.shares(), self.client.work());
        // The answers to a login hold the pool's extranonce and first job, so the engine waits until
        // the pool has sent them. That it leaves has to be noticed meanwhile.
        let (mut offer, mut waiting) = first_work(&mut work, lines).await?;
        let mut without_work: Option<Instant> = None;
        loop {
            let next = if let Some(line) = waiting.pop_front() {
                Next::Line(line)
            } else {
                let patience = self.timing.engine_patience;
                select! {
                    line = lines.next() => Next::Line(line?),
                    Some((id, verdict)) = judgements.next() => Next::Judged(id, verdict),
                    changed = work.changed() => {
                        changed.map_err(|_| LineError::Closed)?;
                        Next::Work
                    }
                    () = until(without_work.map(|since| since + patience)) => return Ok(End::Left),
                }
            };
            match next {
                Next::Judged(id, verdict) => lines.send(&frontend.verdict(id, verdict)).await?,
                Next::Line(line) => match frontend.receive(&line, &offer) {
                    Ok(actions) => {
                        for action in actions {
                            match action {
                                Action::Send(line) => lines.send(&line).await?,
                                Action::Submit { id, connection, share } => {
                                    let verdict = shares.submit(connection, share);
                                    judgements.push(Box::pin(async {
                                        (id, verdict.await.unwrap_or(Verdict::Lost))
                                    }));
                                }
                            }
                        }
                    }
                    Err(error) => {
                        let (id, is_notice) = head(&line);
                        if !is_notice {
                            lines.send(&frontend.error(id, &error)).await?;
                        }
                        // An extension is what an engine can do without.
                        if !is_notice && !matches!(error, Malformed::UnknownMethod(_)) {
                            return Ok(End::Left);
                        }
                    }
                },
                Next::Work => {
                    let newest = work.borrow_and_update().clone();
                    let Some(newest) = newest else {
                        // During a failover the engine keeps the old job, which costs less than to
                        // disconnect it: shares for it are counted as stale.
                        without_work.get_or_insert_with(Instant::now);
                        continue;
                    };
                    without_work = None;
                    offer = newest;
                    let Some(job) = frontend.offer(&offer) else { return Ok(End::Again) };
                    for line in job {
                        lines.send(&line).await?;
                    }
                }
            }
        }
    }
}

/// Requests that an engine may send before it gets an answer.
const MOST_WAITING: usize = 16;

/// Waits for the first work. Returns it with the lines that the engine has sent meanwhile.
async fn first_work<W>(
    work: &mut watch::Receiver<Option<Arc<Offer<W>>>>,
    lines: &mut Lines,
) -> Result<(Arc<Offer<W>>, VecDeque<Vec<u8>>), LineError> {
    let mut waiting = VecDeque::new();
    loop {
        let first = async { work.wait_for(Option::is_some).await.ok()?.clone() };
        select! {
            offer = first => return Ok((offer.ok_or(LineError::Closed)?, waiting)),
            line = lines.next() => {
                waiting.push_back(line?);
                if waiting.len() > MOST_WAITING {
                    return Err(LineError::TooLong);
                }
            }
        }
    }
}

/// Returns the number of a line that could not be read otherwise, and whether it is a notice: a request
/// without a number, which expects no answer.
fn head(line: &[u8]) -> (Option<Id>, bool) {
    let message: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
    let id = Id::of_reply(&message);
    let is_notice = id.is_none() && message.get("method").is_some();
    (id, is_notice)
}
