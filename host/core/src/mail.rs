//! A notice of an issue as an e-mail: whom it may go to, and what it says.
//!
//! An e-mail is told from the ledger's action, as a webhook is, and by the same rules of attempts. Nothing that stands in it can become a head of
//! its own: each value is one line of text that people can see.

use std::fmt;
use std::str::FromStr;

use crate::action::{Action, ActionKind, Notice};
use crate::delivery::{AttemptEnd, TestMessage};
use crate::issue;
use crate::mask;
pub use crate::outbox::OutboxClaim;
use crate::outbox::idempotency_key;
use crate::time::UnixMillis;

/// The longest address that SMTP carries (RFC 5321, section 4.5.3.1.3, without the brackets).
const ADDRESS_BYTES_MAX: usize = 254;
/// Of it what stands before the `@`.
const LOCAL_BYTES_MAX: usize = 64;
/// One name between two dots of a domain.
const LABEL_BYTES_MAX: usize = 63;
/// A value of a notice, in the text.
const VALUE_BYTES_MAX: usize = 500;
/// A value of a notice, in the subject.
const SUBJECT_VALUE_BYTES_MAX: usize = 80;

/// An e-mail address in plain ASCII without quotes and comments, as mail servers everywhere take it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MailAddress {
    text: String,
    /// Where the `@` stands.
    at: usize,
}

impl MailAddress {
    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands behind the `@`, in lower case.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

impl FromStr for MailAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("`{}` is no e-mail address: {why}", mask::line(text, 80)));
        let Some((local, domain)) = text.rsplit_once('@') else {
            return refused("it has no @");
        };
        if text.len() > ADDRESS_BYTES_MAX || local.len() > LOCAL_BYTES_MAX {
            return refused("it is too long");
        }
        // The atoms of RFC 5322, section 3.2.3.
        let is_atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
        if !local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.bytes().all(is_atom))
        {
            return refused("what stands before the @ is not plain letters, digits, dots and -+_");
        }
        if !is_domain(domain) {
            return refused("what stands behind the @ is no domain");
        }
        Ok(Self {
            text: format!("{local}@{}", domain.to_ascii_lowercase()),
            at: local.len(),
        })
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text is a domain as mail goes to it: names of letters, digits and `-`, with dots between them.
pub fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// What an e-mail says. No field but the text has more than one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// What it is about, in one line.
    pub subject: String,
    /// The whole text, each line of which ends in `\n`.
    pub text: String,
    /// What stands before the `@` of its `Message-ID`: the `webhook-id` of the entry, the same at every attempt.
    pub id: String,
    /// When the change was recorded.
    pub date: UnixMillis,
}

impl TestMessage<'_> {
    /// The test as an e-mail; `at` is the time as its reader knows it.
    pub fn mail(&self, at: UnixMillis) -> Mail {
        Mail {
            subject: format!("[tollgate] {}: a test of {}", self.tenant, self.destination),
            text: format!(
                "Somebody who sets up the destination {} of the tenant {} tries it.\n\
                 Nothing happened, and nothing is to be done.\n",
                self.destination, self.tenant
            ),
            id: self.id.to_owned(),
            date: at,
        }
    }
}

impl OutboxClaim {
    /// The e-mail that tells of this entry.
    ///
    /// # Errors
    /// How the attempt ends when the entry is no notice of an issue: nothing else is sent by e-mail.
    pub fn mail(&self) -> Result<Mail, AttemptEnd> {
        let own = self.kind == ActionKind::Notify && self.namespace == issue::namespace();
        let action = serde_json::from_str(&self.action_json).ok().filter(|_| own);
        let Some(Action::Notify(notice)) = action else {
            return Err(AttemptEnd::Forbidden {
                reason: format!(
                    "`{}` of `{}` is written to by e-mail, which tells of issues alone: this is a {}",
                    self.destination, self.tenant, self.kind
                ),
            });
        };
        let key = idempotency_key(&self.namespace, self.kind, &self.operation_key);
        Ok(Mail {
            subject: subject(self, &notice),
            text: text(self, &notice, &key),
            id: self.message_id.clone(),
            date: self.recorded_at,
        })
    }
}

fn value(notice: &Notice, name: &str, bytes_max: usize) -> String {
    let found = notice.values.iter().find(|(known, _)| known == name);
    mask::line(found.map_or("", |(_, value)| value), bytes_max)
}

/// What happened to the issue, in words: `opened again` of `issue-opened-again`.
fn happened(notice: &Notice) -> String {
    let template = notice.template.strip_prefix("issue-").unwrap_or(&notice.template);
    mask::line(&template.replace('-', " "), SUBJECT_VALUE_BYTES_MAX)
}

fn subject(claim: &OutboxClaim, notice: &Notice) -> String {
    let value = |name| value(notice, name, SUBJECT_VALUE_BYTES_MAX);
    format!(
        "[tollgate] {}: {} {}, {} at {} ({})",
        claim.tenant,
        value("issue"),
        happened(notice),
        value("kind"),
        value("place"),
        value("code"),
    )
}

fn text(claim: &OutboxClaim, notice: &Notice, key: &str) -> String {
    let value = |name| value(notice, name, VALUE_BYTES_MAX);
    let (issue, tenant) = (value("issue"), &claim.tenant);
    format!(
        "{issue} of the tenant {tenant} is {happened}.\n\
         \n\
         What to do first:\n\
         {first_action}.\n\
         \n\
         What failed   {kind} at {place}, code {code}\n\
         How often     {count}\n\
         First         {first_seen}\n\
         Last          {last_seen}\n\
         \n\
         Look at it:\n\
         tollgate issues show {issue}\n\
         tollgate {list} '{filter}'\n\
         \n\
         -- \n\
         Tollgate records this change once, as {key}, and tells of it until the mail server takes it: what comes twice has the same Message-ID.\n",
        happened = happened(notice),
        first_action = value("first_action"),
        kind = value("kind"),
        place = value("place"),
        code = value("code"),
        count = value("count"),
        first_seen = value("first_seen"),
        last_seen = value("last_seen"),
        list = value("list"),
        filter = value("filter"),
        key = mask::line(key, VALUE_BYTES_MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IssueId;
    use crate::issue::{Issue, IssueKind, IssueState, notice};
    use crate::outbox::tests::claim;

    fn claimed(action: &Action) -> OutboxClaim {
        OutboxClaim {
            namespace: issue::namespace(),
            operation_key: "issue_7:1".parse().unwrap(),
            kind: action.kind(),
            action_json: action.to_json(),
            ..claim()
        }
    }

    fn opened() -> Action {
        let issue = Issue {
            id: IssueId(7),
            tenant: "acme".parse().unwrap(),
            kind: IssueKind::DeadDelivery,
            place: "books".to_owned(),
            code: "410".to_owned(),
            state: IssueState::Open,
            changes: 2,
            first_seen: UnixMillis(1_777_975_200_000),
            last_seen: UnixMillis(1_777_975_260_000),
            count: 3,
        };
        notice(&issue).1
    }

    #[test]
    fn o12_an_address_is_one_that_every_mail_server_takes() {
        for (text, expect) in [
            ("ops@acme.example", Ok("ops@acme.example")),
            ("On.Call+eu@ACME.Example", Ok("On.Call+eu@acme.example")),
            ("root@localhost", Ok("root@localhost")),
            ("ops", Err("it has no @")),
            ("@acme.example", Err("before the @")),
            ("a..b@acme.example", Err("before the @")),
            ("\"a b\"@acme.example", Err("before the @")),
            ("ops@acme.example\r\nBcc: eve@evil.example", Err("before the @")),
            ("ops@acme.example\r\nBcc: eve", Err("no domain")),
            ("ops\r\nBcc: eve@evil.example", Err("before the @")),
            ("ops@-acme.example", Err("no domain")),
            ("ops@acme..example", Err("no domain")),
            ("ops@[127.0.0.1]", Err("no domain")),
            ("ops@acmé.example", Err("no domain")),
        ] {
            match (text.parse::<MailAddress>(), expect) {
                (Ok(address), Ok(expect)) => assert_eq!(address.as_str(), expect),
                (Err(said), Err(expect)) => assert!(said.contains(expect) && !said.contains('\n'), "{said}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let long = format!("{}@acme.example", "a".repeat(65));
        assert!(long.parse::<MailAddress>().unwrap_err().contains("too long"));
        assert_eq!("a@B.example".parse::<MailAddress>().unwrap().domain(), "b.example");
    }

    #[test]
    fn o12_an_email_says_what_happened_and_what_to_do_first() {
        let mail = claimed(&opened()).mail().unwrap();
        assert_eq!(
            mail.subject,
            "[tollgate] acme: issue_7 opened again, dead-delivery at books (410)"
        );
        for line in [
            "issue_7 of the tenant acme is opened again.",
            "see whether the URL of the destination `books` is still right.",
            "tollgate issues show issue_7",
            "tollgate deliveries 'tenant:acme status:dead destination:books code:410'",
        ] {
            assert!(mail.text.lines().any(|found| found == line), "{line}: {}", mail.text);
        }
        assert!(mail.text.contains("tollgate/notify/issue_7:1"));
        assert_eq!((mail.id, mail.date), (claim().message_id, claim().recorded_at));
    }

    /// Whatever a notice's values hold, they stay values.
    #[test]
    fn o12_no_value_becomes_a_head_or_a_line_of_its_own() {
        let Action::Notify(mut notice) = opened() else {
            panic!("a notice")
        };
        for (_, value) in &mut notice.values {
            value.push_str("\r\nBcc: eve@evil.example\r\n\r\n.\r\nQUIT\u{202e}");
        }
        notice.template.push_str("\r\nBcc: eve@evil.example");
        let mail = claimed(&Action::Notify(notice)).mail().unwrap();
        assert!(!mail.subject.chars().any(mask::is_hidden), "{:?}", mail.subject);
        assert!(
            mail.text.chars().all(|c| c == '\n' || !mask::is_hidden(c)),
            "{:?}",
            mail.text
        );
        let begins = |with: &str| mail.text.lines().any(|line| line.starts_with(with));
        assert!(!begins("Bcc") && !begins(".") && !begins("QUIT"), "{}", mail.text);
    }

    #[test]
    fn o12_nothing_but_an_issues_notice_is_sent_by_email() {
        let of_plugin = OutboxClaim {
            namespace: "loyalty".parse().unwrap(),
            ..claimed(&opened())
        };
        for claim in [claim(), of_plugin] {
            match claim.mail() {
                Err(AttemptEnd::Forbidden { reason }) => assert!(reason.contains("issues alone"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
