//! Proposals: builders for each kind of action, and the operation key that names what is done.

use std::fmt;

use crate::limits::OPERATION_KEY_BYTES_MAX;
use crate::{Action, Credit, Debit, Extension, Failure, Flag, GiftCard, Money, Notice, Proposal, Stock};

/// The operation key `{rule}:{operation}`, for example `cashback:r_0ebe386a24c311bff7`. It is the plugin's own: the host records it
/// under the plugin's name, or under the namespace that the route names.
///
/// # Errors
/// [`Failure::Hold`] when it would be longer than 200 bytes or hold anything but visible ASCII: the host would not take it,
/// and changing it could let two operations share one key.
pub fn operation_key(rule: &str, operation: &str) -> Result<String, Failure> {
    let key = format!("{rule}:{operation}");
    if operation.is_empty() || key.len() > OPERATION_KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::hold(format!(
            "the operation {operation:?} cannot name an effect: 1 to {} visible ASCII characters can",
            OPERATION_KEY_BYTES_MAX.saturating_sub(rule.len() + 1)
        )));
    }
    Ok(key)
}

/// One function per kind of action. The first argument is always the operation key; see [`operation_key`].
impl Proposal {
    /// Adds `amount` to `account`; `reason` is for the person who reads the ledger.
    pub fn credit(
        key: impl Into<String>,
        account: impl Into<String>,
        amount: Money,
        reason: impl Into<String>,
    ) -> Self {
        Self::new(
            key,
            Action::Credit(Credit {
                account: account.into(),
                amount,
                reason: reason.into(),
            }),
        )
    }

    /// Takes `amount` from `account`.
    pub fn debit(key: impl Into<String>, account: impl Into<String>, amount: Money, reason: impl Into<String>) -> Self {
        Self::new(
            key,
            Action::Debit(Debit {
                account: account.into(),
                amount,
                reason: reason.into(),
            }),
        )
    }

    /// Holds `quantity` (at least 1) of the article `sku` for `reference`.
    pub fn reserve_stock(
        key: impl Into<String>,
        sku: impl Into<String>,
        quantity: u32,
        reference: impl Into<String>,
    ) -> Self {
        Self::new(
            key,
            Action::ReserveStock(Stock {
                sku: sku.into(),
                quantity,
                reference: reference.into(),
            }),
        )
    }

    /// Lets go what was reserved for `reference`.
    pub fn release_stock(
        key: impl Into<String>,
        sku: impl Into<String>,
        quantity: u32,
        reference: impl Into<String>,
    ) -> Self {
        Self::new(
            key,
            Action::ReleaseStock(Stock {
                sku: sku.into(),
                quantity,
                reference: reference.into(),
            }),
        )
    }

    /// Issues a gift card of the tenant's `template` over `amount` to `recipient`.
    pub fn issue_gift_card(
        key: impl Into<String>,
        recipient: impl Into<String>,
        amount: Money,
        template: impl Into<String>,
    ) -> Self {
        Self::new(
            key,
            Action::IssueGiftCard(GiftCard {
                recipient: recipient.into(),
                amount,
                template: template.into(),
            }),
        )
    }

    /// Judges `subject` with a score from 0 (harmless) to 100 (certain), one short reason per rule that fired.
    pub fn flag(key: impl Into<String>, subject: impl Into<String>, score: u32, reasons: Vec<String>) -> Self {
        Self::new(
            key,
            Action::Flag(Flag {
                subject: subject.into(),
                score,
                reasons,
            }),
        )
    }

    /// Sends `recipient` the tenant's text `template` by `channel` (`email`, `push`, `ops`), filled with `values`.
    pub fn notify(
        key: impl Into<String>,
        channel: impl Into<String>,
        recipient: impl Into<String>,
        template: impl Into<String>,
        values: Vec<(String, String)>,
    ) -> Self {
        let notice = Notice {
            channel: channel.into(),
            recipient: recipient.into(),
            template: template.into(),
            values,
        };
        Self::new(key, Action::Notify(notice))
    }

    /// An action that the contract has no case for, with a JSON document as its body.
    pub fn extension(
        key: impl Into<String>,
        kind: impl Into<String>,
        schema: impl Into<String>,
        body: &serde_json::Value,
    ) -> Self {
        Self::new(
            key,
            Action::Extension(Extension {
                kind: kind.into(),
                schema: schema.into(),
                body: body.to_string(),
            }),
        )
    }

    fn new(operation_key: impl Into<String>, action: Action) -> Self {
        Self {
            operation_key: operation_key.into(),
            action,
        }
    }
}

impl Money {
    /// `minor_units` (cents, paise, …) of `currency` (ISO 4217, upper case). The host checks both.
    pub fn new(minor_units: i64, currency: impl Into<String>) -> Self {
        Self {
            minor_units,
            currency: currency.into(),
        }
    }
}

/// `50.00 USD`, `500 JPY`: for people. Digits after the point follow ISO 4217, as the host shows them.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: u32 = match self.currency.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            _ => 2,
        };
        let sign = if self.minor_units < 0 { "-" } else { "" };
        let (units, scale) = (self.minor_units.unsigned_abs(), 10_u64.pow(digits));
        if digits == 0 {
            write!(f, "{sign}{units} {}", self.currency)
        } else {
            write!(
                f,
                "{sign}{}.{:0width$} {}",
                units / scale,
                units % scale,
                self.currency,
                width = digits as usize
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_key_is_what_the_host_takes() {
        assert_eq!(operation_key("cashback", "r_1"), Ok("cashback:r_1".into()));
        assert_eq!(
            operation_key("cashback", &"r".repeat(191)).map(|key| key.len()),
            Ok(200)
        );
        for operation in ["", "r 1", "r\n1", "é", &"r".repeat(192)] {
            assert!(
                matches!(operation_key("cashback", operation), Err(Failure::Hold(message)) if message.contains("1 to 191 visible ASCII")),
                "{operation}"
            );
        }
    }

    #[test]
    fn money_prints_for_people() {
        for (minor_units, currency, expect) in [
            (5000, "USD", "50.00 USD"),
            (-5, "INR", "-0.05 INR"),
            (500, "JPY", "500 JPY"),
            (1, "KWD", "0.001 KWD"),
        ] {
            assert_eq!(Money::new(minor_units, currency).to_string(), expect);
        }
        assert_eq!(Money::new(i64::MIN, "USD").to_string(), "-92233720368547758.08 USD");
    }
}
