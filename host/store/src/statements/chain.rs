//! Whether what a store of rows holds is whole: its chain of receipts from one end to the other, and what leads from row to row.

use tollgate_core::chain::GENESIS;
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::head::read_chain_head;
use super::receipts::{self, Body, View};
use super::relations;

/// What is not whole, in words: receipts whose body, facts or link are not what was admitted, and rows that do not fit together.
pub(crate) fn problems(view: View<'_>, key: &Secret) -> Result<Vec<String>, Fault> {
    let head = read_chain_head(view.connection)?;
    let mut problems = Vec::new();
    let mut link = GENESIS;
    for seq in 1..=head.seq {
        let Some(receipt) = receipts::get(view, seq, Body::With)? else {
            problems.push(format!("receipt {seq} is missing"));
            return Ok(problems);
        };
        if !receipt.has_body(key, &receipt.event.payload) {
            problems.push(format!("receipt {seq}: its body is not the one that was admitted"));
        }
        if receipt.link_after(&link) != receipt.link {
            problems.push(format!(
                "receipt {seq}: it is not the one that was admitted in this place"
            ));
        }
        link = receipt.link;
    }
    if link != head.link {
        problems.push(format!(
            "the chain's head is receipt {}, but with another link than it has",
            head.seq
        ));
    }
    problems.extend(relations::problems(view.connection, Some(key), head.seq)?);
    Ok(problems)
}
