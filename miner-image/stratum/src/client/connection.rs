//! Login at one pool.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::route::Route;
use super::{Config, Fault};
use crate::lines::{LineError, Lines};
use crate::v1::Redirect;
use crate::{Endpoint, Malformed, Received, Session, Tls, tls};

/// A connection that is logged in and has work.
pub(super) struct Connection<S: Session> {
    pub(super) lines: Lines,
    pub(super) session: S,
    /// Lines' effects that arrived with the login and are still to be handled: work is among them.
    pub(super) received: Vec<Received<S::Work>>,
    pub(super) latency: Duration,
}

/// Result of a login.
pub(super) enum Opened<S: Session> {
    Connection(Box<Connection<S>>),
    Moved(Redirect),
}

/// Connects, logs in, and waits for the first work, within the time limits of each.
pub(super) async fn open<S: Session>(
    endpoint: &Endpoint,
    config: &Config,
    route: &Route,
) -> Result<Opened<S>, Fault> {
    let pool = || endpoint.to_string();
    let timing = &config.timing;
    let mut stage = Stage::Name;
    let mut unread = Unread::default();
    let login = login(endpoint, config, route, &mut unread, &mut stage);
    let opened = match timeout(timing.login, login).await {
        Ok(opened) => opened?,
        Err(_) => {
            return Err(match (unread.last, stage) {
                (Some(error), _) => Fault::Malformed { pool: pool(), error },
                (None, stage) => {
                    Fault::Unreachable { pool: pool(), why: stage.took_too_long().into() }
                }
            });
        }
    };
    let Opened::Connection(mut connection) = opened else { return Ok(opened) };
    match timeout(timing.first_job, connection.wait_for_work(config, &mut unread)).await {
        Ok(Ok(None)) => Ok(Opened::Connection(connection)),
        Ok(Ok(Some(redirect))) => Ok(Opened::Moved(redirect)),
        Ok(Err(Broken::Line(why))) => Err(Fault::Lost { pool: pool(), why: why.to_string() }),
        Ok(Err(Broken::Malformed(error))) => Err(Fault::Malformed { pool: pool(), error }),
        Err(_) => Err(Fault::NoWork { pool: pool() }),
    }
}

/// Stage of a login, for the sentence about one that took too long.
#[derive(Clone, Copy)]
enum Stage {
    Name,
    Connection,
    Login,
}

impl Stage {
    fn took_too_long(self) -> &'static str {
        match self {
            Self::Name => "its name is not resolved: the DNS servers do not answer",
            Self::Connection => {
                "it does not answer: check address and port, and the network policy"
            }
            Self::Login => "the login took too long",
        }
    }
}

/// Reason why a pool's lines cannot be followed.
enum Broken {
    Line(LineError),
    Malformed(Malformed),
}

impl<S: Session> Connection<S> {
    /// Waits until work is among what was received, or the pool redirects.
    async fn wait_for_work(
        &mut self,
        config: &Config,
        unread: &mut Unread,
    ) -> Result<Option<Redirect>, Broken> {
        let is_work = |received: &Received<_>| matches!(received, Received::Work { .. });
        while !self.received.iter().any(is_work) {
            let line = self.lines.next().await.map_err(Broken::Line)?;
            let received = self.session.receive(&line).map_err(Broken::Malformed)?;
            if let Some(error) = unread.note(&received) {
                return Err(Broken::Malformed(error));
            }
            for received in received {
                match received.hiding(&config.login) {
                    Received::Send(line) => self.lines.send(&line).await.map_err(Broken::Line)?,
                    Received::Moved(redirect) => return Ok(Some(redirect)),
                    other => self.received.push(other),
                }
            }
        }
        Ok(None)
    }
}

/// Lines that cannot be read, in a row: a pool that sends nothing else is left.
#[derive(Debug, Default)]
pub(super) struct Unread {
    in_a_row: u32,
    last: Option<Malformed>,
}

/// Most lines in a row that are passed over.
const MOST_UNREAD: u32 = 32;

impl Unread {
    /// Notes what came of a line; returns the error if there are too many.
    pub(super) fn note<W>(&mut self, received: &[Received<W>]) -> Option<Malformed> {
        let unread = received.iter().find_map(|one| match one {
            Received::Unread(error) => Some(error.clone()),
            _ => None,
        });
        self.in_a_row = if unread.is_some() { self.in_a_row + 1 } else { 0 };
        self.last = unread.or(self.last.take());
        self.last.clone().filter(|_| self.in_a_row > MOST_UNREAD)
    }
}

async fn login<S: Session>(
    endpoint: &Endpoint,
    config: &Config,
    route: &Route,
    unread: &mut Unread,
    stage: &mut Stage,
) -> Result<Opened<S>, Fault> {
    let pool = || endpoint.to_string();
    let unreachable = |why: String| Fault::Unreachable { pool: pool(), why };
    let lost = |why: LineError| Fault::Lost { pool: pool(), why: why.to_string() };
    let addresses = route.look_up(&endpoint.host).await;
    let addresses = addresses.map_err(|why| unreachable(format!("its name is unknown: {why}")))?;
    *stage = Stage::Connection;
    let stream = race(addresses, endpoint.port).await;
    let stream = stream.map_err(|error| unreachable(error.to_string()))?;
    *stage = Stage::Login;
    let lines = secured(stream, endpoint, config.timing.line).await;
    let mut lines = lines.map_err(|error| unreachable(error.to_string()))?;
    let (mut session, opening) = S::open(&config.login);
    for line in opening {
        lines.send(&line).await.map_err(lost)?;
    }
    let malformed = |error| Fault::Malformed { pool: pool(), error };
    let (sent, mut latency) = (Instant::now(), None);
    let mut passed_over = Vec::new();
    loop {
        let line = lines.next().await.map_err(|why| match (&why, &endpoint.tls, latency) {
            (LineError::Closed | LineError::Io(_), Tls::Off, None) => Fault::Lost {
                pool: pool(),
                why: format!("{why} before any answer: if its port is for TLS, write tls://"),
            },
            _ => lost(why),
        })?;
        let latency = *latency.get_or_insert_with(|| sent.elapsed());
        let received = session.receive(&line).map_err(malformed)?;
        if let Some(error) = unread.note(&received) {
            return Err(malformed(error));
        }
        let mut received = received.into_iter();
        while let Some(next) = received.next() {
            match next.hiding(&config.login) {
                Received::LoggedIn => {
                    // The pool may send work in the same line or right behind it.
                    let received = passed_over.into_iter().chain(received).collect();
                    let connection = Connection { lines, session, received, latency };
                    return Ok(Opened::Connection(Box::new(connection)));
                }
                Received::Refused(failure) => return Err(Fault::Refused { pool: pool(), failure }),
                Received::Send(line) => lines.send(&line).await.map_err(lost)?,
                Received::Moved(redirect) => return Ok(Opened::Moved(redirect)),
                kept @ (Received::Unread(_) | Received::Message(_)) => passed_over.push(kept),
                Received::Work { .. } | Received::Judged { .. } => {}
            }
        }
    }
}

/// Time that an address has before the next one is tried, too, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of a host's addresses that answers. One behind which packets vanish costs
/// only its head start.
async fn race(addresses: Vec<SocketAddr>, port: u16) -> io::Result<TcpStream> {
    let mut attempts = FuturesUnordered::new();
    for (place, mut address) in (0_u32..).zip(by_turns(addresses)) {
        address.set_port(port);
        attempts.push(async move {
            sleep(HEAD_START * place).await;
            connect(address).await
        });
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 8;

/// Returns addresses with those of IPv6 and IPv4 by turns, as the resolver prefers them.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < MOST_ADDRESSES {
        let pair = [preferred.next(), others.next()];
        if pair == [None, None] {
            break;
        }
        mixed.extend(pair.into_iter().flatten());
    }
    mixed
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A path that was lost without a word is noticed by the system.
    socket.set_keepalive(true)?;
    // A share that waits for more data may be stale when it arrives.
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

async fn secured(stream: TcpStream, endpoint: &Endpoint, line_time: Duration) -> io::Result<Lines> {
    let pins = match &endpoint.tls {
        Tls::Off => return Ok(Lines::new(stream, line_time)),
        Tls::Roots => None,
        Tls::Pinned(pins) => Some(pins.clone()),
    };
    Ok(Lines::new(tls::secure(stream, &endpoint.host, pins).await?, line_time))
}
