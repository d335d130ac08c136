//! The pool's side of Stratum v1 and of Monero's dialect, for tests: it judges every share itself.
//!
//! A [`Server`] accepts miners and keeps their sessions. The [`Node`] behind it decides what is
//! mined and takes what is found: [`crate::loopback`] invents a chain, and the crate
//! `daylight-peers` asks real nodes of Bitcoin and Monero.

mod misbehaviour;
mod monero;
mod node;
mod v1;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::lines::{LINE_TIME, LineError, Lines};
use crate::v1::Redirect;
pub use misbehaviour::Misbehaviour;
pub use node::{Event, MoneroNode, Node, Order, V1Job, V1Node, V1Share};
pub use v1::{EXTRANONCE1, EXTRANONCE2};

/// A listener with a session for each connection. Dropping it closes them all.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Aborted when this is dropped, together with the connections that it holds.
    _listener: JoinSet<()>,
}

/// Options of a [`Server`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The server's certificate; plain TCP without one.
    pub tls: Option<Arc<ServerConfig>>,
    pub misbehaviour: Misbehaviour,
}

/// The pool's side of one connection, without I/O: lines in, lines out.
trait Session: Send + 'static {
    /// Answers a line of the miner's.
    fn receive(&mut self, line: &[u8]) -> impl Future<Output = Answer> + Send;

    /// Returns the lines that send the newest job; none to a miner that is not logged in.
    fn renew(&mut self) -> impl Future<Output = Vec<String>> + Send;

    /// Returns the line that sends the miner elsewhere, where the dialect has one.
    fn redirect(&self, redirect: Redirect) -> Option<String>;
}

/// Answer to a line.
enum Answer {
    Lines(Vec<String>),
    /// The reply to a share, which [`Misbehaviour::NeverJudges`] suppresses.
    Verdict(String),
}

impl Server {
    /// Serves Stratum v1 at an address.
    pub async fn v1(
        listen: SocketAddr,
        node: Arc<impl V1Node>,
        options: Options,
    ) -> io::Result<Self> {
        Self::start(listen, node, options, v1::Session::new).await
    }

    /// Serves Monero's dialect at an address.
    pub async fn monero(
        listen: SocketAddr,
        node: Arc<impl MoneroNode>,
        options: Options,
    ) -> io::Result<Self> {
        Self::start(listen, node, options, monero::Session::new).await
    }

    /// Address it listens at, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start<N: Node, S: Session>(
        listen: SocketAddr,
        node: Arc<N>,
        options: Options,
        session: fn(Arc<N>, u32) -> S,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accept = async move {
            let (mut connections, mut number) = (JoinSet::new(), 0);
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                let session = session(Arc::clone(&node), number);
                connections.spawn(serve(stream, Arc::clone(&node), session, options.clone()));
                while connections.try_join_next().is_some() {}
            }
        };
        Ok(Self { address, _listener: JoinSet::from_iter([accept]) })
    }
}

async fn serve(stream: TcpStream, node: Arc<impl Node>, session: impl Session, options: Options) {
    node.record(None, Event::Connected);
    // Subscribed before the login, so that no order after it is missed.
    let orders = node.orders();
    // The answer to a share must not wait for more data; without the option it only arrives later.
    let _ = stream.set_nodelay(true);
    let lines = match options.tls {
        None => Some(Lines::new(stream, LINE_TIME)),
        Some(config) => {
            let secured = TlsAcceptor::from(config).accept(stream).await;
            secured.ok().map(|stream| Lines::new(stream, LINE_TIME))
        }
    };
    if let Some(mut lines) = lines
        && let Ok(true) = options.misbehaviour.greet(&mut lines).await
    {
        // Why a connection ended concerns the miner, not the pool.
        let _ = talk(&mut lines, session, orders, options.misbehaviour).await;
        lines.close().await;
    }
    node.record(None, Event::Left);
}

/// Runs a session until either side ends it.
async fn talk(
    lines: &mut Lines,
    mut session: impl Session,
    mut orders: broadcast::Receiver<Order>,
    misbehaviour: Misbehaviour,
) -> Result<(), LineError> {
    let mut received = 0;
    loop {
        let answers = select! {
            line = lines.next() => {
                let line = line?;
                received += 1;
                if misbehaviour == Misbehaviour::HangsUpAfter(received) {
                    return Ok(());
                }
                match session.receive(&line).await {
                    Answer::Verdict(_) if misbehaviour == Misbehaviour::NeverJudges => vec![],
                    Answer::Verdict(line) => vec![line],
                    Answer::Lines(lines) => lines,
                }
            }
            order = orders.recv() => match order {
                // What was missed while this was busy were renewals: the newest job replaces them.
                Ok(Order::Renew) | Err(RecvError::Lagged(_)) => session.renew().await,
                Ok(Order::Redirect(redirect)) => session.redirect(redirect).into_iter().collect(),
                Ok(Order::Disconnect) | Err(RecvError::Closed) => return Ok(()),
            },
        };
        for line in answers {
            lines.send(&line).await?;
        }
    }
}
