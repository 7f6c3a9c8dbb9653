//! Actions: what a plugin may ask for, in the host's own types. One case per case of `wit/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, OperationKey, ReceiptId};
use crate::money::Money;

/// One action as it stands in the ledger and is delivered. The JSON form is `{"kind": "credit", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// Adds value to an account.
    Credit(Transfer),
    /// Takes value from an account.
    Debit(Transfer),
    /// Holds stock for a customer or an order.
    ReserveStock(Stock),
    /// Lets held stock go.
    ReleaseStock(Stock),
    /// Issues a gift card.
    IssueGiftCard(GiftCard),
    /// Marks a subject as suspicious.
    Flag(Flag),
    /// Sends somebody a message.
    Notify(Notice),
    /// Does something that the contract has no case for.
    Extension(Extension),
    /// Hands on the event itself. Only a route without a plugin makes it; no plugin can ask for it.
    Forward(Forward),
}

/// Value added to or taken from an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Transfer {
    /// Whose balance changes, as the receiving system names it.
    pub account: String,
    /// How much is moved; at least 1 minor unit.
    pub amount: Money,
    /// Why, for people.
    pub reason: String,
}

/// A quantity of one article, held or let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stock {
    /// The article.
    pub sku: String,
    /// How many pieces; at least 1.
    pub quantity: u32,
    /// What the stock is held for, for example an order.
    pub reference: String,
}

/// A gift card that the receiving system is to issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GiftCard {
    /// Who gets the card, as the receiving system names them.
    pub recipient: String,
    /// The value of the card; at least 1 minor unit.
    pub amount: Money,
    /// Which template the receiving system makes the card from.
    pub template: String,
}

/// A judgement on a subject; `score` from 0 (harmless) to 100 (certain).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Flag {
    /// Who or what is judged.
    pub subject: String,
    /// From 0 (harmless) to 100 (certain).
    pub score: u32,
    /// Why, for people; at most 32.
    pub reasons: Vec<String>,
}

/// A message to somebody, which the receiving system writes and sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Notice {
    /// How it is sent, for example `email`.
    pub channel: String,
    /// Who gets it, as the channel addresses them.
    pub recipient: String,
    /// Which template the receiving system writes it from.
    pub template: String,
    /// What is put into the template, by name; at most 32.
    pub values: Vec<(String, String)>,
}

/// An action that the contract has no case for; the host checks its name, size and that its body is JSON, nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Extension {
    /// The name that routes grant it by.
    pub name: String,
    /// The schema of `body`, for the receiver.
    pub schema: String,
    /// A JSON document.
    pub body: String,
}

/// The name of an action's case, as routes grant it and the ledger groups it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Adds value to an account.
    Credit,
    /// Takes value from an account.
    Debit,
    /// Holds stock.
    ReserveStock,
    /// Lets held stock go.
    ReleaseStock,
    /// Issues a gift card.
    IssueGiftCard,
    /// Marks a subject as suspicious.
    Flag,
    /// Sends somebody a message.
    Notify,
    /// Does something that the contract has no case for.
    Extension,
    /// Made by a route that forwards, and never granted.
    Forward,
}

impl ActionKind {
    /// The kinds that a plugin may ask for.
    pub const ALL: [Self; 8] = [
        Self::Credit,
        Self::Debit,
        Self::ReserveStock,
        Self::ReleaseStock,
        Self::IssueGiftCard,
        Self::Flag,
        Self::Notify,
        Self::Extension,
    ];

    /// The name in grants, in the ledger and in the JSON of an action.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Debit => "debit",
            Self::ReserveStock => "reserve-stock",
            Self::ReleaseStock => "release-stock",
            Self::IssueGiftCard => "issue-gift-card",
            Self::Flag => "flag",
            Self::Notify => "notify",
            Self::Extension => "extension",
            Self::Forward => "forward",
        }
    }

    /// The kind with this name, if it is one that a plugin may ask for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind with this name, if it is one that the ledger holds.
    pub fn of_ledger(name: &str) -> Option<Self> {
        Self::from_name(name).or_else(|| (name == Self::Forward.as_str()).then_some(Self::Forward))
    }
}

impl ActionKind {
    /// Whether actions of this kind move money.
    pub const fn moves_money(self) -> bool {
        matches!(self, Self::Credit | Self::Debit | Self::IssueGiftCard)
    }

    /// Whether actions of this kind have an account: see [`Action::account`].
    pub const fn has_account(self) -> bool {
        self.moves_money() || matches!(self, Self::Notify)
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Action {
    /// The case of this action.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Credit(_) => ActionKind::Credit,
            Self::Debit(_) => ActionKind::Debit,
            Self::ReserveStock(_) => ActionKind::ReserveStock,
            Self::ReleaseStock(_) => ActionKind::ReleaseStock,
            Self::IssueGiftCard(_) => ActionKind::IssueGiftCard,
            Self::Flag(_) => ActionKind::Flag,
            Self::Notify(_) => ActionKind::Notify,
            Self::Extension(_) => ActionKind::Extension,
            Self::Forward(_) => ActionKind::Forward,
        }
    }

    /// The amount of money the action moves, if it moves any.
    pub fn amount(&self) -> Option<Money> {
        match self {
            Self::Credit(transfer) | Self::Debit(transfer) => Some(transfer.amount),
            Self::IssueGiftCard(card) => Some(card.amount),
            Self::ReserveStock(_)
            | Self::ReleaseStock(_)
            | Self::Flag(_)
            | Self::Notify(_)
            | Self::Extension(_)
            | Self::Forward(_) => None,
        }
    }

    /// Whose balance, card or message it is, as the receiving system names them; none for what is nobody's.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Credit(transfer) | Self::Debit(transfer) => Some(&transfer.account),
            Self::IssueGiftCard(card) => Some(&card.recipient),
            Self::Notify(notice) => Some(&notice.recipient),
            Self::ReserveStock(_) | Self::ReleaseStock(_) | Self::Flag(_) | Self::Extension(_) | Self::Forward(_) => {
                None
            }
        }
    }

    /// The JSON that the ledger keeps and destinations receive. The same action always gives the same bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an action is strings and integers")
    }

    /// Two actions under one operation key have the same content when this digest is the same.
    pub fn content_digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }
}

/// For people: `credit 5.00 USD to cust_1`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credit(transfer) => write!(f, "credit {} to {}", transfer.amount, transfer.account),
            Self::Debit(transfer) => write!(f, "debit {} from {}", transfer.amount, transfer.account),
            Self::ReserveStock(stock) => write!(f, "reserve {} × {}", stock.quantity, stock.sku),
            Self::ReleaseStock(stock) => write!(f, "release {} × {}", stock.quantity, stock.sku),
            Self::IssueGiftCard(card) => write!(f, "gift card {} for {}", card.amount, card.recipient),
            Self::Flag(flag) => write!(f, "flag {} with score {}", flag.subject, flag.score),
            Self::Notify(notice) => write!(f, "notify {} by {}", notice.recipient, notice.channel),
            Self::Extension(extension) => write!(f, "{} (schema {})", extension.name, extension.schema),
            Self::Forward(forward) => write!(f, "forward the event as {}", forward.form),
        }
    }
}

/// What a plugin proposed: an action under the name of its business operation. Made by the sandbox from guest output, and
/// believed only after [`crate::grant::judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// As the guest gave it; not yet an [`OperationKey`].
    pub operation_key: String,
    /// What was proposed, not yet checked.
    pub action: UncheckedAction,
}

/// Guest output before judgement: the same cases, with amounts and currencies that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UncheckedAction {
    /// Adds value to an account.
    Credit(UncheckedTransfer),
    /// Takes value from an account.
    Debit(UncheckedTransfer),
    /// Holds stock.
    ReserveStock(Stock),
    /// Lets held stock go.
    ReleaseStock(Stock),
    /// Issues a gift card.
    IssueGiftCard {
        /// As in [`GiftCard`].
        recipient: String,
        /// The value of the card.
        amount: UncheckedMoney,
        /// As in [`GiftCard`].
        template: String,
    },
    /// Marks a subject as suspicious; the score may be over 100.
    Flag(Flag),
    /// Sends somebody a message.
    Notify(Notice),
    /// Does something that the contract has no case for; the body may be no JSON.
    Extension(Extension),
}

/// A [`Transfer`] whose amount nobody has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedTransfer {
    /// As in [`Transfer`].
    pub account: String,
    /// How much is moved.
    pub amount: UncheckedMoney,
    /// As in [`Transfer`].
    pub reason: String,
}

/// An amount as the guest gave it: of any size, also negative, in what may be no currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedMoney {
    /// In minor units of `currency`.
    pub minor_units: i64,
    /// What should be a currency code.
    pub currency: String,
}

/// The form in which an event is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ForwardForm {
    /// JSON: what was read of the event, with its body in it.
    Envelope,
    /// The body as it came, byte for byte.
    Body,
    /// CloudEvents 1.0, structured, in JSON.
    CloudEvents,
}

impl ForwardForm {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Envelope, Self::Body, Self::CloudEvents];

    /// The name that files and the ledger know the form by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Body => "body",
            Self::CloudEvents => "cloudevents",
        }
    }
}

impl fmt::Display for ForwardForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ForwardForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|form| form.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no form of an event; there are envelope, body and cloudevents"))
    }
}

/// What the ledger keeps of an event that is handed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forward {
    /// Whose event is handed on.
    pub receipt: ReceiptId,
    /// In which form the event is handed on.
    pub form: ForwardForm,
}

/// An action that was judged and may be recorded. Only [`crate::grant::judge`] makes one of a proposal; [`crate::forward::action`] makes
/// that of a route which runs no plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedAction {
    operation_key: OperationKey,
    action: Action,
}

impl GrantedAction {
    pub(crate) fn new(operation_key: OperationKey, action: Action) -> Self {
        Self { operation_key, action }
    }

    /// The name of its business effect.
    pub fn operation_key(&self) -> &OperationKey {
        &self.operation_key
    }

    /// What is recorded.
    pub fn action(&self) -> &Action {
        &self.action
    }
}

/// What the ledger said to a granted action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first time: recorded, and put into the outbox.
    Recorded,
    /// The same operation with the same content is already recorded: nothing happens.
    AlreadyDone,
    /// The same operation is recorded with other content: kept for review, no effect.
    Conflict,
}

/// Judges an operation key that the ledger may already have (promise T2).
pub fn verdict(recorded: Option<Digest>, proposed: Digest) -> Verdict {
    match recorded {
        None => Verdict::Recorded,
        Some(content) if content == proposed => Verdict::AlreadyDone,
        Some(_) => Verdict::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    #[test]
    fn an_action_reads_back_from_its_json() {
        let action = Action::Credit(Transfer {
            account: "cust_1".into(),
            amount: Money::new(500, Currency::new("USD").unwrap()).unwrap(),
            reason: "cashback".into(),
        });
        let json = action.to_json();
        assert_eq!(
            json,
            r#"{"kind":"credit","account":"cust_1","amount":{"minor_units":500,"currency":"USD"},"reason":"cashback"}"#
        );
        assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), action);
        assert_eq!(action.to_string(), "credit 5.00 USD to cust_1");
    }

    #[test]
    fn one_operation_has_one_effect() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(verdict(None, a), Verdict::Recorded);
        assert_eq!(verdict(Some(a), a), Verdict::AlreadyDone);
        assert_eq!(verdict(Some(b), a), Verdict::Conflict);
    }
}
