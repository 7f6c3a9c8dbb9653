//! The answer table: what the edge answers to what happened. Providers retry by status, so this is policy, in one place. A profile says
//! what its provider wants otherwise ([`Ack`]), and only this module looks at that.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

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
    /// What was signed was received before under another id or type; this delivery is durably kept and flagged.
    SuspectedReplay(ReceiptId),
    /// Nothing was kept.
    Rejected(Rejection),
}

/// Why nothing was kept. The name is what is counted and logged; the sender learns the status and the public message only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// There is no such tenant or source.
    UnknownSource,
    /// The method is not POST.
    Method,
    /// The request did not come over HTTPS, where the operator demands it.
    Insecure,
    /// The request came from an address that the source does not list.
    Address,
    /// The tenant has used up its rate.
    RateLimited,
    /// The signature, timestamp or key did not prove the request.
    Unauthentic,
    /// Authentic, but not an event by the profile: no id, no type, an empty batch. Another try may find a profile that knows where to look.
    Malformed,
    /// Authentic, but nothing that could ever be read: not JSON, no form, not UTF-8, too deep, doubtful keys.
    Unreadable,
    /// The body is over the limit.
    BodyTooLarge,
    /// The request carries more events than one request may.
    BatchTooLarge,
    /// The headers are over the limit.
    HeadersTooLarge,
    /// A Content-Encoding, which would have to be undone before verification.
    Encoded,
    /// The body did not arrive in time.
    TooSlow,
    /// The key that the request names cannot be had now. Says nothing about the request.
    KeyUnavailable,
    /// The tenant's configuration cannot be used now. Says nothing about the request.
    TenantUnavailable,
    /// The write queue is full.
    Overloaded,
    /// The store cannot write: disk full, or failing.
    StoreUnavailable,
    /// The host is shutting down.
    ShuttingDown,
}

impl Rejection {
    /// Every rejection, in the order of this enum.
    pub const ALL: [Self; 18] = [
        Self::UnknownSource,
        Self::Method,
        Self::Insecure,
        Self::Address,
        Self::RateLimited,
        Self::Unauthentic,
        Self::Malformed,
        Self::Unreadable,
        Self::BodyTooLarge,
        Self::BatchTooLarge,
        Self::HeadersTooLarge,
        Self::Encoded,
        Self::TooSlow,
        Self::KeyUnavailable,
        Self::TenantUnavailable,
        Self::Overloaded,
        Self::StoreUnavailable,
        Self::ShuttingDown,
    ];

    /// The name under which it is counted and logged. The two ways of being malformed have one name; their causes have their own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown-source",
            Self::Method => "method",
            Self::Insecure => "insecure",
            Self::Address => "address",
            Self::RateLimited => "rate-limited",
            Self::Unauthentic => "unauthentic",
            Self::Malformed => "malformed",
            Self::Unreadable => "malformed",
            Self::BodyTooLarge => "body-too-large",
            Self::BatchTooLarge => "batch-too-large",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Encoded => "encoded",
            Self::TooSlow => "too-slow",
            Self::KeyUnavailable => "key-unavailable",
            Self::TenantUnavailable => "tenant-unavailable",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable => "store-unavailable",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// How a provider wants to be answered, where that is not as everybody else. From its profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The one status for whatever is kept, new or not: some providers take exactly 200.
    pub(crate) kept: Option<u16>,
    /// The status for a conflict.
    pub(crate) conflict: Option<u16>,
    /// The status for what can never be read: some providers stop trying at one status only.
    pub(crate) malformed: Option<u16>,
    /// The status for what lacks its id or type, where the usual 400 would make the provider give up: a later try may be read.
    pub(crate) incomplete: Option<u16>,
    /// The body for whatever is kept.
    pub(crate) body: Option<String>,
    /// Further headers for whatever is kept; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Ack {
    /// The same, with another status for a conflict: a source's own choice.
    #[must_use]
    pub fn with_conflict_status(mut self, http_status: u16) -> Self {
        self.conflict = Some(http_status);
        self
    }

    /// What the provider takes for an acknowledgement.
    pub(crate) fn kept_status(&self) -> u16 {
        self.kept.unwrap_or(200)
    }
}

/// What goes back to the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of the HTTP response.
    pub http_status: u16,
    /// One word for programs.
    pub status: &'static str,
    /// Set where the sender should come back.
    pub retry_after_s: Option<u32>,
    /// What was kept, in the order of the events; empty when nothing was.
    pub receipts: Vec<ReceiptId>,
    /// One word for each of `receipts`, where the events of a batch came out differently; else empty.
    pub decisions: Vec<&'static str>,
    /// Further headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The provider's own words for an acknowledgement.
    text: Option<String>,
    /// The largest body that would have been taken, in bytes.
    body_bytes_max: Option<usize>,
}

impl Answer {
    /// The body: the provider's own words, or JSON with the status and what was kept.
    pub fn body(&self) -> Cow<'_, str> {
        let status = self.status;
        match (&self.text, self.receipts.as_slice()) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, []) => Cow::Owned(match self.body_bytes_max {
                Some(bytes) => format!(
                    "{{\"status\":\"{status}\",\"body_bytes_max\":{bytes},\"setting\":\"body_bytes_max of the source, up to \
                     source_body_bytes_max in [edge]\"}}\n"
                ),
                None => format!("{{\"status\":\"{status}\"}}\n"),
            }),
            (None, [receipt]) => Cow::Owned(format!("{{\"receipt\":\"{receipt}\",\"status\":\"{status}\"}}\n")),
            (None, receipts) => {
                let receipts: Vec<_> = receipts.iter().map(|receipt| format!("\"{receipt}\"")).collect();
                let decisions = match self.decisions.as_slice() {
                    [] => String::new(),
                    decisions => format!("\"decisions\":[\"{}\"],", decisions.join("\",\"")),
                };
                Cow::Owned(format!(
                    "{{\"receipts\":[{}],{decisions}\"status\":\"{status}\"}}\n",
                    receipts.join(",")
                ))
            }
        }
    }

    /// The same, with the bound that the body was over and the setting that changes it.
    #[must_use]
    pub fn with_body_bound(mut self, bytes_max: usize) -> Self {
        self.body_bytes_max = Some(bytes_max);
        self
    }

    /// The media type of [`Answer::body`].
    pub fn content_type(&self) -> &'static str {
        match self.text {
            Some(_) => "text/plain; charset=utf-8",
            None => "application/json",
        }
    }
}

/// The table. A conflict and a held event are answered 2xx because they are durably kept, and a 4xx would make the provider
/// retry what can never change.
pub fn answer(happening: &Happening, ack: &Ack) -> Answer {
    let kept = |http_status, status, receipt| Answer {
        http_status: ack.kept.unwrap_or(http_status),
        status,
        retry_after_s: None,
        receipts: vec![receipt],
        decisions: Vec::new(),
        headers: ack.headers.clone(),
        text: ack.body.clone(),
        body_bytes_max: None,
    };
    let refused = |http_status, status| Answer {
        http_status,
        status,
        retry_after_s: None,
        receipts: Vec::new(),
        decisions: Vec::new(),
        headers: Vec::new(),
        text: None,
        body_bytes_max: None,
    };
    let later = |http_status, status| Answer {
        retry_after_s: Some(2),
        ..refused(http_status, status)
    };
    match *happening {
        Happening::Accepted(receipt) => kept(202, "accepted", receipt),
        Happening::Superseded(receipt) => kept(202, "superseded", receipt),
        Happening::Held(receipt) => kept(202, "held", receipt),
        Happening::Same(receipt) => kept(200, "same", receipt),
        Happening::Conflict(receipt) => match ack.conflict {
            // Not what the provider calls an acknowledgement, so not its words either.
            Some(http_status) if !(200..300).contains(&http_status) => Answer {
                receipts: vec![receipt],
                ..refused(http_status, "conflict")
            },
            Some(http_status) => Answer {
                http_status,
                ..kept(202, "conflict", receipt)
            },
            None => kept(202, "conflict", receipt),
        },
        // Never an error: whoever sends it again learns nothing, and a provider that does so by itself would only try again.
        Happening::SuspectedReplay(receipt) => kept(202, "suspected-replay", receipt),
        Happening::Rejected(rejection) => match rejection {
            Rejection::UnknownSource => refused(404, "unknown-source"),
            Rejection::Method => refused(405, "method"),
            Rejection::Insecure => refused(403, "insecure"),
            Rejection::Address => refused(403, "address"),
            Rejection::RateLimited => later(429, "rate-limited"),
            Rejection::Unauthentic => refused(401, "unauthentic"),
            Rejection::Malformed => match ack.incomplete {
                Some(http_status @ (429 | 503)) => later(http_status, "malformed"),
                Some(http_status) => refused(http_status, "malformed"),
                None => refused(400, "malformed"),
            },
            Rejection::Unreadable => refused(ack.malformed.unwrap_or(400), "malformed"),
            Rejection::BodyTooLarge => refused(413, "body-too-large"),
            Rejection::BatchTooLarge => refused(413, "batch-too-large"),
            Rejection::HeadersTooLarge => refused(431, "headers-too-large"),
            Rejection::Encoded => refused(415, "encoded"),
            Rejection::TooSlow => refused(408, "too-slow"),
            Rejection::KeyUnavailable => later(503, "key-unavailable"),
            Rejection::TenantUnavailable => later(503, "tenant-unavailable"),
            Rejection::Overloaded => later(503, "overloaded"),
            Rejection::StoreUnavailable => later(503, "store-unavailable"),
            Rejection::ShuttingDown => later(503, "shutting-down"),
        },
    }
}

/// One answer for the events of one request, in their order. It acknowledges only when every one is kept: whatever was not makes the
/// sender come again with all, and what was kept is then the same. Nothing happened when there is none.
///
/// Events that came out alike are answered with their word. Where they differ, the request is `accepted`, as all of it is kept, and
/// `decisions` says what each came out as; but a source that wants a status of its own for conflicts has it for the whole request.
pub fn answer_all(happenings: &[Happening], ack: &Ack) -> Answer {
    let rejected = happenings
        .iter()
        .find(|happening| matches!(happening, Happening::Rejected(_)));
    let unwelcome = happenings
        .iter()
        .find(|happening| ack.conflict.is_some() && matches!(happening, Happening::Conflict(_)));
    let are_alike = happenings.windows(2).all(|pair| pair[0].as_str() == pair[1].as_str());
    let kept = happenings.iter().find_map(Happening::receipt).map(Happening::Accepted);
    let together = if are_alike { happenings.first() } else { kept.as_ref() };
    let Some(telling) = rejected.or(unwelcome).or(together) else {
        return answer(&Happening::Rejected(Rejection::Malformed), ack);
    };
    let mut one = answer(telling, ack);
    if !one.receipts.is_empty() {
        one.receipts = happenings.iter().filter_map(Happening::receipt).collect();
        if !are_alike {
            one.decisions = happenings.iter().map(Happening::as_str).collect();
        }
    }
    one
}

impl Happening {
    /// One word for programs: what became of the event, or why nothing was kept.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Superseded(_) => "superseded",
            Self::Held(_) => "held",
            Self::Same(_) => "same",
            Self::Conflict(_) => "conflict",
            Self::SuspectedReplay(_) => "suspected-replay",
            Self::Rejected(rejection) => rejection.as_str(),
        }
    }

    /// The receipt of what was kept.
    pub fn receipt(&self) -> Option<ReceiptId> {
        match *self {
            Self::Accepted(receipt)
            | Self::Superseded(receipt)
            | Self::Held(receipt)
            | Self::Same(receipt)
            | Self::Conflict(receipt)
            | Self::SuspectedReplay(receipt) => Some(receipt),
            Self::Rejected(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT: ReceiptId = ReceiptId([0; 16]);
    const KEPT: [Happening; 6] = [
        Happening::Accepted(RECEIPT),
        Happening::Superseded(RECEIPT),
        Happening::Held(RECEIPT),
        Happening::Same(RECEIPT),
        Happening::Conflict(RECEIPT),
        Happening::SuspectedReplay(RECEIPT),
    ];

    #[test]
    fn whatever_is_kept_is_2xx_and_whatever_is_not_kept_never_is() {
        let acks = crate::profile::shipped().values().map(|profile| profile.ack());
        for ack in acks.chain([&Ack::default()]) {
            for kept in &KEPT {
                let answer = answer(kept, ack);
                let is_conflict = matches!(kept, Happening::Conflict(_)) && ack.conflict.is_some();
                assert!(
                    (200..300).contains(&answer.http_status) || is_conflict,
                    "{kept:?} {ack:?}"
                );
                assert_eq!(answer.receipts, [RECEIPT], "{kept:?}");
            }
            for rejection in Rejection::ALL {
                let answer = answer(&Happening::Rejected(rejection), ack);
                assert!(
                    (400..600).contains(&answer.http_status) && answer.receipts.is_empty(),
                    "{rejection:?}"
                );
                assert_eq!(
                    matches!(answer.http_status, 429 | 503),
                    answer.retry_after_s.is_some(),
                    "{rejection:?}"
                );
                assert_eq!(answer.status, rejection.as_str(), "{rejection:?}");
                assert!(answer.headers.is_empty() && answer.text.is_none(), "{rejection:?}");
            }
        }
    }

    #[test]
    fn a_provider_is_answered_in_its_own_words() {
        let ack = Ack {
            kept: Some(200),
            body: Some("[accepted]".into()),
            headers: vec![("x-kept".into(), "1".into())],
            ..Ack::default()
        };
        let kept = answer(&Happening::Held(RECEIPT), &ack);
        assert_eq!((kept.http_status, &*kept.body()), (200, "[accepted]"));
        assert_eq!(kept.content_type(), "text/plain; charset=utf-8");
        let refused = answer(&Happening::Rejected(Rejection::Unreadable), &ack);
        assert_eq!(
            (refused.http_status, &*refused.body()),
            (400, "{\"status\":\"malformed\"}\n")
        );
        let conflict = answer(&Happening::Conflict(RECEIPT), &ack.with_conflict_status(422));
        assert_eq!((conflict.http_status, conflict.status), (422, "conflict"));
        assert!(conflict.body().contains("rcpt_00"));
    }

    #[test]
    fn a_body_too_large_is_told_the_bound_and_the_setting() {
        let refused = answer(&Happening::Rejected(Rejection::BodyTooLarge), &Ack::default()).with_body_bound(1024);
        let body: serde_json::Value = serde_json::from_str(&refused.body()).unwrap();
        assert_eq!(
            (body["status"].as_str(), body["body_bytes_max"].as_u64()),
            (Some("body-too-large"), Some(1024))
        );
        assert!(
            body["setting"]
                .as_str()
                .unwrap()
                .starts_with("body_bytes_max of the source")
        );
    }

    #[test]
    fn a_batch_is_acknowledged_only_as_a_whole() {
        let check = |happenings: &[Happening], status: &str, decisions: &[&str]| {
            let answer = answer_all(happenings, &Ack::default());
            assert_eq!(
                (answer.status, &*answer.decisions),
                (status, decisions),
                "{happenings:?}"
            );
            let kept = if answer.http_status < 300 { happenings.len() } else { 0 };
            assert_eq!(answer.receipts.len(), kept, "{happenings:?}");
        };
        let [accepted, superseded, held, same, conflict, suspected] = KEPT;
        let rejected = Happening::Rejected(Rejection::StoreUnavailable);
        check(&[same.clone(), same.clone()], "same", &[]);
        check(&[conflict.clone(), conflict.clone()], "conflict", &[]);
        check(
            &[same.clone(), superseded, held],
            "accepted",
            &["same", "superseded", "held"],
        );
        check(
            &[same, suspected, conflict],
            "accepted",
            &["same", "suspected-replay", "conflict"],
        );
        check(&[accepted, rejected], "store-unavailable", &[]);
        check(&[], "malformed", &[]);
    }

    #[test]
    fn a_conflict_that_a_source_answers_with_its_own_status_speaks_for_its_batch() {
        let [accepted, .., conflict, _] = KEPT;
        let answer = answer_all(&[accepted, conflict], &Ack::default().with_conflict_status(409));
        assert_eq!((answer.http_status, answer.status), (409, "conflict"));
        let body: serde_json::Value = serde_json::from_str(&answer.body()).unwrap();
        assert_eq!(body["decisions"], serde_json::json!(["accepted", "conflict"]));
        assert_eq!(body["receipts"].as_array().map(Vec::len), Some(2));
    }
}
