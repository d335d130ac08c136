//! Pools in front of nodes.

mod books;
pub mod monero;
mod pool;
pub mod v1;

pub use books::{Block, Books, Shares};
pub use pool::Pool;
