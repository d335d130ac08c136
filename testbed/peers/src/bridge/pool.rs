//! What both dialects' pools are: a listener, and a miner at each of its connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use daylight_stratum::{Broken, LINE_TIME, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::{Block, Books, Shares};
use crate::error::{Error, Result};

/// A pool in front of a node. Dropping it ends it and all its connections; the node goes on.
///
/// It outlives restarts of its node: miners stay connected, shares that the node cannot judge
/// meanwhile are refused, and work comes again once the node is back.
#[derive(Debug)]
pub struct Pool {
    address: SocketAddr,
    books: watch::Receiver<Books>,
    /// Ends what is in it when it is dropped.
    _tasks: JoinSet<()>,
}

impl Pool {
    /// Where miners find it, without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted so far.
    pub fn books(&self) -> Books {
        self.books.borrow().clone()
    }

    /// The blocks that the node took, in their order.
    pub fn accepted_blocks(&self) -> Vec<Block> {
        self.books.borrow().blocks.clone()
    }

    /// The shares by login name.
    pub fn shares(&self) -> BTreeMap<String, Shares> {
        self.books.borrow().shares.clone()
    }

    /// Waits until what it has counted is enough, and gives it.
    pub async fn until(&self, enough: impl Fn(&Books) -> bool) -> Books {
        let mut books = self.books.clone();
        match books.wait_for(|books| enough(books)).await {
            Ok(books) => books.clone(),
            Err(_) => self.books(),
        }
    }

    /// Opens one. `watch` is what looks after the node, and `news` changes when miners are to be
    /// told of other work.
    pub(super) async fn open<N: Clone + Send + Sync + 'static, D: Desk>(
        listen: SocketAddr,
        books: watch::Receiver<Books>,
        watch: impl Future<Output = ()> + Send + 'static,
        news: watch::Receiver<N>,
        desk: impl Fn(u32) -> D + Send + 'static,
    ) -> Result<Self> {
        let failed = || Error::io(format!("listening on {listen}"));
        let listener = TcpListener::bind(listen).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(watch);
        tasks.spawn(async move {
            let (seats, mut serving) = (AtomicU32::new(1), JoinSet::new());
            while let Ok((stream, _)) = listener.accept().await {
                let desk = desk(seats.fetch_add(1, Ordering::Relaxed));
                // What is new until the login is told with it.
                let mut news = news.clone();
                news.mark_unchanged();
                serving.spawn(serve(stream, desk, news));
                while serving.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, books, _tasks: tasks })
    }
}

/// What a pool says to one miner.
pub(super) trait Desk: Send + 'static {
    /// What it says to a line of the miner's.
    fn hear(&mut self, line: &[u8]) -> impl Future<Output = Vec<String>> + Send;

    /// What it says when there is other work.
    fn renew(&mut self) -> impl Future<Output = Vec<String>> + Send;
}

async fn serve<N: Send + Sync>(stream: TcpStream, mut desk: impl Desk, news: watch::Receiver<N>) {
    // A share's answer waits for nothing; where that cannot be set, it only comes later.
    let _ = stream.set_nodelay(true);
    let mut lines = Lines::new(stream, LINE_TIME);
    // Why it ended is the miner's business.
    let _ = talk(&mut lines, &mut desk, news).await;
    lines.close().await;
}

async fn talk<N: Send + Sync>(
    lines: &mut Lines,
    desk: &mut impl Desk,
    mut news: watch::Receiver<N>,
) -> Result<(), Broken> {
    loop {
        let answers = select! {
            line = lines.next() => {
                let line = line?;
                desk.hear(&line).await
            }
            changed = news.changed() => match changed {
                Ok(()) => desk.renew().await,
                Err(_) => return Ok(()),
            },
        };
        for answer in answers {
            lines.send(&answer).await?;
        }
    }
}
