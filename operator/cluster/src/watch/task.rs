//! The watch of one kind.

use std::pin::pin;
use std::time::Duration;

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::store::Stored;
use crate::watch::backoff::Backoff;
use crate::watch::line;
use crate::watch::line::Line;
use crate::watch::{Settings, list};
use crate::{Change, Round, WatchFailure};

/// The longest pause for a kind whose definition is not installed.
const MISSING: Duration = Duration::from_secs(2);

/// Which objects are watched.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub labels: Option<String>,
    pub fields: Option<String>,
}

/// What is watched, and as what it is told.
#[derive(Clone, Debug)]
pub struct Source<T, E> {
    path: String,
    selectors: Selectors,
    event: fn(Change<T>) -> E,
}

impl<T, E> Source<T, E> {
    pub fn new(path: String, selectors: Selectors, event: fn(Change<T>) -> E) -> Self {
        Self { path, selectors, event }
    }
}

/// The watch of one kind.
pub struct Task<T, E> {
    client: Client,
    source: Source<T, E>,
    settings: Settings,
    /// How far the watch has come; `None` if a list is needed.
    place: Option<u64>,
    /// What is wrong, as it was told last.
    failure: Option<WatchFailure>,
}

/// Why a list or watch did not go on.
enum End {
    /// The server ended it in good order.
    Closed,
    /// The server has forgotten the place.
    Expired,
    /// Somebody wants a fresh list.
    Relist,
    /// The server has no streaming lists.
    NotStreamed,
    Failed(WatchFailure),
    /// Nobody listens any more.
    Over,
}

impl<T, E> Task<T, E>
where
    T: Stored + Clone + DeserializeOwned + Send + 'static,
    E: Send + 'static,
{
    pub fn new(client: Client, source: Source<T, E>, settings: Settings) -> Self {
        Self { client, source, settings, place: None, failure: None }
    }

    /// Lists and watches until nobody listens any more.
    pub async fn run(mut self, to: mpsc::Sender<E>, mut rounds: watch::Receiver<u64>) {
        let mut backoff = Backoff::new(self.settings.pause, self.settings.longest_pause);
        let mut streamed = true;
        loop {
            let (before, began) = (self.place, Instant::now());
            let end = if let Some(place) = self.place {
                self.follow(place, &to, &mut rounds).await
            } else {
                let round = Round(*rounds.borrow_and_update());
                let listed = if streamed {
                    self.stream(round, &to, &mut rounds).await
                } else {
                    self.pages(round, &to).await
                };
                // Ask for a stream again next time: the server may have been upgraded.
                streamed = true;
                listed
            };
            // Whatever came of it in the end, it worked for a while.
            let worked = self.place.is_some()
                && (self.place != before || began.elapsed() > self.settings.longest_pause);
            if worked {
                backoff.reset();
            }
            match end {
                Ok(()) | Err(End::Closed) => {
                    if !worked {
                        // A server that ends every watch at once must not be hammered.
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
                Err(End::Expired) => {
                    tracing::info!(
                        path = self.source.path,
                        "the server forgot the place, listing again"
                    );
                    self.place = None;
                    if !worked {
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
                Err(End::Relist) => self.place = None,
                Err(End::NotStreamed) => {
                    tracing::info!(
                        path = self.source.path,
                        "no streaming lists here, reading pages"
                    );
                    streamed = false;
                }
                Err(End::Failed(failure)) => {
                    let mut pause = backoff.next();
                    if failure == WatchFailure::Missing {
                        // Somebody is probably installing it.
                        pause = pause.min(MISSING);
                    }
                    tracing::warn!(path = self.source.path, ?failure, ?pause, "the watch failed");
                    if self.failure.as_ref() != Some(&failure) {
                        self.failure = Some(failure.clone());
                        if self.tell(&to, Change::Failed(failure)).await.is_err() {
                            return;
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(End::Over) => return,
            }
        }
    }

    /// Lists in one stream, and watches on in the same one.
    async fn stream(
        &mut self,
        round: Round,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        // No version: the list must show what a quorum holds.
        self.events("", Some(round), to, rounds).await
    }

    /// Lists in pages.
    async fn pages(&mut self, round: Round, to: &mpsc::Sender<E>) -> Result<(), End> {
        let mut params = ListParams {
            label_selector: self.source.selectors.labels.clone(),
            field_selector: self.source.selectors.fields.clone(),
            limit: Some(self.settings.page),
            ..ListParams::default()
        };
        self.tell(to, Change::Listing).await?;
        loop {
            let request = Request::new(&self.source.path)
                .list(&params)
                .map_err(|error| End::Failed(WatchFailure::Other(error.to_string())))?;
            let text = timeout(self.settings.answer, self.client.request_text(request))
                .await
                .map_err(|_| unanswered())?
                .map_err(|error| end_of(&error))?;
            let page: list::Read<T> = list::read(&text)
                .map_err(|error| End::Failed(WatchFailure::Other(error.to_string())))?;
            drop(text);
            for item in page.items {
                self.tell(to, Change::Item(Box::new(item))).await?;
            }
            if let Some(token) = page.next {
                params.continue_token = Some(token);
            } else {
                let version = page.version;
                self.place = Some(version);
                self.failure = None;
                return self.tell(to, Change::Listed { version, round }).await;
            }
        }
    }

    /// Watches from `place` on.
    async fn follow(
        &mut self,
        place: u64,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        self.events(&place.to_string(), None, to, rounds).await
    }

    /// Passes on what a watch from `version` on sends; first a list, if `listing`.
    async fn events(
        &mut self,
        version: &str,
        listing: Option<Round>,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        let streams = listing.is_some();
        let params = WatchParams {
            label_selector: self.source.selectors.labels.clone(),
            field_selector: self.source.selectors.fields.clone(),
            send_initial_events: streams,
            ..WatchParams::default()
        };
        let mut request = Request::new(&self.source.path)
            .watch(&params, version)
            .map_err(|error| End::Failed(WatchFailure::Other(error.to_string())))?;
        // Since 1.37 a server may compress each event by itself, which kube's
        // decompression takes for the end of the stream.
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        let opened = timeout(self.settings.answer, self.client.request_stream(request));
        let stream = opened.await.map_err(|_| unanswered())?;
        let stream = stream.map_err(|error| match end_of(&error) {
            End::Failed(WatchFailure::Other(_)) if streams && is_rejection(&error) => {
                End::NotStreamed
            }
            end => end,
        })?;
        if streams {
            self.tell(to, Change::Listing).await?;
        } else if self.failure.take().is_some() {
            self.tell(to, Change::Resumed).await?;
        }
        self.pass_on(stream.lines(), listing, to, rounds).await
    }

    async fn pass_on(
        &mut self,
        lines: impl Stream<Item = std::io::Result<String>>,
        mut listing: Option<Round>,
        to: &mpsc::Sender<E>,
        rounds: &mut watch::Receiver<u64>,
    ) -> Result<(), End> {
        let mut lines = pin!(lines);
        loop {
            let next = tokio::select! {
                next = timeout(self.settings.silence, lines.next()) => next,
                changed = rounds.changed() => match changed {
                    Ok(()) => return Err(End::Relist),
                    Err(_) => return Err(End::Over),
                },
            };
            let text = match next {
                // A server that ignores the wish for a list never says that it is complete.
                Err(_) if listing.is_some() => return Err(End::NotStreamed),
                Err(_) => return Err(unanswered()),
                Ok(None) if listing.is_some() => {
                    return Err(End::Failed(WatchFailure::Other("the list broke off".to_owned())));
                }
                Ok(None) => return Err(End::Closed),
                Ok(Some(Err(error))) => {
                    return Err(End::Failed(WatchFailure::Other(error.to_string())));
                }
                Ok(Some(Ok(text))) => text,
            };
            let line: Line<T> = line::read(&text).map_err(|error| {
                End::Failed(WatchFailure::Other(format!("an event cannot be read: {error}")))
            })?;
            let change = match line {
                Line::Unreadable => continue,
                Line::Error(status) => return Err(end_of(&kube::Error::Api(status))),
                Line::Put(object) if listing.is_some() => Change::Item(Box::new(object)),
                Line::Put(object) => {
                    self.place = Some(object.version());
                    Change::Applied(Box::new(object))
                }
                Line::Deleted(object) => {
                    if listing.is_none() {
                        self.place = Some(object.version());
                    }
                    Change::Deleted(Box::new(object))
                }
                Line::Bookmark { version, complete } => match listing {
                    Some(round) if complete => {
                        listing = None;
                        self.place = Some(version);
                        self.failure = None;
                        Change::Listed { version, round }
                    }
                    Some(_) => continue,
                    None => {
                        self.place = Some(version);
                        Change::Progress(version)
                    }
                },
            };
            // A place that is no number cannot be gone on from.
            if self.place == Some(0) {
                self.place = None;
            }
            self.tell(to, change).await?;
        }
    }

    async fn tell(&self, to: &mpsc::Sender<E>, change: Change<T>) -> Result<(), End> {
        let event = (self.source.event)(change);
        to.send(event).await.map_err(|_| End::Over)
    }
}

fn unanswered() -> End {
    End::Failed(WatchFailure::Other("the server does not answer".to_owned()))
}

/// What an error means for the watch.
fn end_of(error: &kube::Error) -> End {
    match error {
        kube::Error::Api(status) => match status.code {
            410 => End::Expired,
            404 => End::Failed(WatchFailure::Missing),
            403 => End::Failed(WatchFailure::Forbidden),
            _ if status.reason == "Expired" || status.reason == "Gone" => End::Expired,
            _ => End::Failed(WatchFailure::Other(error.to_string())),
        },
        _ => End::Failed(WatchFailure::Other(error.to_string())),
    }
}

/// Whether the server finds the request itself wrong.
fn is_rejection(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 422))
}
