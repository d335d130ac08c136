//! The watch of one kind.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::time::{Duration, Instant};

use daylight_base::chain;
use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::repetition::Repetition;
use crate::store::Stored;
use crate::watch::backoff::Backoff;
use crate::watch::line;
use crate::watch::line::Line;
use crate::watch::{Settings, list};
use crate::{Change, Round, WatchFailure};

/// Longest pause for a kind whose definition is not installed. It may be installed at any moment,
/// and an installation waits for Daylight to see it.
const MISSING: Duration = Duration::from_secs(2);

/// A watch that lasted this long has worked, even if nothing happened.
const LASTED: Duration = Duration::from_secs(1);

/// Time after which the server ends the first watch after a failure. It sends a bookmark two seconds
/// before the end, so that the picture is soon known to be complete again.
const FIRST_LASTS: Duration = Duration::from_secs(3);

/// Selectors that restrict a watch, in the syntax of the API server.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub labels: Option<String>,
    pub fields: Option<String>,
}

/// A collection to watch, and the event to make of each change in it.
#[derive(Clone, Debug)]
pub struct Source<T, E> {
    /// Path of the collection, such as `/api/v1/pods`.
    path: String,
    selectors: Selectors,
    event: fn(Change<T>) -> E,
    /// It may be missing for good.
    is_optional: bool,
}

impl<T, E> Source<T, E> {
    /// The objects at an API path that match the selectors; `event` wraps what is observed.
    pub fn new(path: String, selectors: Selectors, event: fn(Change<T>) -> E) -> Self {
        Self { path, selectors, event, is_optional: false }
    }

    /// Marks objects whose kind many clusters do not have.
    #[must_use]
    pub fn optional(self, is_optional: bool) -> Self {
        Self { is_optional, ..self }
    }
}

/// The watch of one kind.
pub struct Task<T, E> {
    client: Client,
    source: Source<T, E>,
    settings: Settings,
    /// Resource version to watch from; `None` if a list is needed.
    resume_at: Option<u64>,
    /// The failure that was reported last; `None` while the watch works.
    failure: Option<WatchFailure>,
    /// The failure in the log.
    logged: Repetition<WatchFailure>,
}

/// Cause for which a list or watch ended.
enum End {
    /// The server closed it as usual.
    Closed,
    /// The server does not have the resource version any more (410).
    Expired,
    /// A fresh list was requested.
    Relist,
    /// The server does not support streaming lists.
    NotStreamed,
    Failed(WatchFailure),
    /// The receiver of the events was dropped.
    ReceiverDropped,
}

impl<T, E> Task<T, E>
where
    T: Stored + Clone + DeserializeOwned + Send + 'static,
    E: Send + 'static,
{
    /// The watch of a source, which begins with a list.
    pub fn new(client: Client, source: Source<T, E>, settings: Settings) -> Self {
        Self {
            client,
            source,
            settings,
            resume_at: None,
            failure: None,
            logged: Repetition::default(),
        }
    }

    /// Lists and watches until the receiver of the events is dropped.
    pub async fn run(mut self, to: mpsc::Sender<E>, mut rounds: watch::Receiver<u64>) {
        let mut backoff = Backoff::new(self.settings.pause, self.settings.longest_pause);
        let mut streamed = true;
        loop {
            let (before, began) = (self.resume_at, Instant::now());
            let end = if let Some(version) = self.resume_at {
                self.follow(version, &to, &mut rounds).await
            } else {
                // Read before the list begins: the list then answers every request for a fresh one
                // that is counted in this round.
                let round = Round(*rounds.borrow_and_update());
                let listed = if streamed {
                    self.stream(round, &to, &mut rounds).await
                } else {
                    self.pages(round, &to).await
                };
                // Pages are a fallback for one list only. The server may be upgraded meanwhile, and
                // behind a load balancer another server may answer.
                streamed = true;
                listed
            };
            // A watch that made progress, or lasted, has worked, whatever ended it. Only attempts
            // that fail at once are slowed down.
            let worked =
                self.resume_at.is_some() && (self.resume_at != before || began.elapsed() >= LASTED);
            if worked {
                backoff.reset();
            }
            match end {
                Ok(()) | Err(End::Closed) => {
                    if !worked {
                        // A server that closes every watch at once must not be flooded.
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
                Err(End::Expired) => {
                    tracing::info!(
                        path = self.source.path,
                        "The resource version of the watch has expired; listing again."
                    );
                    self.resume_at = None;
                    if !worked {
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
                Err(End::Relist) => self.resume_at = None,
                Err(End::NotStreamed) => {
                    tracing::info!(
                        path = self.source.path,
                        "The server does not support streaming lists; listing in pages."
                    );
                    streamed = false;
                }
                Err(End::Failed(failure)) => {
                    let mut pause = backoff.next();
                    let is_missing = failure == WatchFailure::Missing;
                    let is_expected = is_missing && self.source.is_optional;
                    if is_missing && !is_expected {
                        pause = pause.min(MISSING);
                    }
                    if !is_expected && self.logged.is_news(&failure, Instant::now()) {
                        tracing::warn!(
                            path = self.source.path,
                            ?failure,
                            "The watch failed; trying again until it works."
                        );
                    }
                    // The receiver is notified of each failure once.
                    if self.failure.as_ref() != Some(&failure) {
                        self.failure = Some(failure.clone());
                        if self.send(&to, Change::Failed(failure)).await.is_err() {
                            return;
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(End::ReceiverDropped) => return,
            }
        }
    }

    /// Lists in a stream.
    async fn stream(
        &mut self,
        round: Round,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        // Without a version, the list is at least as recent as this request: it cannot come from
        // the stale cache of one API server. A new leader relies on that.
        self.events("", Some(round), to, rounds).await
    }

    /// Lists in pages, for servers without streaming lists.
    async fn pages(&mut self, round: Round, to: &mpsc::Sender<E>) -> Result<(), End> {
        let mut params = ListParams {
            label_selector: self.source.selectors.labels.clone(),
            field_selector: self.source.selectors.fields.clone(),
            limit: Some(self.settings.page),
            ..ListParams::default()
        };
        let began = Instant::now();
        self.send(to, Change::Listing).await?;
        loop {
            let request = Request::new(&self.source.path)
                .list(&params)
                .map_err(|error| End::Failed(WatchFailure::Other(chain(&error))))?;
            let text = timeout(self.settings.page_answer, self.client.request_text(request))
                .await
                .map_err(|_| unanswered())?
                .map_err(|error| end_of(&error))?;
            let page: list::Read<T> = list::read(&text)
                .map_err(|error| End::Failed(WatchFailure::Other(chain(&error))))?;
            drop(text);
            for item in page.items {
                self.send(to, Change::Item(Box::new(item))).await?;
            }
            if let Some(token) = page.next {
                params.continue_token = Some(token);
            } else {
                let version = page.version;
                self.resume_at_unless_zero(version);
                self.send(to, Change::Listed { version, round }).await?;
                return self.is_current(began, to).await;
            }
        }
    }

    /// Watches from a version on.
    async fn follow(
        &mut self,
        version: u64,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        self.events(&version.to_string(), None, to, rounds).await
    }

    /// Opens a watch from `version` on and forwards its events; only those of a list, if `listing`.
    async fn events(
        &mut self,
        version: &str,
        listing: Option<Round>,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        let streams = listing.is_some();
        // A list takes as long as it takes, so it ends with its last item, and a watch follows.
        let lasts = if streams { None } else { Some(self.lasts()) };
        let params = WatchParams {
            timeout: lasts.map(|lasts| lasts.as_secs().max(1) as u32),
            label_selector: self.source.selectors.labels.clone(),
            field_selector: self.source.selectors.fields.clone(),
            send_initial_events: streams,
            ..WatchParams::default()
        };
        let mut request = Request::new(&self.source.path)
            .watch(&params, version)
            .map_err(|error| End::Failed(WatchFailure::Other(chain(&error))))?;
        // From 1.37 on a server may compress each event on its own. kube's decompression reads the
        // end of the first compressed event as the end of the stream, so compression is refused.
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        let began = Instant::now();
        let opened = timeout(self.settings.answer, self.client.request_stream(request));
        let stream = opened.await.map_err(|_| unanswered())?;
        // A server with streaming lists disabled rejects `sendInitialEvents` as invalid.
        let stream = stream.map_err(|error| match end_of(&error) {
            End::Failed(WatchFailure::Other(_)) if streams && is_rejection(&error) => {
                End::NotStreamed
            }
            end => end,
        })?;
        if streams {
            self.send(to, Change::Listing).await?;
        }
        let end = self.forward(stream.lines(), listing, began, lasts, to, rounds).await;
        if let (Err(End::Closed), Some(lasts)) = (&end, lasts)
            && began.elapsed() >= lasts
        {
            // It ended when it should. A server without a watch cache sends no bookmarks.
            self.is_current(began, to).await?;
        }
        end
    }

    /// Reports that every change before a moment has been reported.
    async fn is_current(&mut self, as_of: Instant, to: &mpsc::Sender<E>) -> Result<(), End> {
        self.failure = None;
        if self.logged.is_over() {
            tracing::info!(path = self.source.path, "The watch works again.");
        }
        self.send(to, Change::Current(as_of)).await
    }

    /// Time after which the server ends the next watch.
    fn lasts(&self) -> Duration {
        if self.failure.is_some() {
            return FIRST_LASTS.min(self.settings.lasts);
        }
        let cut = RandomState::new().hash_one(&self.source.path) % 256;
        let lasts = self.settings.lasts.saturating_sub(self.settings.lasts * cut as u32 / 1024);
        // The server counts whole seconds, and a watch that ended before its time proves nothing.
        if lasts.as_secs() == 0 { lasts } else { Duration::from_secs(lasts.as_secs()) }
    }

    /// Forwards the events of a watch that was requested at `began` until it ends. `lasts` is the time
    /// after which the server ends it.
    async fn forward(
        &mut self,
        lines: impl Stream<Item = std::io::Result<String>>,
        listing: Option<Round>,
        began: Instant,
        lasts: Option<Duration>,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        let mut lines = pin!(lines);
        loop {
            let patience = match lasts {
                // Events may still arrive after the end, if this process or the network is slow.
                Some(lasts) => lasts.saturating_sub(began.elapsed()) + self.settings.overdue,
                None => self.settings.silence,
            };
            let next = tokio::select! {
                next = timeout(patience, lines.next()) => next,
                changed = rounds.changed() => match changed {
                    Ok(()) => return Err(End::Relist),
                    Err(_) => return Err(End::ReceiverDropped),
                },
            };
            let text = match next {
                // A server too old to know `sendInitialEvents` ignores it: it sends changes, or
                // nothing, but never the bookmark that completes a list.
                Err(_) if listing.is_some() => return Err(End::NotStreamed),
                Err(_) => return Err(unanswered()),
                Ok(None) if listing.is_some() => {
                    return Err(End::Failed(WatchFailure::Other(
                        "the connection closed before the list was complete".to_owned(),
                    )));
                }
                Ok(None) => return Err(End::Closed),
                Ok(Some(Err(error))) => {
                    return Err(End::Failed(WatchFailure::Other(chain(&error))));
                }
                Ok(Some(Ok(text))) => text,
            };
            let line: Line<T> = line::read(&text).map_err(|error| {
                End::Failed(WatchFailure::Other(format!("an event cannot be read: {error}")))
            })?;
            let change = match line {
                Line::Unreadable => continue,
                // An expired version may be reported in the stream instead of by the HTTP status.
                Line::Error(status) => return Err(end_of(&kube::Error::Api(status))),
                Line::Put(object) if listing.is_some() => Change::Item(Box::new(object)),
                Line::Put(object) => {
                    self.resume_at_unless_zero(object.version());
                    Change::Applied(Box::new(object))
                }
                Line::Deleted(object) => {
                    if listing.is_none() {
                        self.resume_at_unless_zero(object.version());
                    }
                    Change::Deleted(Box::new(object))
                }
                Line::Bookmark { version, complete } => {
                    let change = match listing {
                        Some(round) if complete => Change::Listed { version, round },
                        // Within a list, versions are in no order: nothing can be resumed yet.
                        Some(_) => continue,
                        // Keeps the version recent where objects change rarely, so that a lost
                        // connection resumes instead of listing again.
                        None => Change::Progress(version),
                    };
                    self.resume_at_unless_zero(version);
                    self.send(to, change).await?;
                    // The server made the bookmark after the request, and in the order of events.
                    self.is_current(began, to).await?;
                    if listing.is_some() {
                        return Ok(());
                    }
                    continue;
                }
            };
            self.send(to, change).await?;
        }
    }

    /// 0 is a version that is not a number, and for the server "any version": a watch cannot resume
    /// there.
    fn resume_at_unless_zero(&mut self, version: u64) {
        self.resume_at = Some(version).filter(|version| *version != 0);
    }

    async fn send(&self, to: &mpsc::Sender<E>, change: Change<T>) -> Result<(), End> {
        let event = (self.source.event)(change);
        to.send(event).await.map_err(|_| End::ReceiverDropped)
    }
}

fn unanswered() -> End {
    End::Failed(WatchFailure::Silent)
}

/// Reads from an error what to do next.
fn end_of(error: &kube::Error) -> End {
    match error {
        kube::Error::Api(status) => match status.code {
            410 => End::Expired,
            404 => End::Failed(WatchFailure::Missing),
            403 => End::Failed(WatchFailure::Forbidden),
            _ if status.reason == "Expired" || status.reason == "Gone" => End::Expired,
            // The message is written for people; kube's own text repeats the whole status.
            _ if !status.message.is_empty() => {
                End::Failed(WatchFailure::Other(status.message.clone()))
            }
            _ => End::Failed(WatchFailure::Other(chain(error))),
        },
        _ => End::Failed(WatchFailure::Other(chain(error))),
    }
}

/// Returns `true` if the server rejects the request itself as invalid.
fn is_rejection(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 422))
}
