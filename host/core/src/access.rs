//! Who may ask what of a host's private listener (promise O2): roles, permissions, and tokens that prove a caller.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, TenantName};
use crate::mask;
use crate::portal::Appearance;
use crate::secret::Secret;
use crate::time::UnixMillis;

/// What a token begins with, so that people and scanners for leaked secrets know one when they see it.
const TOKEN_PREFIX: &str = "tgt_";
/// What the secret of a portal link begins with.
const LINK_PREFIX: &str = "tgl_";

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
    /// Came by a portal link to one tenant, and may what the link lists.
    Portal(Capabilities),
}

impl Role {
    /// Every role that a token may be asked for with, the one with the most permissions first. A portal link is asked for by itself.
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
            Self::Portal(_) => "portal",
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
            Self::Portal(capabilities) => capabilities.may(permission),
        }
    }

    /// Whether the role is of one tenant, of none, or of either.
    fn tenancy(self) -> Tenancy {
        match self {
            Self::Operator => Tenancy::Never,
            Self::TenantAdmin | Self::PluginAuthor | Self::Puller | Self::Portal(_) => Tenancy::Always,
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
    /// Changes plugins' state by hand.
    ReceiptWrite,
    /// Puts work back that ended.
    WorkReplay,
    /// Sends again what was delivered, or was given up.
    DeliveryResend,
    /// Decides about what was set aside.
    ReviewWrite,
    /// Says of issues what becomes of them.
    IssueWrite,
    /// Begins and ends bulk actions, of those that the other permissions allow one by one.
    BulkWrite,
    /// Pauses and resumes routes and destinations.
    PauseWrite,
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
    pub const ALL: [Self; 21] = [
        Self::HostRead,
        Self::HostWrite,
        Self::ReceiptRead,
        Self::ReceiptWrite,
        Self::WorkReplay,
        Self::DeliveryResend,
        Self::ReviewWrite,
        Self::IssueWrite,
        Self::BulkWrite,
        Self::PauseWrite,
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
            Self::WorkReplay => "work-replay",
            Self::DeliveryResend => "delivery-resend",
            Self::ReviewWrite => "review-write",
            Self::IssueWrite => "issue-write",
            Self::BulkWrite => "bulk-write",
            Self::PauseWrite => "pause-write",
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

/// Something that a portal link lets its holder do (promise O13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// See what came in and what became of it, and the plugins.
    Read,
    /// Put work back that ended: jobs, and deliveries that were given up.
    Replay,
    /// Send again what was delivered; by a filter, what was given up.
    Redeliver,
    /// Decide about what was set aside.
    Review,
    /// Say of issues what becomes of them.
    Issues,
    /// Do the above to all that fits a filter.
    Bulk,
    /// Pause and resume routes and destinations.
    Pause,
    /// See and change the tenant's settings, and set secrets.
    Settings,
}

impl Capability {
    /// Every capability, in the order of this enum.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Replay,
        Self::Redeliver,
        Self::Review,
        Self::Issues,
        Self::Bulk,
        Self::Pause,
        Self::Settings,
    ];

    /// The word in requests and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Replay => "replay",
            Self::Redeliver => "redeliver",
            Self::Review => "review",
            Self::Issues => "issues",
            Self::Bulk => "bulk",
            Self::Pause => "pause",
            Self::Settings => "settings",
        }
    }

    /// What its holder may do, for people, behind "you may".
    pub fn says(self) -> &'static str {
        match self {
            Self::Read => "see what came in and what became of it",
            Self::Replay => "put work back that ended",
            Self::Redeliver => "send deliveries again",
            Self::Review => "decide about what is held",
            Self::Issues => "acknowledge, resolve and ignore issues",
            Self::Bulk => "do so to all that fits a filter",
            Self::Pause => "pause and resume routes and destinations",
            Self::Settings => "see and change settings, and set secrets",
        }
    }

    /// What it is to the gate.
    pub fn permissions(self) -> &'static [Permission] {
        match self {
            Self::Read => &[Permission::ReceiptRead, Permission::PluginRead],
            Self::Replay => &[Permission::WorkReplay],
            Self::Redeliver => &[Permission::DeliveryResend],
            Self::Review => &[Permission::ReviewWrite],
            Self::Issues => &[Permission::IssueWrite],
            Self::Bulk => &[Permission::BulkWrite],
            Self::Pause => &[Permission::PauseWrite],
            Self::Settings => &[
                Permission::SettingsRead,
                Permission::SettingsWrite,
                // Settings name plugins.
                Permission::PluginRead,
            ],
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|capability| capability.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("`{}` is no capability; there are: {known}", mask::line(text, 60))
        })
    }
}

/// What a portal link lists. There is something in it, and nothing that means nothing without the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Takes a list of capabilities, in whatever order.
    ///
    /// # Errors
    /// In words, when it is empty, or has one without what that one needs.
    pub fn of(list: &[Capability]) -> Result<Self, String> {
        let all = Self(list.iter().fold(0, |bits, capability| bits | capability.bit()));
        if all.0 == 0 {
            let known = Capability::ALL.map(Capability::as_str).join(", ");
            return Err(format!("say what the link lets its holder do: {known}"));
        }
        let has = |capability| all.has(capability);
        let first = all.list().find(|capability| *capability != Capability::Settings);
        if let Some(first) = first.filter(|_| !has(Capability::Read)) {
            let word = first.as_str();
            return Err(format!("`{word}` needs `read`: nobody changes what they do not see"));
        }
        let of_bulk = [Capability::Replay, Capability::Redeliver, Capability::Review];
        if has(Capability::Bulk) && !of_bulk.into_iter().any(has) {
            return Err(
                "`bulk` needs `replay`, `redeliver` or `review`: it does one of these to all that fits".to_owned(),
            );
        }
        Ok(all)
    }

    /// Whether this one is listed.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Those that are listed, in the order of [`Capability`].
    pub fn list(self) -> impl Iterator<Item = Capability> {
        Capability::ALL
            .into_iter()
            .filter(move |capability| self.has(*capability))
    }

    /// Whether one of those that are listed is this to the gate.
    pub fn may(self, permission: Permission) -> bool {
        self.list()
            .any(|capability| capability.permissions().contains(&permission))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.list().map(Capability::as_str).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for Capabilities {
    type Err = String;

    /// Reads words with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Self::of(&words.map(str::parse).collect::<Result<Vec<_>, _>>()?)
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
    /// From when on the token proves nothing; none where it ends only by revocation.
    pub ends_at: Option<UnixMillis>,
    /// How the console looks to the holder of a portal link.
    pub look: Appearance,
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
            ends_at: None,
            look: Appearance::default(),
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

    /// Whether the caller may give somebody such a token, which ends then or only when it is revoked: nobody gives more than they have, or for longer.
    ///
    /// # Errors
    /// When not, or when there is no such token; in words.
    pub fn may_issue(
        &self,
        role: Role,
        tenant: Option<&TenantName>,
        ends_at: Option<UnixMillis>,
    ) -> Result<(), String> {
        match (role.tenancy(), tenant) {
            (Tenancy::Never, Some(_)) => return Err(format!("the role {role} is of no tenant: leave `tenant` out")),
            (Tenancy::Always, None) => return Err(format!("the role {role} is of one tenant: name it in `tenant`")),
            _ => {}
        }
        self.may(Permission::TokenWrite, tenant)
            .map_err(|denied| denied.to_string())?;
        match self.ends_at {
            Some(own) if ends_at.is_none_or(|ends_at| own < ends_at) => {
                Err(format!("your own token ends at {own}; what it makes ends no later"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may give somebody a portal link with these capabilities that ends then: nobody gives more than they have, or for
    /// longer.
    ///
    /// # Errors
    /// When not, in words.
    pub fn may_link(&self, tenant: &TenantName, capabilities: Capabilities, ends_at: UnixMillis) -> Result<(), String> {
        self.may_issue(Role::Portal(capabilities), Some(tenant), Some(ends_at))?;
        for capability in capabilities.list() {
            for permission in capability.permissions() {
                self.may(*permission, Some(tenant)).map_err(|denied| {
                    format!("`{}`: {denied}; nobody gives more than they have", capability.as_str())
                })?;
            }
        }
        Ok(())
    }
}

/// A new token of a role from 32 random bytes: what its holder keeps. It is shown once.
pub fn token(role: Role, random: [u8; 32]) -> Secret {
    let prefix = match role {
        Role::Portal(_) => LINK_PREFIX,
        _ => TOKEN_PREFIX,
    };
    Secret::new(format!("{prefix}{}", BASE64URL_NOPAD.encode(&random)))
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
            ends_at: None,
            look: Appearance::default(),
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
        assert_eq!(admin.may_issue(Role::PluginAuthor, Some(&own), None), Ok(()));
        assert!(admin.may_issue(Role::PluginAuthor, Some(&other), None).is_err());
        assert!(admin.may_issue(Role::Operator, None, None).is_err());
        assert!(
            admin.may_issue(Role::Viewer, None, None).is_err(),
            "it would see every tenant"
        );
        assert!(
            caller(Role::PluginAuthor, Some("acme"))
                .may_issue(Role::Viewer, Some(&own), None)
                .is_err()
        );
        let operator = Caller::operator();
        assert_eq!(operator.may_issue(Role::Operator, None, None), Ok(()));
        assert_eq!(operator.may_issue(Role::Viewer, None, None), Ok(()));
        assert!(
            operator
                .may_issue(Role::Operator, Some(&own), None)
                .unwrap_err()
                .contains("leave `tenant` out")
        );
        assert!(
            operator
                .may_issue(Role::TenantAdmin, None, None)
                .unwrap_err()
                .contains("name it")
        );
    }

    #[test]
    fn o2_no_token_gives_one_that_lasts_longer_than_itself() {
        let own: TenantName = "acme".parse().unwrap();
        let admin = Caller {
            ends_at: Some(UnixMillis(1_000)),
            ..caller(Role::TenantAdmin, Some("acme"))
        };
        let may = |ends_at| admin.may_issue(Role::TenantAdmin, Some(&own), ends_at).is_ok();
        assert!(may(Some(UnixMillis(999))) && may(Some(UnixMillis(1_000))));
        assert!(!may(Some(UnixMillis(1_001))) && !may(None));
    }

    #[test]
    fn o13_a_link_lets_its_holder_do_what_it_lists_and_nothing_else() {
        let of = |text: &str| text.parse::<Capabilities>();
        for (text, part) in [
            ("", "say what the link"),
            (" , ", "say what the link"),
            ("replay", "`replay` needs `read`"),
            ("settings,pause", "`pause` needs `read`"),
            ("read,bulk", "`bulk` needs"),
            ("read,root", "`root` is no capability"),
            ("READ", "is no capability"),
        ] {
            assert!(of(text).unwrap_err().contains(part), "{text}");
        }
        assert_eq!(of("review, read,read").unwrap().to_string(), "read,review");
        assert_eq!(
            of("settings").unwrap().list().collect::<Vec<_>>(),
            [Capability::Settings]
        );
        for bits in 1..1_u16 << Capability::ALL.len() {
            let chosen: Vec<_> = Capability::ALL
                .into_iter()
                .filter(|one| bits & one.bit() != 0)
                .collect();
            let Ok(all) = Capabilities::of(&chosen) else { continue };
            let listed: Vec<_> = chosen.iter().flat_map(|one| one.permissions()).copied().collect();
            for permission in Permission::ALL {
                assert_eq!(Role::Portal(all).may(permission), listed.contains(&permission), "{all}");
            }
            assert_eq!(all.to_string().parse(), Ok(all));
        }
        // What only whoever answers for a tenant may is in no link.
        let most = Capabilities::of(&Capability::ALL).unwrap();
        for permission in [
            Permission::HostRead,
            Permission::HostWrite,
            Permission::TokenRead,
            Permission::TokenWrite,
            Permission::RouteWrite,
            Permission::PluginUpload,
            Permission::PluginPromote,
            Permission::PublisherWrite,
            Permission::DeliveryPull,
        ] {
            assert!(!most.may(permission), "{permission:?}");
        }
    }

    #[test]
    fn o13_nobody_gives_a_link_that_can_more_than_they() {
        let (own, other): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (read, most) = (
            Capabilities::of(&[Capability::Read]).unwrap(),
            Capabilities::of(&Capability::ALL).unwrap(),
        );
        let end = UnixMillis(1000);
        let mut admin = caller(Role::TenantAdmin, Some("acme"));
        assert_eq!(admin.may_link(&own, most, end), Ok(()));
        assert!(admin.may_link(&other, read, end).is_err());
        admin.ends_at = Some(UnixMillis(999));
        assert!(
            admin
                .may_link(&own, read, end)
                .unwrap_err()
                .contains("your own token ends")
        );
        for role in [Role::PluginAuthor, Role::Viewer, Role::Puller, Role::Portal(most)] {
            assert!(caller(role, Some("acme")).may_link(&own, read, end).is_err(), "{role}");
        }
        assert_eq!(Caller::operator().may_link(&other, most, end), Ok(()));
    }

    #[test]
    fn a_token_is_recognisable_and_found_by_its_digest() {
        let made = token(Role::Viewer, [7; 32]);
        let text = std::str::from_utf8(made.expose()).unwrap();
        assert_eq!((text.len(), &text[..4]), (47, "tgt_"));
        let link = Role::Portal(Capabilities::of(&[Capability::Read]).unwrap());
        assert!(token(link, [7; 32]).expose().starts_with(b"tgl_"));
        assert_eq!(token_digest(made.expose()), token_digest(text.as_bytes()));
        assert_ne!(
            token_digest(made.expose()),
            token_digest(token(Role::Viewer, [8; 32]).expose())
        );
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("tenant-admin"));
    }
}
