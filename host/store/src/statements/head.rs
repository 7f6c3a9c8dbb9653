//! The end of the chain of receipts, as the store has it.

use tollgate_core::chain;
use tollgate_core::ids::Digest;

use super::fault::Fault;
use crate::sql::{Connection, OptionalExtension as _, params};

/// The newest receipt and its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainHead {
    pub(crate) seq: i64,
    pub(crate) link: Digest,
}

impl ChainHead {
    /// Of the newest receipt's number and link; of a store without receipts it is the beginning.
    pub(crate) fn of(newest: Option<(i64, [u8; 32])>) -> Self {
        let (seq, link) = newest.map_or((0, chain::GENESIS), |(seq, link)| (seq, Digest(link)));
        Self { seq, link }
    }
}

/// Writes the head of the chain, for the next transaction and for whoever looks whether receipts are missing.
pub(crate) fn write_chain_head(connection: &Connection, head: &ChainHead) -> Result<(), Fault> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO chain_heads (chain, seq, link) VALUES (0, ?1, ?2)")?
        .execute(params![head.seq, head.link.0.as_slice()])?;
    Ok(())
}

/// Reads the head of the chain; of a store without receipts it is the beginning.
pub(crate) fn read_chain_head(connection: &Connection) -> Result<ChainHead, Fault> {
    let head = connection
        .query_row("SELECT seq, link FROM chain_heads WHERE chain = 0", [], |row| {
            Ok((row.get(0)?, row.get::<_, [u8; 32]>(1)?))
        })
        .optional()?;
    Ok(ChainHead::of(head))
}
