//! Failures: the three answers beside proposals.

use crate::{Failure, RetryLater};

impl Failure {
    /// The event is not for this rule. Final; nothing happens. The message says why, for the person who asks.
    pub fn refuse(message: impl Into<String>) -> Self {
        Self::Refuse(message.into())
    }

    /// A person must look at it. The event waits for review.
    pub fn hold(message: impl Into<String>) -> Self {
        Self::Hold(message.into())
    }

    /// Something is missing that may be there later. The host tries again with its own backoff, bounded.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry(RetryLater {
            after_ms: None,
            message: message.into(),
        })
    }

    /// Like [`Failure::retry`], but not before `after_ms` milliseconds from now.
    pub fn retry_after(after_ms: u64, message: impl Into<String>) -> Self {
        Self::Retry(RetryLater {
            after_ms: Some(after_ms),
            message: message.into(),
        })
    }
}
