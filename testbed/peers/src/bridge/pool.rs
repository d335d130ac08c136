use std::collections::BTreeMap;
use std::net::SocketAddr;

use daylight_stratum::pool::Server;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::{Block, Books, Shares};

/// A pool in front of a node. Dropping it ends it and all its connections; the node keeps running.
///
/// It outlives restarts of its node: miners stay connected, shares that the node cannot judge
/// meanwhile are refused, and work is sent again once the node is back.
#[derive(Debug)]
pub struct Pool {
    server: Server,
    books: watch::Receiver<Books>,
    /// Follows the node until this is dropped.
    _watch: JoinSet<()>,
}

impl Pool {
    pub(super) fn new(
        server: Server,
        books: watch::Receiver<Books>,
        watch: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { server, books, _watch: JoinSet::from_iter([watch]) }
    }

    /// Address for miners, without TLS.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Everything counted so far.
    pub fn books(&self) -> Books {
        self.books.borrow().clone()
    }

    /// The blocks that the node accepted, in their order.
    pub fn accepted_blocks(&self) -> Vec<Block> {
        self.books.borrow().blocks.clone()
    }

    /// The shares by login name.
    pub fn shares(&self) -> BTreeMap<String, Shares> {
        self.books.borrow().shares.clone()
    }

    /// Waits until the books are enough, and returns them.
    pub async fn until(&self, enough: impl Fn(&Books) -> bool) -> Books {
        let mut books = self.books.clone();
        match books.wait_for(|books| enough(books)).await {
            Ok(books) => books.clone(),
            Err(_) => self.books(),
        }
    }
}
