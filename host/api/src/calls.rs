//! The table: every call of the operator API. What is not here is not answered.

use tollgate_core::access::Permission;
use tollgate_core::review::ReviewBody;

use crate::call::{Call, Content, Method, Nothing};
use crate::{
    audit, budgets, bulk, counts, dead_letters, fixtures, hosts, issues, lately, lists, pauses, plugins, portal, pulls,
    quarantines, replay, resend, set_aside, settings, state, status, tokens, trace, trials, tryouts, whoami,
};

/// A call of the table, without its types.
pub struct Listed {
    /// The name of its type, which is the operation's id in the OpenAPI document.
    pub name: &'static str,
    /// [`Call::METHOD`].
    pub method: Method,
    /// [`Call::PATH`].
    pub path: &'static str,
    /// [`Call::PERMISSION`].
    pub permission: Permission,
    /// [`Call::TAKES`].
    pub takes: Content,
    /// What the body of its answer is.
    pub gives: Content,
    /// What it does, for people.
    pub says: &'static str,
    /// What its answer is, for people.
    pub returns: &'static str,
    #[cfg(feature = "document")]
    pub(crate) schemas: crate::schemas::Schemas,
}

impl Listed {
    /// The statuses with which it may refuse, beside those that every call may: see [`ALWAYS`].
    pub fn refusals(&self) -> &'static [u16] {
        match self.takes {
            Content::Component => &[408, 409, 413],
            Content::Json | Content::Metrics => &[409, 413],
            // A name may mean several things.
            Content::Nothing => &[409],
        }
    }
}

/// The statuses with which every call may refuse.
pub const ALWAYS: &[u16] = &[400, 401, 403, 404, 500, 503];

/// The permission that a call needs; none when there is no such call. `path` is as in the table.
pub fn permission(method: &str, path: &str) -> Option<Permission> {
    ALL.iter()
        .find(|call| call.method.as_str() == method && call.path == path)
        .map(|call| call.permission)
}

macro_rules! or_nothing {
    () => {
        Nothing
    };
    ($type:ty) => {
        $type
    };
}

macro_rules! content {
    () => {
        Content::Nothing
    };
    ($type:ty) => {
        Content::Json
    };
    (takes $content:ident) => {
        Content::$content
    };
}

macro_rules! calls {
    ($(
        $(#[doc = $says:literal])+
        $name:ident = $method:ident $path:literal needs $permission:ident {
            $(path: $in_path:ty,)?
            $(query: $query:ty,)?
            $(body: $body:ty,)?
            $(takes: $takes:ident,)?
            $(answer: $answer:ty,)?
            $(gives: $gives:ident,)?
            returns: $returns:literal
        }
    )+) => {
        $(
            $(#[doc = $says])+
            pub struct $name;

            impl Call for $name {
                const METHOD: Method = Method::$method;
                const PATH: &'static str = $path;
                const PERMISSION: Permission = Permission::$permission;
                const TAKES: Content = content!($($body)? $(takes $takes)?);
                type Path = or_nothing!($($in_path)?);
                type Query = or_nothing!($($query)?);
                type Body = or_nothing!($($body)?);
                type Answer = or_nothing!($($answer)?);
            }
        )+

        /// Every call.
        pub const ALL: &[Listed] = &[$(
            Listed {
                name: stringify!($name),
                method: Method::$method,
                path: $path,
                permission: Permission::$permission,
                takes: <$name as Call>::TAKES,
                gives: content!($($answer)? $(takes $gives)?),
                says: concat!($($says),+),
                returns: $returns,
                #[cfg(feature = "document")]
                schemas: crate::schemas::Schemas::of::<
                    or_nothing!($($in_path)?),
                    or_nothing!($($query)?),
                    or_nothing!($($body)?),
                    or_nothing!($($answer)?),
                >(),
            },
        )+];
    };
}

calls! {
    /// What people changed, and why: plugins and routes, settings and secrets, pauses, tokens and links, bulk actions, issues, replays,
    /// sending again and decisions; and how far the chain of receipts goes. Everybody sees what the other calls show them of it
    Audit = Get "/v1/audit" needs PluginRead {
        query: audit::AuditQuery,
        answer: audit::Audit,
        returns: "the changes, newest first, and the chain's end"
    }
    /// Counters and gauges in Prometheus' text format
    Metrics = Get "/metrics" needs HostRead {
        gives: Metrics,
        returns: "the metrics"
    }
    /// Whether the host does its work, and what of it waits for a person
    Status = Get "/v1/status" needs HostRead {
        answer: status::HostStatus,
        returns: "its parts, its store, what waits, and what needs somebody"
    }
    /// How much of everything there is
    Counts = Get "/v1/counts" needs HostRead {
        answer: counts::Counts,
        returns: "counts of the whole host"
    }
    /// The hosts that share the store: which are there, what they run, and what they hold
    Hosts = Get "/v1/hosts" needs HostRead {
        answer: Vec<hosts::HostView>,
        returns: "the hosts by name; the one that is asked, where it has its store alone"
    }
    /// Have a host claim nothing more, or again: it finishes what it has, and the others take the rest
    DrainHost = Post "/v1/hosts/{host}/drain" needs HostWrite {
        path: hosts::HostPath,
        body: hosts::DrainBody,
        answer: hosts::DrainReport,
        returns: "whether that changed anything"
    }

    /// What this host did in the last hour, in steps: what came in, what waited, how long things took
    Lately = Get "/v1/lately" needs HostRead {
        answer: lately::Lately,
        returns: "the steps, the oldest first"
    }
    /// Everything that became of the receipts that an identifier names, newest first
    Trace = Get "/v1/trace" needs ReceiptRead {
        query: trace::TraceParameters,
        answer: Vec<trace::Trace>,
        returns: "one trace for each receipt"
    }
    /// Events, newest first, as far as they fit a filter. With `Accept: application/x-ndjson` all pages of it, one event a line
    Events = Get "/v1/events" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::EventRow>,
        returns: "a page of events"
    }
    /// Jobs, newest first, as far as they fit a filter. With `Accept: application/x-ndjson` all pages of it, one job a line
    Jobs = Get "/v1/jobs" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::JobRow>,
        returns: "a page of jobs"
    }
    /// Runs of plugins, newest first, as far as they fit a filter. With `Accept: application/x-ndjson` all pages of it, one run a line
    Runs = Get "/v1/runs" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::RunRow>,
        returns: "a page of runs"
    }
    /// Actions of the ledger, newest first, as far as they fit a filter. With `Accept: application/x-ndjson` all pages of it, one action a line
    Actions = Get "/v1/actions" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::ActionRow>,
        returns: "a page of actions"
    }
    /// Deliveries to destinations, newest first, as far as they fit a filter. With `Accept: application/x-ndjson` all pages of it, one delivery
    /// a line
    Deliveries = Get "/v1/deliveries" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::DeliveryRow>,
        returns: "a page of deliveries"
    }
    /// For each event and destination what is due there and has not arrived, with the reason; with a `status` in the filter also what
    /// was delivered, or is not meant for it. With `Accept: application/x-ndjson` all pages of it, one a line
    Undelivered = Get "/v1/undelivered" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::UndeliveredRow>,
        returns: "a page of events and destinations"
    }
    /// Requests that were refused, newest first, as far as they fit a filter: of each source the newest 32 that this host refused since it
    /// started. A tenant sees those for its own sources. With `Accept: application/x-ndjson` all of them, one request a line
    Refused = Get "/v1/refused" needs ReceiptRead {
        query: lists::ListQuery,
        answer: lists::Page<lists::RefusedRow>,
        returns: "a page of refused requests"
    }
    /// How many of a list fit a filter, as far as one count looks
    Count = Get "/v1/count" needs ReceiptRead {
        query: lists::CountQuery,
        answer: lists::Count,
        returns: "the number, and whether that is all of them"
    }
    /// Do one thing to everything that fits a filter: replay jobs, redeliver deliveries, route events again, dismiss what is held. It needs the
    /// permission of that one thing as well. With `dry_run` it says how many fit and shows some; without, it begins, and goes on when the host is started again
    StartBulk = Post "/v1/bulk" needs BulkWrite {
        body: bulk::BulkBody,
        answer: bulk::BulkAnswer,
        returns: "what fits, and the bulk action that was begun"
    }
    /// Bulk actions with their progress
    Bulks = Get "/v1/bulk" needs ReceiptRead {
        query: bulk::BulksQuery,
        answer: Vec<bulk::BulkView>,
        returns: "bulk actions, newest first"
    }
    /// One bulk action with its progress
    ShowBulk = Get "/v1/bulk/{bulk}" needs ReceiptRead {
        path: bulk::BulkPath,
        answer: bulk::BulkView,
        returns: "the bulk action"
    }
    /// End a bulk action before its next step. What it did stays done
    AbortBulk = Post "/v1/bulk/{bulk}/abort" needs BulkWrite {
        path: bulk::BulkPath,
        body: bulk::AbortBody,
        answer: bulk::BulkView,
        returns: "the bulk action as it ended"
    }
    /// Failures that are one failure, by what failed, where and how: those that failed last in front
    Issues = Get "/v1/issues" needs ReceiptRead {
        query: issues::IssuesQuery,
        answer: Vec<issues::IssueView>,
        returns: "issues, with what to do first"
    }
    /// One issue
    ShowIssue = Get "/v1/issues/{issue}" needs ReceiptRead {
        path: issues::IssuePath,
        answer: issues::IssueView,
        returns: "the issue"
    }
    /// Acknowledge, resolve, ignore or reopen an issue. Whoever is told of issues is told of the change, once
    ChangeIssue = Post "/v1/issues/{issue}" needs IssueWrite {
        path: issues::IssuePath,
        body: issues::IssueBody,
        answer: issues::IssueView,
        returns: "the issue as it is then"
    }
    /// The dead-letter queue
    DeadLetters = Get "/v1/dead-letters" needs ReceiptRead {
        query: dead_letters::DeadLetterQuery,
        answer: Vec<dead_letters::DeadLetter>,
        returns: "dead letters, newest first"
    }
    /// Put dead or held work back, or give receipts the jobs that the routes give them now; operation keys keep it from having
    /// a second effect
    Replay = Post "/v1/replay" needs WorkReplay {
        body: replay::ReplayBody,
        answer: replay::ReplayReport,
        returns: "what was put back, or would be"
    }
    /// Send again what was delivered: one delivery's, action's or receipt's, or those that match; with the same webhook-id and
    /// Idempotency-Key
    Resend = Post "/v1/resend" needs DeliveryResend {
        body: resend::ResendBody,
        answer: resend::ResendReport,
        returns: "what is sent again, or would be, and what is passed over"
    }
    /// What a plugin was given for a receipt, as a fixture of the author's kit: event with its body, configuration, the state that the
    /// newest run read, and how it ended
    Fixture = Get "/v1/fixture" needs ReceiptRead {
        query: fixtures::FixtureQuery,
        answer: fixtures::FixtureText,
        returns: "the fixture"
    }
    /// What a plugin keeps for a tenant
    PluginState = Get "/v1/state" needs ReceiptRead {
        query: state::StateQuery,
        answer: state::StateList,
        returns: "the keys in their order, with their values"
    }
    /// Set or remove one key of a plugin's state, with who and why
    ChangeState = Post "/v1/state" needs ReceiptWrite {
        body: state::StateBody,
        answer: state::StateReport,
        returns: "what was done, or would be"
    }
    /// What is set aside: held receipts and jobs, conflicts, and what was superseded or routed nowhere
    Held = Get "/v1/held" needs ReceiptRead {
        query: set_aside::HeldQuery,
        answer: Vec<set_aside::SetAside>,
        returns: "kind by kind, of each the newest first"
    }
    /// How much is set aside, by tenant, place and kind, with the oldest
    HeldCounts = Get "/v1/held/counts" needs ReceiptRead {
        query: set_aside::HeldCountsQuery,
        answer: Vec<set_aside::SetAsideCount>,
        returns: "one row for each kind at each source, or route for held jobs"
    }
    /// The budgets of routes' grants: how much each is, what is spent and left in its window of now (UTC), and when that ends
    Budgets = Get "/v1/budgets" needs ReceiptRead {
        query: budgets::BudgetsQuery,
        answer: Vec<budgets::BudgetView>,
        returns: "the budgets, by tenant and route"
    }
    /// Decide about what was set aside: map or replace a held receipt, run a held job (beyond its budgets where that is said) or a conflicting delivery, keep or record a
    /// proposal that conflicts with the ledger, or dismiss
    Review = Post "/v1/review" needs ReviewWrite {
        body: ReviewBody,
        answer: set_aside::ReviewReport,
        returns: "what it became, or would"
    }
    /// Who asks: what the token proves, and what its holder may do. Every role may ask it
    WhoAmI = Get "/v1/whoami" needs PluginRead {
        answer: whoami::WhoAmI,
        returns: "the token's name, role, tenant and permissions"
    }
    /// The tokens, without their texts
    Tokens = Get "/v1/tokens" needs TokenRead {
        answer: Vec<tokens::TokenView>,
        returns: "tokens, newest first"
    }
    /// Make a token; nobody gives more than they have
    IssueToken = Post "/v1/tokens" needs TokenWrite {
        body: tokens::NewTokenBody,
        answer: tokens::IssuedToken,
        returns: "the token, shown this once"
    }
    /// Revoke a token, at once
    RevokeToken = Post "/v1/tokens/{token}/revoke" needs TokenWrite {
        path: tokens::TokenPath,
        body: tokens::RevokeBody,
        answer: tokens::RevokedToken,
        returns: "whether it was valid until now"
    }
    /// The portal links that are open, without their secrets
    PortalLinks = Get "/v1/portal-links" needs TokenRead {
        query: portal::LinksQuery,
        answer: Vec<portal::LinkView>,
        returns: "links, newest first"
    }
    /// Make a portal link: it opens the console for one tenant, for a time and for what it lists; nobody gives more than they have
    CreatePortalLink = Post "/v1/tenants/{tenant}/portal-links" needs TokenWrite {
        path: plugins::TenantPath,
        body: portal::NewLinkBody,
        answer: portal::IssuedLink,
        returns: "the link, shown this once"
    }
    /// End a portal link; whoever came by it is out at the next request
    RevokePortalLink = Post "/v1/portal-links/{token}/revoke" needs TokenWrite {
        path: tokens::TokenPath,
        body: tokens::RevokeBody,
        answer: tokens::RevokedToken,
        returns: "whether it was open until now"
    }
    /// Plugins' versions, the newest first
    Plugins = Get "/v1/plugins" needs PluginRead {
        query: plugins::PluginsQuery,
        answer: Vec<plugins::PluginVersion>,
        returns: "the versions"
    }
    /// Upload a component: it is vetted, and kept if nothing is wrong with it. A signature document may come in the header
    /// tollgate-plugin-signature
    UploadPlugin = Post "/v1/plugins" needs PluginUpload {
        query: plugins::UploadQuery,
        takes: Component,
        answer: plugins::PluginVersion,
        returns: "the version"
    }
    /// One version with its report and where it runs
    ShowPlugin = Get "/v1/plugins/{plugin}" needs PluginRead {
        path: plugins::PluginPath,
        query: plugins::PluginQuery,
        answer: plugins::PluginVersion,
        returns: "the version"
    }
    /// What was done with a version, by whom and why
    PluginHistory = Get "/v1/plugins/{plugin}/history" needs PluginRead {
        path: plugins::PluginPath,
        query: plugins::PluginHistoryQuery,
        answer: Vec<plugins::RegistryLine>,
        returns: "the lines, newest first"
    }
    /// Make a vetted version fit to be bound
    PublishPlugin = Post "/v1/plugins/{plugin}/publish" needs PluginPromote {
        path: plugins::PluginPath,
        query: plugins::PluginQuery,
        body: plugins::ActBody,
        answer: plugins::PluginVersion,
        returns: "the version afterwards"
    }
    /// Never let a version be bound again
    RetirePlugin = Post "/v1/plugins/{plugin}/retire" needs PluginPromote {
        path: plugins::PluginPath,
        query: plugins::PluginQuery,
        body: plugins::ActBody,
        answer: plugins::PluginVersion,
        returns: "the version afterwards"
    }
    /// A tenant's routes with what they run, their configuration, grants and limits
    Routes = Get "/v1/tenants/{tenant}/routes" needs PluginRead {
        path: plugins::TenantPath,
        answer: Vec<plugins::RouteView>,
        returns: "the routes"
    }
    /// One route
    ShowRoute = Get "/v1/tenants/{tenant}/routes/{route}" needs PluginRead {
        path: plugins::RoutePath,
        answer: plugins::RouteView,
        returns: "the route"
    }
    /// Set a route: it is checked like one in a file, and takes the place of the file's route of its name
    SetRoute = Put "/v1/tenants/{tenant}/routes/{route}" needs RouteWrite {
        path: plugins::RoutePath,
        body: plugins::RouteBody,
        answer: plugins::BindingChange,
        returns: "what it runs"
    }
    /// Remove a route that was set by API
    RemoveRoute = Delete "/v1/tenants/{tenant}/routes/{route}" needs RouteWrite {
        path: plugins::RoutePath,
        body: plugins::ActBody,
        answer: plugins::BindingChange,
        returns: "what it ran"
    }
    /// Run a version beside the active one, without effect; without `plugin`, end that
    Shadow = Post "/v1/tenants/{tenant}/routes/{route}/shadow" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ChangeBody,
        answer: plugins::BindingChange,
        returns: "what it ran and runs"
    }
    /// Let a version serve a share of subjects; without `plugin`, end that
    Canary = Post "/v1/tenants/{tenant}/routes/{route}/canary" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ChangeBody,
        answer: plugins::BindingChange,
        returns: "what it ran and runs"
    }
    /// Make a version the active one
    Promote = Post "/v1/tenants/{tenant}/routes/{route}/promote" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ChangeBody,
        answer: plugins::BindingChange,
        returns: "what it ran and runs"
    }
    /// Take the last step forward back
    Rollback = Post "/v1/tenants/{tenant}/routes/{route}/rollback" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ChangeBody,
        answer: plugins::BindingChange,
        returns: "what it ran and runs"
    }
    /// Give the route back to the configuration file
    FollowFile = Post "/v1/tenants/{tenant}/routes/{route}/follow-file" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ChangeBody,
        answer: plugins::BindingChange,
        returns: "what it ran and runs"
    }
    /// What the route's shadow did beside the active version
    ShadowRuns = Get "/v1/tenants/{tenant}/routes/{route}/shadow-runs" needs ReceiptRead {
        path: plugins::RoutePath,
        query: plugins::ShadowRunsQuery,
        answer: plugins::ShadowReport,
        returns: "the tally and the runs"
    }
    /// What was done with a route, by whom and why
    RouteHistory = Get "/v1/tenants/{tenant}/routes/{route}/history" needs PluginRead {
        path: plugins::RoutePath,
        query: plugins::RouteHistoryQuery,
        answer: Vec<plugins::RegistryLine>,
        returns: "the lines, newest first"
    }
    /// Run a version over what the route's active version did, without effects, and keep the result as evidence for its promotion
    RunTrial = Post "/v1/tenants/{tenant}/routes/{route}/trials" needs PluginTrial {
        path: plugins::RoutePath,
        body: trials::TrialBody,
        answer: trials::TrialReport,
        returns: "what it would have done otherwise"
    }
    /// Versions that are not run any more, because they failed again and again
    Quarantines = Get "/v1/quarantines" needs PluginRead {
        answer: Vec<quarantines::Quarantine>,
        returns: "of the caller's tenant, or of all"
    }
    /// Let a route's versions that are in quarantine run again
    LiftQuarantine = Post "/v1/tenants/{tenant}/routes/{route}/lift-quarantine" needs PluginPromote {
        path: plugins::RoutePath,
        body: plugins::ActBody,
        answer: Vec<quarantines::Quarantine>,
        returns: "what was lifted"
    }
    /// Routes and destinations that are paused
    Pauses = Get "/v1/pauses" needs PluginRead {
        answer: Vec<pauses::Pause>,
        returns: "of the caller's tenant, or of all"
    }
    /// Let no more jobs of a route begin; its events are taken in as ever, and their jobs wait
    PauseRoute = Post "/v1/tenants/{tenant}/routes/{route}/pause" needs PauseWrite {
        path: plugins::RoutePath,
        body: plugins::ActBody,
        answer: pauses::Pause,
        returns: "the pause: the one before, where it was paused already"
    }
    /// Let a paused route's jobs run, those that waited too
    ResumeRoute = Post "/v1/tenants/{tenant}/routes/{route}/resume" needs PauseWrite {
        path: plugins::RoutePath,
        body: plugins::ActBody,
        answer: pauses::Pause,
        returns: "the pause that is over"
    }
    /// Send nothing more to a destination; what is recorded for it waits
    PauseDestination = Post "/v1/tenants/{tenant}/destinations/{destination}/pause" needs PauseWrite {
        path: pauses::DestinationPath,
        body: plugins::ActBody,
        answer: pauses::Pause,
        returns: "the pause: the one before, where it was paused already"
    }
    /// Send to a paused destination again, what waited too
    ResumeDestination = Post "/v1/tenants/{tenant}/destinations/{destination}/resume" needs PauseWrite {
        path: pauses::DestinationPath,
        body: plugins::ActBody,
        answer: pauses::Pause,
        returns: "the pause that is over"
    }
    /// Fetch what waits for a pulled destination: it is leased until it is confirmed, given back, or its time is over
    Pull = Get "/v1/pull/{destination}" needs DeliveryPull {
        path: pulls::PullPath,
        query: pulls::PullQuery,
        answer: pulls::Pulled,
        returns: "deliveries as they would be sent, the oldest first; none where nothing is due in time"
    }
    /// Say that deliveries which were fetched are in good hands
    ConfirmPulled = Post "/v1/pull/{destination}/confirm" needs DeliveryPull {
        path: pulls::PullPath,
        body: pulls::ConfirmBody,
        answer: pulls::PullEnds,
        returns: "what became of each; 409 where every lease is refused"
    }
    /// Give deliveries back which were fetched: they are tried again, as when an attempt fails
    GiveBackPulled = Post "/v1/pull/{destination}/give-back" needs DeliveryPull {
        path: pulls::PullPath,
        body: pulls::GiveBackBody,
        answer: pulls::PullEnds,
        returns: "what became of each; 409 where every lease is refused"
    }
    /// A tenant's configuration as it is in effect, with what the tenant set itself
    ShowSettings = Get "/v1/tenants/{tenant}/settings" needs SettingsRead {
        path: plugins::TenantPath,
        answer: settings::SettingsView,
        returns: "the newest version of its settings, and whose each part is"
    }
    /// Set a tenant's settings: checked whole with the operator's file, then in effect on every host
    SetSettings = Put "/v1/tenants/{tenant}/settings" needs SettingsWrite {
        path: plugins::TenantPath,
        body: settings::SettingsBody,
        answer: settings::SettingsChange,
        returns: "the new version, and what differs"
    }
    /// The versions of a tenant's settings
    SettingsVersions = Get "/v1/tenants/{tenant}/settings/versions" needs SettingsRead {
        path: plugins::TenantPath,
        answer: Vec<settings::SettingsLine>,
        returns: "the versions that are kept, newest first, without their texts"
    }
    /// One version of a tenant's settings
    ShowSettingsVersion = Get "/v1/tenants/{tenant}/settings/versions/{version}" needs SettingsRead {
        path: settings::SettingsVersionPath,
        answer: settings::SettingsVersion,
        returns: "the version with its text"
    }
    /// Go back to an earlier version of a tenant's settings: a new version with its text
    RollBackSettings = Post "/v1/tenants/{tenant}/settings/rollback" needs SettingsWrite {
        path: plugins::TenantPath,
        body: settings::RollbackBody,
        answer: settings::SettingsChange,
        returns: "the new version, and what differs"
    }
    /// A tenant's secrets that were set by API, without what they are
    Secrets = Get "/v1/tenants/{tenant}/secrets" needs SettingsRead {
        path: plugins::TenantPath,
        answer: Vec<settings::SecretView>,
        returns: "their names, who set them when, and what uses them"
    }
    /// Set a secret, or replace it: sealed at once, and never shown again
    SetSecret = Put "/v1/tenants/{tenant}/secrets/{secret}" needs SettingsWrite {
        path: settings::SecretPath,
        body: settings::SecretBody,
        answer: settings::SecretChange,
        returns: "whether there was one of the name"
    }
    /// Remove a secret that nothing uses
    RemoveSecret = Delete "/v1/tenants/{tenant}/secrets/{secret}" needs SettingsWrite {
        path: settings::SecretPath,
        body: plugins::ActBody,
        answer: settings::SecretChange,
        returns: "whether there was one of the name"
    }
    /// Seal every tenant's secrets under the operator's newest key; those that are sealed with it already stay as they are
    ResealSecrets = Post "/v1/secrets/reseal" needs HostWrite {
        body: plugins::ActBody,
        answer: settings::Resealed,
        returns: "how many were sealed anew, and which cannot be"
    }
    /// Send a source an event that the host signs with the source's own secret: it goes through the edge as a provider's does, and is marked as
    /// a test
    TestSource = Post "/v1/tenants/{tenant}/sources/{source}/test" needs SettingsWrite {
        path: tryouts::SourcePath,
        body: tryouts::TestEventBody,
        answer: tryouts::TestEvent,
        returns: "the event, what the edge answered, and the receipt"
    }
    /// Send a destination one signed request that is marked as a test, as any delivery is sent. Nothing of it is kept
    TestDestination = Post "/v1/tenants/{tenant}/destinations/{destination}/test" needs SettingsWrite {
        path: pauses::DestinationPath,
        body: tryouts::TestDeliveryBody,
        answer: tryouts::TestDelivery,
        returns: "what was sent, and what the destination answered"
    }
    /// The publishers' keys that a tenant knows
    Publishers = Get "/v1/tenants/{tenant}/publishers" needs PluginRead {
        path: plugins::TenantPath,
        answer: Vec<plugins::PublisherKeyView>,
        returns: "the keys"
    }
    /// Believe what a publisher's key signs
    RegisterPublisher = Post "/v1/tenants/{tenant}/publishers" needs PublisherWrite {
        path: plugins::TenantPath,
        body: plugins::PublisherBody,
        answer: plugins::PublisherRegistered,
        returns: "whether it is new"
    }
    /// Believe a key no more, for ever
    RevokePublisher = Post "/v1/tenants/{tenant}/publishers/{publisher}/{key}/revoke" needs PublisherWrite {
        path: plugins::PublisherPath,
        body: plugins::ActBody,
        answer: plugins::PublisherRevoked,
        returns: "whether it was believed until now"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn o2_every_call_is_listed_once() {
        let calls: BTreeSet<_> = ALL.iter().map(|call| (call.method.as_str(), call.path)).collect();
        let names: BTreeSet<_> = ALL.iter().map(|call| call.name).collect();
        assert_eq!((calls.len(), names.len()), (ALL.len(), ALL.len()));
        assert_eq!(permission("POST", "/v1/replay"), Some(Permission::WorkReplay));
        assert_eq!(permission("GET", "/v1/replay"), None);
    }
}
