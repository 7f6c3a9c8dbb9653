//! Who may ask what of a host's private listener (promise O2): roles, permissions, and tokens that prove a caller.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, TenantName};
use crate::secret::Secret;

/// What a token begins with, so that people and scanners for leaked secrets know one when they see it.
const TOKEN_PREFIX: &str = "tgt_";

/// What a caller may do on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs the host: everything, of every tenant.
    Operator,
    /// Runs one tenant: everything of it.
    TenantAdmin,
    /// Writes plugins for one tenant: uploads and tries them, but does not put them to work, and does not see receipts.
    PluginAuthor,
    /// Fetches what waits for one tenant's pulled destinations, and sees nothing else.
    Puller,
    /// Reads, and changes nothing.
    Viewer,
}

impl Role {
    /// Every role, the one with the most permissions first.
    pub const ALL: [Self; 5] = [
        Self::Operator,
        Self::TenantAdmin,
        Self::PluginAuthor,
        Self::Puller,
        Self::Viewer,
    ];

    /// The name that files, tokens and the operator API know the role by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant-admin",
            Self::PluginAuthor => "plugin-author",
            Self::Puller => "puller",
            Self::Viewer => "viewer",
        }
    }

    /// Whether the role has the permission at all. The caller's tenant limits what it applies to.
    pub fn may(self, permission: Permission) -> bool {
        match self {
            Self::Operator => true,
            Self::TenantAdmin => permission != Permission::HostWrite,
            Self::PluginAuthor => matches!(
                permission,
                Permission::PluginRead | Permission::PluginUpload | Permission::PluginTrial
            ),
            Self::Puller => permission == Permission::DeliveryPull,
            Self::Viewer => matches!(
                permission,
                Permission::HostRead | Permission::ReceiptRead | Permission::PluginRead
            ),
        }
    }

    /// Whether the role is of one tenant, of none, or of either.
    fn tenancy(self) -> Tenancy {
        match self {
            Self::Operator => Tenancy::Never,
            Self::TenantAdmin | Self::PluginAuthor | Self::Puller => Tenancy::Always,
            Self::Viewer => Tenancy::Either,
        }
    }
}

enum Tenancy {
    Never,
    Always,
    Either,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; there are operator, tenant-admin, plugin-author, puller and viewer")]
pub struct NoSuchRole(String);

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| NoSuchRole(text.to_owned()))
    }
}

/// One kind of thing that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Counts and metrics of the whole host.
    HostRead,
    /// What only the operator does.
    HostWrite,
    /// Receipts and what became of them: trace, dead letters, held receipts.
    ReceiptRead,
    /// Replay, resend and review.
    ReceiptWrite,
    /// Plugins, their reports, history and routes.
    PluginRead,
    /// Upload a plugin.
    PluginUpload,
    /// Run a plugin on recorded runs, without effects.
    PluginTrial,
    /// Publish, shadow, canary, promote, roll back, retire.
    PluginPromote,
    /// Routes, their configuration and grants.
    RouteWrite,
    /// Whose signatures are believed.
    PublisherWrite,
    /// A tenant's settings, their versions, and the names of its secrets.
    SettingsRead,
    /// Change them, and set secrets.
    SettingsWrite,
    /// Lists tokens, without what proves them.
    TokenRead,
    /// Makes tokens and revokes them.
    TokenWrite,
    /// Fetches and confirms what waits for a pulled destination.
    DeliveryPull,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 15] = [
        Self::HostRead,
        Self::HostWrite,
        Self::ReceiptRead,
        Self::ReceiptWrite,
        Self::PluginRead,
        Self::PluginUpload,
        Self::PluginTrial,
        Self::PluginPromote,
        Self::RouteWrite,
        Self::PublisherWrite,
        Self::SettingsRead,
        Self::SettingsWrite,
        Self::TokenRead,
        Self::TokenWrite,
        Self::DeliveryPull,
    ];

    /// The name that the operator API and its messages know the permission by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostRead => "host-read",
            Self::HostWrite => "host-write",
            Self::ReceiptRead => "receipt-read",
            Self::ReceiptWrite => "receipt-write",
            Self::PluginRead => "plugin-read",
            Self::PluginUpload => "plugin-upload",
            Self::PluginTrial => "plugin-trial",
            Self::PluginPromote => "plugin-promote",
            Self::RouteWrite => "route-write",
            Self::PublisherWrite => "publisher-write",
            Self::SettingsRead => "settings-read",
            Self::SettingsWrite => "settings-write",
            Self::TokenRead => "token-read",
            Self::TokenWrite => "token-write",
            Self::DeliveryPull => "delivery-pull",
        }
    }
}

/// Somebody who proved with a token who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token, which the history keeps.
    pub name: String,
    /// Limits what the caller may do.
    pub role: Role,
    /// The only tenant that the caller sees; none for a caller who sees the whole host.
    pub tenant: Option<TenantName>,
}

/// Why a call is refused to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller's role lacks the permission.
    #[error("the role {role} has no permission {}", permission.as_str())]
    Role {
        /// The caller's role.
        role: Role,
        /// What the call needs.
        permission: Permission,
    },
    /// The call is about another tenant or about the whole host. The message does not say whether its object exists.
    #[error("this token is for the tenant `{own}` only")]
    Tenant {
        /// The only tenant that the caller may know of.
        own: TenantName,
    },
}

impl Caller {
    /// The holder of the operator's own token, which the configuration names.
    pub fn operator() -> Self {
        Self {
            name: "operator".to_owned(),
            role: Role::Operator,
            tenant: None,
        }
    }

    /// Whether the caller may do this to something of `tenant`; without one, to something of the whole host.
    ///
    /// # Errors
    /// When not.
    pub fn may(&self, permission: Permission, tenant: Option<&TenantName>) -> Result<(), Denied> {
        if !self.role.may(permission) {
            return Err(Denied::Role {
                role: self.role,
                permission,
            });
        }
        self.sees(tenant)
    }

    /// Checks that the caller may know of what belongs to `tenant`; without one, of what belongs to the whole host.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn sees(&self, tenant: Option<&TenantName>) -> Result<(), Denied> {
        match &self.tenant {
            Some(own) if tenant != Some(own) => Err(Denied::Tenant { own: own.clone() }),
            _ => Ok(()),
        }
    }

    /// The tenant that a question is narrowed to: the caller's own, or the one that was asked for.
    ///
    /// # Errors
    /// When another than the caller's own was asked for.
    pub fn narrowed(&self, asked: Option<TenantName>) -> Result<Option<TenantName>, Denied> {
        match asked {
            Some(asked) => self.sees(Some(&asked)).map(|()| Some(asked)),
            None => Ok(self.tenant.clone()),
        }
    }

    /// Whether the caller may give somebody such a token: nobody gives more than they have.
    ///
    /// # Errors
    /// When not, or when there is no such token; in words.
    pub fn may_issue(&self, role: Role, tenant: Option<&TenantName>) -> Result<(), String> {
        match (role.tenancy(), tenant) {
            (Tenancy::Never, Some(_)) => return Err(format!("the role {role} is of no tenant: leave `tenant` out")),
            (Tenancy::Always, None) => return Err(format!("the role {role} is of one tenant: name it in `tenant`")),
            _ => {}
        }
        self.may(Permission::TokenWrite, tenant)
            .map_err(|denied| denied.to_string())
    }
}

/// A new token from 32 random bytes: what its holder keeps. It is shown once.
pub fn token(random: [u8; 32]) -> Secret {
    Secret::new(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&random)))
}

/// The digest that a host keeps of a token, and finds it by. A plain hash is enough, because a token is 256 random bits and not a word that
/// somebody chose; and the time that a comparison of hashes takes tells a guesser nothing.
pub fn token_digest(token: &[u8]) -> Digest {
    Digest(Sha256::digest(token).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, tenant: Option<&str>) -> Caller {
        Caller {
            name: "somebody".to_owned(),
            role,
            tenant: tenant.map(|name| name.parse().unwrap()),
        }
    }

    #[test]
    fn o2_a_tenant_s_caller_reaches_nothing_of_another_or_of_the_host() {
        let (own, other): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        for role in [Role::TenantAdmin, Role::PluginAuthor, Role::Puller, Role::Viewer] {
            let caller = caller(role, Some("acme"));
            let any = if role == Role::Puller {
                Permission::DeliveryPull
            } else {
                Permission::PluginRead
            };
            assert_eq!(caller.may(any, Some(&own)), Ok(()));
            let denied = Denied::Tenant { own: own.clone() };
            assert_eq!(caller.may(any, Some(&other)), Err(denied.clone()));
            assert_eq!(caller.may(any, None), Err(denied.clone()));
            assert_eq!(caller.narrowed(None), Ok(Some(own.clone())));
            assert_eq!(caller.narrowed(Some(other.clone())), Err(denied));
        }
        assert_eq!(Caller::operator().narrowed(Some(other.clone())), Ok(Some(other)));
        assert_eq!(Caller::operator().narrowed(None), Ok(None));
    }

    #[test]
    fn o2_a_role_has_what_it_says_and_no_more() {
        use Permission::*;
        let all = Permission::ALL;
        let of = |role: Role| {
            all.into_iter()
                .filter(|permission| role.may(*permission))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Role::Operator), all);
        assert_eq!(of(Role::TenantAdmin).len(), all.len() - 1);
        assert_eq!(of(Role::PluginAuthor), [PluginRead, PluginUpload, PluginTrial]);
        assert_eq!(of(Role::Puller), [DeliveryPull]);
        assert_eq!(of(Role::Viewer), [HostRead, ReceiptRead, PluginRead]);
    }

    #[test]
    fn o2_nobody_issues_more_than_they_have() {
        let own: TenantName = "acme".parse().unwrap();
        let other: TenantName = "globex".parse().unwrap();
        let admin = caller(Role::TenantAdmin, Some("acme"));
        assert_eq!(admin.may_issue(Role::PluginAuthor, Some(&own)), Ok(()));
        assert!(admin.may_issue(Role::PluginAuthor, Some(&other)).is_err());
        assert!(admin.may_issue(Role::Operator, None).is_err());
        assert!(
            admin.may_issue(Role::Viewer, None).is_err(),
            "it would see every tenant"
        );
        assert!(
            caller(Role::PluginAuthor, Some("acme"))
                .may_issue(Role::Viewer, Some(&own))
                .is_err()
        );
        let operator = Caller::operator();
        assert_eq!(operator.may_issue(Role::Operator, None), Ok(()));
        assert_eq!(operator.may_issue(Role::Viewer, None), Ok(()));
        assert!(
            operator
                .may_issue(Role::Operator, Some(&own))
                .unwrap_err()
                .contains("leave `tenant` out")
        );
        assert!(
            operator
                .may_issue(Role::TenantAdmin, None)
                .unwrap_err()
                .contains("name it")
        );
    }

    #[test]
    fn a_token_is_recognisable_and_found_by_its_digest() {
        let made = token([7; 32]);
        let text = std::str::from_utf8(made.expose()).unwrap();
        assert_eq!((text.len(), &text[..4]), (47, "tgt_"));
        assert_eq!(token_digest(made.expose()), token_digest(text.as_bytes()));
        assert_ne!(token_digest(made.expose()), token_digest(token([8; 32]).expose()));
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("tenant-admin"));
    }
}
