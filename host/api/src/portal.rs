//! Portal links: the console for one tenant, for a time, for what is listed (promise O13). A link is a token, and is judged as one.

use serde::{Deserialize, Serialize};
use tollgate_core::access::{Capabilities, Role};
use tollgate_core::ids::{TenantName, TokenId};
use tollgate_core::portal::{self, Appearance};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{parse, read};
use crate::tokens::{TokenView, WantedToken};

/// Bytes of a link's name at the most.
const LINK_NAME_BYTES_MAX: usize = 100;

/// A portal link that is asked for, as JSON and command line flags alike.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLinkBody {
    /// What its holder may do, with commas between: read, replay, redeliver, review, issues, bulk, pause, settings
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "CAPABILITY,…", value_delimiter = ',', required = true)
    )]
    pub may: Vec<String>,
    /// How long it lasts, for example 30m, 1h or 2d; seven days at the most
    #[cfg_attr(feature = "cli", arg(long = "for", value_name = "TIME"))]
    #[serde(rename = "for")]
    pub lasts: String,
    /// Why it is made, kept with it
    #[cfg_attr(feature = "cli", arg(long))]
    pub why: String,
    /// Who it is for: the history names what they do by this
    #[cfg_attr(feature = "cli", arg(long, default_value = "portal", hide_default_value = true))]
    #[serde(default = "unnamed")]
    pub name: String,
    /// The console's accent for them, for example '#0a7'; made darker or lighter as far as text needs it
    #[cfg_attr(feature = "cli", arg(long, value_name = "COLOUR"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent: Option<String>,
    /// light or dark, until they choose; without it, as their browser says
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Say whether it could be made, and make none
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(default)]
    pub actor: String,
}

fn unnamed() -> String {
    "portal".to_owned()
}

impl NewLinkBody {
    /// Checks the request, which is made at `now`. Returns the token that the link is, and what it lists.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self, tenant: TenantName, now: UnixMillis) -> Result<WantedLink, String> {
        let capabilities: Capabilities = read("may", &self.may.join(","))?;
        let lasts_ms = portal::lasts_ms(self.lasts.trim()).map_err(|error| format!("for: {error}"))?;
        if self.name.trim().is_empty() {
            return Err("name: say who the link is for".to_owned());
        }
        if self.why.trim().is_empty() {
            return Err("why: say why the link is made: it is kept with it".to_owned());
        }
        mask::check_note("name", &self.name, LINK_NAME_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        let ends_at = now.plus_ms(lasts_ms);
        Ok(WantedLink {
            capabilities,
            ends_at,
            token: WantedToken {
                name: self.name,
                role: Role::Portal(capabilities),
                tenant: Some(tenant.clone()),
                created_by: self.actor,
                why: self.why,
                expires_at: Some(ends_at),
                look: Appearance {
                    accent: parse("accent", self.accent)?,
                    scheme: parse("scheme", self.scheme)?,
                },
            },
            tenant,
        })
    }
}

/// A [`NewLinkBody`], checked.
#[derive(Debug, Clone)]
pub struct WantedLink {
    /// Whose console it opens.
    pub tenant: TenantName,
    /// What its holder may do.
    pub capabilities: Capabilities,
    /// When it ends by itself.
    pub ends_at: UnixMillis,
    /// The token that it is.
    pub token: WantedToken,
}

/// A portal link that was made. Its address is shown this once: the host keeps a digest only.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct IssuedLink {
    /// Names the link; null after a dry run.
    pub id: Option<TokenId>,
    /// What its holder opens; null after a dry run.
    pub url: Option<String>,
    /// Whose console it opens.
    pub tenant: TenantName,
    /// Who it is for.
    pub name: String,
    /// What its holder may do.
    pub may: Vec<String>,
    /// When it ends by itself (RFC 3339).
    pub ends_at: String,
}

/// A portal link as people see it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct LinkView {
    /// Names the link.
    pub id: TokenId,
    /// Whose console it opens.
    pub tenant: TenantName,
    /// Who it is for.
    pub name: String,
    /// What its holder may do.
    pub may: Vec<String>,
    /// open, over or revoked.
    pub state: String,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Who asked for it.
    pub created_by: String,
    /// Why it was made.
    pub why: String,
    /// When it ends by itself (RFC 3339).
    pub ends_at: String,
    /// When it was revoked (RFC 3339); null while it was not.
    pub revoked_at: Option<String>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Why it was revoked.
    pub revoked_why: Option<String>,
}

impl LinkView {
    /// A token as a link, as it stands at `now`; none when it is no link.
    pub fn of(token: TokenView, now: UnixMillis) -> Option<Self> {
        let (tenant, ends_at) = (token.tenant?, token.expires_at?);
        if token.may.is_empty() {
            return None;
        }
        let is_over = UnixMillis::from_rfc3339(&ends_at).is_none_or(|end| end <= now);
        let state = match (&token.revoked_at, is_over) {
            (Some(_), _) => "revoked",
            (None, true) => "over",
            (None, false) => "open",
        };
        Some(Self {
            id: token.id,
            tenant,
            name: token.name,
            may: token.may,
            state: state.to_owned(),
            created_at: token.created_at,
            created_by: token.created_by,
            why: token.why,
            ends_at,
            revoked_at: token.revoked_at,
            revoked_by: token.revoked_by,
            revoked_why: token.revoked_why,
        })
    }

    /// Whether somebody can come in by it.
    pub fn is_open(&self) -> bool {
        self.state == "open"
    }
}

/// Which portal links, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LinksQuery {
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Those that are over or revoked as well
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
}

impl LinksQuery {
    /// Checks the question. Returns the tenant, and whether those that are over are meant as well.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<(Option<TenantName>, bool), String> {
        Ok((parse("tenant", self.tenant)?, self.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o13_a_link_that_is_asked_for_is_checked() {
        let now = UnixMillis(1_777_975_200_000);
        let body = |change: &dyn Fn(&mut NewLinkBody)| {
            let mut body = NewLinkBody {
                may: vec!["read".to_owned(), "replay".to_owned()],
                lasts: "1h".to_owned(),
                why: "a customer asks".to_owned(),
                name: "ana".to_owned(),
                ..NewLinkBody::default()
            };
            change(&mut body);
            body.checked("acme".parse().unwrap(), now)
        };
        let link = body(&|_| {}).unwrap();
        assert_eq!(link.ends_at, now.plus_ms(3_600_000));
        assert_eq!(link.token.expires_at, Some(link.ends_at));
        assert_eq!(link.capabilities.to_string(), "read,replay");
        type Change = fn(&mut NewLinkBody);
        let wrong: [(Change, &str); 7] = [
            (|body| body.may.clear(), "may: say what"),
            (
                |body| body.may = vec!["replay".to_owned()],
                "may: `replay` needs `read`",
            ),
            (|body| body.lasts = "9d".to_owned(), "for: `9d`"),
            (|body| body.why = " ".to_owned(), "why: say why"),
            (|body| body.name.clear(), "name: say who"),
            (
                |body| body.accent = Some("red".to_owned()),
                "accent: `red` is no colour",
            ),
            (
                |body| body.scheme = Some("plaid".to_owned()),
                "scheme: `plaid` is no scheme",
            ),
        ];
        for (change, part) in wrong {
            let said = body(&change).map(|_| ()).unwrap_err();
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
