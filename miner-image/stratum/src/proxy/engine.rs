//! The connection of one engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Action, Frontend, Upstream};
use crate::Malformed;
use crate::client::{Client, Offer, Status, Verdict, until};
use crate::lines::{LineError, Lines};
use crate::message::Id;

/// An engine with its own connection to a pool.
pub(super) struct Engine<F: Frontend> {
    lines: Lines,
    client: Client<F::Session>,
    /// Time for which it may hash an old job while there is no pool.
    patience: Duration,
}

/// Next event of an engine's connection.
enum Next {
    Line(Vec<u8>),
    Judged(Id, Result<Verdict, RecvError>),
    Work,
}

/// Limit for the verdicts on an engine's last shares after it has left.
const LEFT: Duration = Duration::from_secs(5);

impl<F: Frontend> Engine<F> {
    pub(super) fn new(stream: TcpStream, Upstream { route, config }: Upstream) -> Self {
        // A job must not wait for more data; without the option it only arrives later.
        let _ = stream.set_nodelay(true);
        let lines = Lines::new(stream, config.timing.line);
        let patience = config.timing.engine_patience;
        Self { lines, client: Client::start_on(route, config), patience }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Serves it until it leaves, or the proxy is drained. Returns the pool's verdicts.
    pub(super) async fn serve(self, mut drain: watch::Receiver<Option<Duration>>) -> Status {
        let Self { mut lines, client, patience } = self;
        let mut frontend = F::default();
        let mut judgements = FuturesUnordered::new();
        let talk = async {
            let (shares, mut work) = (client.shares(), client.work());
            // The answers to a login hold the pool's extranonce and first job, so the engine waits until
            // the pool has sent them. That it leaves has to be noticed meanwhile.
            let (mut offer, mut waiting) = first_work(&mut work, &mut lines).await?;
            let mut without_work: Option<Instant> = None;
            loop {
                let next = if let Some(line) = waiting.pop_front() {
                    Next::Line(line)
                } else {
                    select! {
                        line = lines.next() => Next::Line(line?),
                        Some((id, verdict)) = judgements.next() => Next::Judged(id, verdict),
                        changed = work.changed() => {
                            changed.map_err(|_| LineError::Closed)?;
                            Next::Work
                        }
                        () = until(without_work.map(|since| since + patience)) => return Ok(()),
                    }
                };
                match next {
                    Next::Judged(id, verdict) => {
                        lines.send(&frontend.verdict(id, verdict.unwrap_or(Verdict::Lost))).await?;
                    }
                    Next::Line(line) => match frontend.receive(&line, &offer) {
                        Ok(actions) => {
                            for action in actions {
                                match action {
                                    Action::Send(line) => lines.send(&line).await?,
                                    Action::Submit { id, connection, share } => {
                                        let verdict = shares.submit(connection, share);
                                        judgements.push(async { (id, verdict.await) });
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
                                return Ok(());
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
                        let Some(job) = frontend.offer(&offer) else { return Ok(()) };
                        for line in job {
                            lines.send(&line).await?;
                        }
                    }
                }
            }
        };
        let within = select! {
            result = talk => {
                // Why an engine left does not matter: its shares are still to be judged.
                let _: Result<(), LineError> = result;
                LEFT
            }
            within = drain.wait_for(Option::is_some) => within.ok().and_then(|within| *within).unwrap_or(LEFT),
        };
        let status = client.drain(within).await;
        while let Some((id, verdict)) = judgements.next().await {
            if lines.send(&frontend.verdict(id, verdict.unwrap_or(Verdict::Lost))).await.is_err() {
                break;
            }
        }
        lines.close().await;
        status
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
