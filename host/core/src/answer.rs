//! The answer table: what the edge answers to what happened. Providers retry by status, so this is policy, in one place.

use crate::ids::ReceiptId;

/// Everything that may become of a request at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A new receipt is durable and its jobs are made.
    Accepted(ReceiptId),
    /// A new receipt is durable; the subject is already further.
    Superseded(ReceiptId),
    /// A new receipt is durable and waits for a person.
    Held(ReceiptId),
    /// The event was received before.
    Same(ReceiptId),
    /// The event's id was received before with other bytes; this delivery is durably kept and flagged.
    Conflict(ReceiptId),
    /// Nothing was kept.
    Rejected(Rejection),
}

/// Why nothing was kept. The name is what is counted and logged; the sender learns the status and the public message only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// No such tenant or source.
    UnknownSource,
    /// Not POST.
    Method,
    /// Not over HTTPS, where the operator demands it.
    Insecure,
    /// From an address that the source does not list.
    Address,
    /// The tenant has used up its rate.
    RateLimited,
    /// The signature, timestamp or key did not prove the request.
    Unauthentic,
    /// Authentic, but not an event: not JSON, no id, no type, too deep, doubtful keys.
    Malformed,
    /// The body is over the limit.
    BodyTooLarge,
    /// The headers are over the limit.
    HeadersTooLarge,
    /// A Content-Encoding, which would have to be undone before verification.
    Encoded,
    /// The body did not arrive in time.
    TooSlow,
    /// The write queue is full.
    Overloaded,
    /// The store cannot write: disk full, or failing.
    StoreUnavailable,
    /// The host is shutting down.
    ShuttingDown,
}

impl Rejection {
    pub const ALL: [Self; 14] = [
        Self::UnknownSource,
        Self::Method,
        Self::Insecure,
        Self::Address,
        Self::RateLimited,
        Self::Unauthentic,
        Self::Malformed,
        Self::BodyTooLarge,
        Self::HeadersTooLarge,
        Self::Encoded,
        Self::TooSlow,
        Self::Overloaded,
        Self::StoreUnavailable,
        Self::ShuttingDown,
    ];

    /// The name under which it is counted and logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown-source",
            Self::Method => "method",
            Self::Insecure => "insecure",
            Self::Address => "address",
            Self::RateLimited => "rate-limited",
            Self::Unauthentic => "unauthentic",
            Self::Malformed => "malformed",
            Self::BodyTooLarge => "body-too-large",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Encoded => "encoded",
            Self::TooSlow => "too-slow",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable => "store-unavailable",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// What goes back to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub http_status: u16,
    /// One word for programs.
    pub status: &'static str,
    /// Set where the sender should come back.
    pub retry_after_s: Option<u32>,
    pub receipt: Option<ReceiptId>,
}

/// The table. A conflict and a held event are answered 2xx because they are durably kept, and a 4xx would make the provider
/// retry what can never change.
pub fn answer(happening: &Happening) -> Answer {
    let kept = |http_status, status, receipt| Answer {
        http_status,
        status,
        retry_after_s: None,
        receipt: Some(receipt),
    };
    let refused = |http_status, status| Answer {
        http_status,
        status,
        retry_after_s: None,
        receipt: None,
    };
    let later = |http_status, status| Answer {
        http_status,
        status,
        retry_after_s: Some(2),
        receipt: None,
    };
    match *happening {
        Happening::Accepted(receipt) => kept(202, "accepted", receipt),
        Happening::Superseded(receipt) => kept(202, "superseded", receipt),
        Happening::Held(receipt) => kept(202, "held", receipt),
        Happening::Same(receipt) => kept(200, "same", receipt),
        Happening::Conflict(receipt) => kept(202, "conflict", receipt),
        Happening::Rejected(rejection) => match rejection {
            Rejection::UnknownSource => refused(404, "unknown-source"),
            Rejection::Method => refused(405, "method"),
            Rejection::Insecure => refused(403, "insecure"),
            Rejection::Address => refused(403, "address"),
            Rejection::RateLimited => later(429, "rate-limited"),
            Rejection::Unauthentic => refused(401, "unauthentic"),
            Rejection::Malformed => refused(400, "malformed"),
            Rejection::BodyTooLarge => refused(413, "body-too-large"),
            Rejection::HeadersTooLarge => refused(431, "headers-too-large"),
            Rejection::Encoded => refused(415, "encoded"),
            Rejection::TooSlow => refused(408, "too-slow"),
            Rejection::Overloaded => later(503, "overloaded"),
            Rejection::StoreUnavailable => later(503, "store-unavailable"),
            Rejection::ShuttingDown => later(503, "shutting-down"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_kept_is_2xx_and_whatever_is_not_kept_never_is() {
        let receipt = ReceiptId([0; 16]);
        for kept in [
            Happening::Accepted(receipt),
            Happening::Superseded(receipt),
            Happening::Held(receipt),
            Happening::Same(receipt),
            Happening::Conflict(receipt),
        ] {
            let answer = answer(&kept);
            assert!(
                (200..300).contains(&answer.http_status) && answer.receipt == Some(receipt),
                "{kept:?}"
            );
        }
        for rejection in Rejection::ALL {
            let answer = answer(&Happening::Rejected(rejection));
            assert!(
                (400..600).contains(&answer.http_status) && answer.receipt.is_none(),
                "{rejection:?}"
            );
            assert_eq!(
                matches!(answer.http_status, 429 | 503),
                answer.retry_after_s.is_some(),
                "{rejection:?}"
            );
            assert_eq!(answer.status, rejection.as_str(), "{rejection:?}");
        }
    }
}
