//! Every bound of the host, with its unit in its name. What an operator may set has its default here.

/// A request body, while it is read, of a source that says nothing and whose provider sends no larger ones. Over it: 413.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// What a source may set its own bound to, unless the operator says otherwise: GitHub's 25 MB, and a little.
pub const SOURCE_BODY_BYTES_MAX: usize = 26 * 1024 * 1024;
/// What an operator may let sources set. Three of them fit into [`EDGE_BODY_BYTES_MAX`] beside each other.
pub const SOURCE_BODY_BYTES_MOST: usize = 64 * 1024 * 1024;
/// Bodies that are being read or wait for their commit, all connections together. Over it: 503.
pub const EDGE_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// All header names and values of one request together. Over it: 431.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Headers of one request. Over it: 431.
pub const HEADER_COUNT_MAX: usize = 100;
/// From the first byte of a request's head to its last.
pub const HEADER_READ_MS_MAX: u64 = 5_000;
/// From the end of the head to the end of the body.
pub const BODY_READ_MS_MAX: u64 = 10_000;
/// Between two requests of one connection. Load balancers keep connections for 60 s.
pub const IDLE_MS_MAX: u64 = 75_000;
/// Open connections of the private listener.
pub const OPERATOR_CONNECTIONS_MAX: usize = 128;
/// Between two pieces of a body that the private listener reads.
pub const OPERATOR_BODY_PAUSE_MS_MAX: u64 = 10_000;
/// From the end of a head to the end of a body that the private listener reads: 32 MiB at 280 KiB/s.
pub const OPERATOR_BODY_READ_MS_MAX: u64 = 120_000;
/// People who are signed in to one host's console, all tokens together; the one who did nothing for the longest makes room.
pub const CONSOLE_SESSIONS_MAX: usize = 1000;
/// Sessions of the console of one token.
pub const CONSOLE_SESSIONS_OF_TOKEN_MAX: usize = 16;
/// Sessions of the console of one tenant, all its tokens and links together.
pub const CONSOLE_SESSIONS_OF_TENANT_MAX: usize = 200;
/// How long a session of the console lasts in which nothing is asked.
pub const CONSOLE_IDLE_MS_MAX: i64 = 30 * 60 * 1000;
/// How long a session of the console lasts at the most.
pub const CONSOLE_SESSION_MS_MAX: i64 = 12 * 60 * 60 * 1000;
/// Changes that one session of the console looked at and did not confirm yet; the oldest go first.
pub const CONSOLE_ACTS_MAX: usize = 20;
/// What such changes of one tenant come to, or those of whoever is of the whole host, all sessions together; the oldest go first.
pub const CONSOLE_ACTS_BYTES_OF_TENANT_MAX: usize = 8 * 1024 * 1024;
/// What all such changes come to.
pub const CONSOLE_ACTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A form of the console.
pub const CONSOLE_FORM_BYTES_MAX: usize = 64 * 1024;
/// One that changes settings. Those of the most bytes fit in: browsers write a line's end as six (`%0D%0A`), and other bytes as three at most.
pub const CONSOLE_SETTINGS_FORM_BYTES_MAX: usize = 6 * SETTINGS_BYTES_MAX + CONSOLE_FORM_BYTES_MAX;
/// Plugins' files that the console holds in memory at once, for the whole host.
pub const CONSOLE_UPLOADS_MAX: usize = 2;
/// The shortest that a portal link lasts.
pub const PORTAL_LINK_MS_MIN: i64 = 1000;
/// The longest that a portal link lasts.
pub const PORTAL_LINK_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1000;
/// Test events and test deliveries that are under way at once: each holds a connection, and an event a thread.
pub const TRYOUTS_MAX: usize = 4;
/// Portal links of one tenant that are open at once.
pub const PORTAL_LINKS_OPEN_MAX: usize = 1000;
/// Portal links of one tenant that are over and still listed, the newest of them.
pub const PORTAL_LINKS_OVER_MAX: u64 = 1000;
/// Origins that may embed pages of portal links.
pub const EMBED_ORIGINS_MAX: usize = 20;
/// Nesting of arrays and objects in a JSON body.
pub const JSON_DEPTH_MAX: usize = 128;
/// Named values that a profile reads beside the envelope's own fields. The host adds one where a value breaks a bound.
pub const ATTRIBUTES_MAX: usize = 32;
/// One attribute's value; a longer one is shortened to its beginning and its SHA-256.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Headers of its requests that a source keeps, each as one more attribute.
pub const KEPT_HEADERS_MAX: usize = 8;
/// Entries of one signature header that are looked at; further ones are ignored.
pub const SIGNATURE_ENTRIES_MAX: usize = 16;
/// Active secrets of one source.
pub const SECRETS_MAX: usize = 8;

/// Events of one request. Over it: 413.
pub const BATCH_ITEMS_MAX: usize = 2048;
/// Form fields of one body.
pub const FORM_FIELDS_MAX: usize = 512;
/// Parameters of one source beside its secrets, each.
pub const PARAMETER_BYTES_MAX: usize = 1024;
/// What a challenge's answer may repeat of the request.
pub const CHALLENGE_BYTES_MAX: usize = 1024;
/// A certificate or key that the host fetches for a source.
pub const FETCHED_KEY_BYTES_MAX: usize = 64 * 1024;
/// Fetched keys that one source's keyring holds; the oldest go first.
pub const FETCHED_KEYS_MAX: usize = 16;
/// How long a fetched key is believed before it is fetched again.
pub const FETCHED_KEY_MS_MAX: i64 = 24 * 60 * 60 * 1000;
/// A fetched key is not fetched again to renew it sooner than this, milliseconds after it was fetched.
pub const FETCHED_KEY_RENEWED_MS_MIN: i64 = 60 * 60 * 1000;
/// What compiled plugins that no route runs may take on the disk, beside those that are run, when nobody says otherwise.
pub const PLUGIN_CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Names of published keys that one source vouches for: those that it lists, and those that proved a request.
pub const VOUCHED_KEYS_MAX: usize = 12;

/// Amounts of money, in minor units: what a JSON number holds exactly everywhere.
pub const MINOR_UNITS_MAX: i64 = (1 << 53) - 1;

/// Redeliveries of one receipt that are kept one by one; further ones are counted, with the time of the last.
pub const REDELIVERIES_KEPT_MAX: u32 = 16;
/// Bodies of one receipt's conflicts that are kept, each once however often it comes; further ones are counted.
pub const CONFLICTS_KEPT_MAX: u32 = 16;
/// Those bodies together. The first is kept whatever its size.
pub const CONFLICT_BYTES_KEPT_MAX: u64 = 4 * 1024 * 1024;
/// Runs of one job, attempts of one entry and lines of one receipt's history that a trace shows, the newest.
pub const TRACE_ROWS_MAX: usize = 100;

/// Refused requests of one source that a host keeps in memory, and those for no source.
pub const REFUSED_KEPT_MAX: usize = 32;
/// Of one of those, the names of its headers that are kept, together.
pub const REFUSED_HEADER_NAMES_BYTES_MAX: usize = 512;

/// A filter as it is written.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Terms of one filter.
pub const FILTER_TERMS_MAX: usize = 32;
/// Values of one term, of which one must fit.
pub const FILTER_VALUES_MAX: usize = 64;
/// Deliveries that one pull hands out.
pub const PULL_ROWS_MAX: usize = 100;
/// Bytes of bodies that one pull hands out; one delivery is handed out whatever its size.
pub const PULL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a pull waits for something to hand out, in seconds.
pub const PULL_WAIT_S_MAX: u64 = 20;
/// Pulls that wait at once on one host.
pub const PULLS_WAITING_MAX: usize = 64;
/// How long a pulled delivery may be held, in seconds: at least, unless its owner says, and at most.
pub const PULL_LEASE_S_MIN: u64 = 5;
/// See [`PULL_LEASE_S_MIN`].
pub const PULL_LEASE_S: u64 = 60;
/// See [`PULL_LEASE_S_MIN`].
pub const PULL_LEASE_S_MAX: u64 = 3_600;
/// Terms of a route's filter, which is held against every event that comes.
pub const ROUTE_FILTER_TERMS_MAX: usize = 16;
/// Values of one body that one term leads to.
pub const FILTER_BODY_VALUES_MAX: usize = 4096;
/// What one page of a list looks at: receipts, jobs, or whatever it is a list of. A page that ends there says so.
pub const LIST_LOOKED_AT_MAX: usize = 10_000;
/// Of those, the bodies that one page reads, all together.
pub const LIST_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a count looks at before it says how far it came.
pub const COUNT_LOOKED_AT_MAX: usize = 50_000;
/// How far a count of what waits or is set aside goes: beyond it, there are at least so many.
pub const COUNTED_MAX: u64 = 100_000;
/// Receipts that an index may name for a term; where it names more, they are looked at in their order instead.
pub const LIST_NAMED_MAX: usize = 20_000;
/// A list that begins or ends at an instant looks so much further: hosts' clocks differ, and a commit takes events that waited for it.
pub const LIST_CLOCK_SLACK_MS: i64 = 10 * 60 * 1000;

/// Items of one step of a bulk action, which is one commit; what stands together in a list stays together, so that it may be a few more.
pub const BULK_STEP_ITEMS_MAX: usize = 100;
/// Between two steps of a bulk action: events that come in do not wait for it.
pub const BULK_PAUSE_MS: u64 = 50;
/// Bulk actions of one tenant, or of the operator, that go on at the same time.
pub const BULKS_RUNNING_MAX: usize = 4;

/// Dead letters that are grouped into issues in one commit.
pub const ISSUES_GROUPED_AT_ONCE: usize = 200;
/// Receipts of its newest failures that an issue names.
pub const ISSUE_RECEIPTS_KEPT: usize = 5;
/// A host that shares its store says so often that it is there, in milliseconds.
pub const HOST_HEARTBEAT_MS: u64 = 1_000;
/// A host that has not said so for this long is gone, in milliseconds.
pub const HOST_GONE_MS: i64 = 10_000;
/// What ended so long ago is not listed among the hosts any more, in milliseconds: a week.
pub const HOST_LISTED_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The store's write-ahead log before it is moved into the file; twice this is the most that it grows to, unless a reader keeps it.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Receipts whose keys wait in memory until they are carried into the indexes, twice as many at most: about 150 bytes each.
pub const KEYS_IN_MEMORY_MAX: usize = 65_536;

/// A worker's hold on a job.
pub const JOB_LEASE_MS: i64 = 30_000;
/// A deliverer's hold on an outbox entry; longer than any attempt may take.
pub const OUTBOX_LEASE_MS: i64 = 60_000;
/// Jobs claimed in one commit.
pub const JOB_CLAIM_MAX: usize = 64;
/// Outbox entries claimed in one commit.
pub const OUTBOX_CLAIM_MAX: usize = 64;

/// A plugin's component, as uploaded. Python components are about 18 MB.
pub const COMPONENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A plugin's manifest, as JSON.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// Event type patterns of one manifest.
pub const MANIFEST_EVENTS_MAX: usize = 64;
/// How deep a plugin's schema of its configuration may nest.
pub const CONFIG_SCHEMA_DEPTH_MAX: usize = 16;
/// What is said of one configuration that does not fit its schema.
pub const CONFIG_PROBLEMS_MAX: usize = 32;
/// The description in a manifest.
pub const MANIFEST_TEXT_BYTES_MAX: usize = 1024;

/// Versions that the registry keeps of one owner: a tenant, or the operator for all.
pub const PLUGIN_VERSIONS_MAX: usize = 2_000;
/// Of those, versions that nobody published yet.
pub const PLUGIN_VERSIONS_VETTED_MAX: usize = 50;
/// Publishers' keys of one tenant, revoked ones too.
pub const PUBLISHER_KEYS_MAX: usize = 100;
/// Routes of one tenant that were set by API.
pub const API_ROUTES_MAX: usize = 1_000;
/// One version of a tenant's settings that are set by API.
pub const SETTINGS_BYTES_MAX: usize = 256 * 1024;
/// Sources, routes or destinations of one tenant's settings: so many of each.
pub const SETTINGS_NAMES_MAX: usize = 200;
/// Versions of one tenant's settings that are kept; the oldest go first.
pub const SETTINGS_VERSIONS_KEPT: u64 = 500;
/// Secrets of one tenant that were set by API.
pub const SETTINGS_SECRETS_MAX: usize = 400;
/// One such secret.
pub const SETTINGS_SECRET_BYTES_MAX: usize = 16 * 1024;
/// Receipts that a change of settings is tried on, when nobody says how many.
pub const SETTINGS_TRIED_RECEIPTS: usize = 100;
/// The most receipts that a change of settings is tried on.
pub const SETTINGS_TRIED_RECEIPTS_MAX: usize = 500;
/// Shadow runs that are kept, of the whole store; the oldest go first. Their tallies stay.
pub const SHADOW_RUNS_KEPT: i64 = 10_000;
/// Why something was changed, for the history.
pub const WHY_BYTES_MAX: usize = 1024;

/// Series of one counter or gauge that names of the configuration tell apart: tenants, sources, routes, destinations. Further ones are counted
/// together, as `_other`.
pub const METRIC_SERIES_MAX: usize = 4_000;
/// The same of one histogram, each series of which is a dozen lines.
pub const METRIC_HISTOGRAMS_MAX: usize = 250;

/// Fuel of one run: about one unit per WebAssembly instruction, and the same on every machine. A fifth of a second at most, and
/// enough to fill [`RUN_MEMORY_BYTES_MAX`], so that a plugin that hoards is told so.
pub const RUN_FUEL: u64 = 200_000_000;
/// Wall-clock time of one run: what only a slow machine or a slow store comes to before the fuel is gone.
pub const RUN_DEADLINE_MS: u64 = 2_000;
/// All memories and tables of one run together.
pub const RUN_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The stack of one run.
pub const RUN_STACK_BYTES_MAX: usize = 512 * 1024;
/// Calls of one run into the host: state and log.
pub const RUN_HOST_CALLS_MAX: u32 = 1024;
/// What the host copies out of a plugin's memory in one call, and for its answer.
pub const RUN_LIFTED_BYTES_MAX: usize = 1024 * 1024;
/// Log lines kept of one run; further ones are counted and dropped.
pub const RUN_LOG_LINES_MAX: usize = 64;
/// One log line, and any other message of a plugin.
pub const RUN_MESSAGE_BYTES_MAX: usize = 1024;

/// Budgets of one grant.
pub const BUDGETS_PER_GRANT_MAX: usize = 16;
/// Actions of one run.
pub const ACTIONS_PER_RUN_MAX: usize = 64;
/// One action as JSON.
pub const ACTION_BYTES_MAX: usize = 16 * 1024;
/// One text field of an action.
pub const ACTION_TEXT_BYTES_MAX: usize = 1024;
/// Reasons of one flag, values of one notice.
pub const ACTION_LIST_MAX: usize = 32;

/// One plugin state value.
pub const STATE_VALUE_BYTES_MAX: usize = 64 * 1024;
/// One plugin state key.
pub const STATE_KEY_BYTES_MAX: usize = 200;
/// Distinct plugin state keys that one run may read or write.
pub const STATE_KEYS_PER_RUN_MAX: usize = 64;
/// Plugin state bytes that one run may read or write.
pub const STATE_BYTES_PER_RUN_MAX: usize = 256 * 1024;
/// State of one plugin for one tenant in all, keys and values, when its route says nothing.
pub const STATE_TOTAL_BYTES: u64 = 1024 * 1024 * 1024;

/// One delivery attempt, from connect to the end of the answer, where its destination says nothing.
pub const ATTEMPT_MS: u64 = 15_000;
/// The shortest `timeout_ms` of a destination. The longest leaves an attempt and its record time to end within [`OUTBOX_LEASE_MS`].
pub const ATTEMPT_MS_MIN: u64 = 100;
/// The longest `timeout_ms` of a destination.
pub const ATTEMPT_MS_MAX: u64 = 30_000;
/// The highest `requests_per_s` of a destination.
pub const ATTEMPTS_PER_S_MAX: u32 = 10_000;
/// What is kept of the body of a destination's answer, for the person who reads the attempt.
pub const ANSWER_BYTES_KEPT: usize = 1024;
/// Headers that a destination may have of its own.
pub const OWN_HEADERS_MAX: usize = 16;
/// The name of such a header.
pub const OWN_HEADER_NAME_BYTES_MAX: usize = 64;
/// The value of such a header.
pub const OWN_HEADER_BYTES_MAX: usize = 4096;
/// Addresses that one e-mail goes to.
pub const MAIL_ADDRESSEES_MAX: usize = 20;
/// E-mails to one destination that begin in a second.
pub const MAILS_PER_S_MAX: u32 = 1;
/// A destination's Retry-After is obeyed up to here.
pub const RETRY_AFTER_MS_MAX: i64 = 24 * 60 * 60 * 1000;
