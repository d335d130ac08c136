//! Login at one pool.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Config, Fault};
use crate::lines::Lines;
use crate::v1::Redirect;
use crate::{Endpoint, Malformed, Received, Session, Tls, tls};

/// A connection that is logged in.
pub(super) struct Connection<S: Session> {
    pub(super) lines: Lines,
    pub(super) session: S,
    /// Lines' effects that arrived with the login and are still to be handled.
    pub(super) received: Vec<Received<S::Work>>,
    pub(super) latency: Duration,
}

/// Result of a login.
pub(super) enum Opened<S: Session> {
    Connection(Box<Connection<S>>),
    Moved(Redirect),
}

/// Connects and logs in, within the time limit.
pub(super) async fn open<S: Session>(
    endpoint: Endpoint,
    config: Config,
) -> Result<Opened<S>, Fault> {
    let pool = endpoint.to_string();
    let mut unread = Unread::default();
    match timeout(config.timing.login, login(&endpoint, &config, &mut unread)).await {
        Ok(result) => result,
        Err(_) => Err(match unread.last {
            Some(error) => Fault::Malformed { pool, error },
            None => Fault::Unreachable { pool, why: "the login took too long".into() },
        }),
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
    unread: &mut Unread,
) -> Result<Opened<S>, Fault> {
    let pool = || endpoint.to_string();
    let unreachable =
        |error: std::io::Error| Fault::Unreachable { pool: pool(), why: error.to_string() };
    let lost = |why: crate::LineError| Fault::Lost { pool: pool(), why: why.to_string() };
    let mut lines = connect(endpoint, config.timing.line).await.map_err(unreachable)?;
    let (mut session, opening) = S::open(&config.login);
    for line in opening {
        lines.send(&line).await.map_err(lost)?;
    }
    let malformed = |error| Fault::Malformed { pool: pool(), error };
    let (sent, mut latency) = (Instant::now(), None);
    let mut passed_over = Vec::new();
    loop {
        let line = lines.next().await.map_err(lost)?;
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
                unread @ Received::Unread(_) => passed_over.push(unread),
                Received::Work { .. } | Received::Judged { .. } | Received::Message(_) => {}
            }
        }
    }
}

async fn connect(endpoint: &Endpoint, line_time: Duration) -> std::io::Result<Lines> {
    let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    // A share that waits for more data may be stale when it arrives.
    stream.set_nodelay(true)?;
    let pin = match endpoint.tls {
        Tls::Off => return Ok(Lines::new(stream, line_time)),
        Tls::Roots => None,
        Tls::Pinned(pin) => Some(pin),
    };
    Ok(Lines::new(tls::secure(stream, &endpoint.host, pin).await?, line_time))
}
