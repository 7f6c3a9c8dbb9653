//! What the edge refuses: told once, wherever it was decided, and remembered for whoever it was for (promises I2 and I13).
//!
//! What is remembered is in memory alone, bounded for each source, and gone with the process: nothing that a stranger sends is written to a
//! disk but a log line that is masked. Of a request it is the head's shape and the reason, never a body and never the value of a header.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::request::Parts;
use tollgate_api::lists::{AskedList, Count, Item, Page, RefusedRow, place_name};
use tollgate_core::answer::Rejection;
use tollgate_core::filter::{Facts, Filter, Found, Key, Listing};
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use super::Edge;
use crate::clock;
use crate::telemetry::{EdgeCounters, Whose};

/// A reason in words.
const REASON_BYTES_MAX: usize = 300;
/// What is shown of a path that leads to no source.
const PATH_BYTES_MAX: usize = 100;
/// What is shown of a method. Those that there are have fewer letters.
const METHOD_BYTES_MAX: usize = 16;
/// What is shown of one header's name.
const NAME_BYTES_MAX: usize = 64;

/// A request that is refused: what its sender is answered, and what people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) rejection: Rejection,
    /// When to come again, where that is known better than the answer table knows it.
    pub(super) retry_after_s: Option<u32>,
    /// The word under which it is counted and logged.
    cause: &'static str,
    /// One line, with nothing hidden in it.
    reason: String,
    fault: FaultOf,
}

/// Whose fault it is that a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultOf {
    Sender,
    /// The host's own, or of what it depends on.
    Host,
}

impl Refused {
    /// A refusal for a reason of its own.
    pub(super) fn because(rejection: Rejection, cause: &'static str, reason: impl Display) -> Self {
        Self {
            rejection,
            retry_after_s: None,
            cause,
            reason: mask::line(&reason.to_string(), REASON_BYTES_MAX),
            fault: FaultOf::Sender,
        }
    }

    /// A refusal that says nothing about the request: its sender is asked to come again.
    pub(super) fn for_now(rejection: Rejection, cause: &'static str, reason: impl Display) -> Self {
        Self {
            fault: FaultOf::Host,
            ..Self::because(rejection, cause, reason)
        }
    }

    /// The same, with the seconds after which to come again, where they are known.
    pub(super) fn until(self, retry_after_s: Option<u32>) -> Self {
        Self { retry_after_s, ..self }
    }
}

/// A rejection that says all that is known of it.
impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::because(rejection, rejection.as_str(), words(rejection))
    }
}

fn words(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::UnknownSource => "there is no such tenant or source; the path is /in/TENANT/SOURCE",
        Rejection::Method => "neither a POST nor a question that the provider asks before its events",
        Rejection::Insecure => "it did not come over HTTPS, which the configuration demands",
        Rejection::Address => "the source does not list the client's address",
        Rejection::RateLimited => "the tenant has used up its rate",
        Rejection::Unauthentic => "it is not proved",
        Rejection::Malformed => "its body breaks off, or its length or chunks are wrong",
        Rejection::BodyTooLarge => {
            "its body is over the bound; the source's body_bytes_max changes it, up to source_body_bytes_max in [edge]"
        }
        Rejection::Unreadable => "its body can never be read",
        Rejection::BatchTooLarge => "it carries more events than one request may",
        Rejection::HeadersTooLarge => "its headers are over the bound",
        Rejection::Encoded => "its body is encoded (Content-Encoding), and what is signed could not be seen",
        Rejection::TooSlow => "its body did not come in time",
        Rejection::KeyUnavailable => "a key that it names cannot be had",
        Rejection::Overloaded => "there is no memory for its body now",
        Rejection::StoreUnavailable => "the store cannot write",
        Rejection::TenantUnavailable => "the tenant's file is wrong, and nothing good is known of it",
        Rejection::ShuttingDown => "the host stops",
    }
}

/// What of a refused request people are told beside the reason.
pub(super) struct Head<'r> {
    pub(super) parts: &'r Parts,
    /// The address of its sender, where it is known.
    pub(super) from: Option<IpAddr>,
    /// Bytes of its body, as far as they are known.
    pub(super) body_bytes: Option<u64>,
}

/// Tells people of a refusal: counts it, logs it unless the same was logged just now, and remembers it.
pub(super) fn tell<S>(edge: &Edge<S>, whose: Whose<'_>, head: &Head<'_>, refused: &Refused, http_status: u16) {
    tell_to(&edge.counters, &edge.refused, whose, head, refused, http_status);
}

fn tell_to(
    counters: &EdgeCounters,
    remembered: &RefusedRequests,
    whose: Whose<'_>,
    head: &Head<'_>,
    refused: &Refused,
    http_status: u16,
) {
    let now = clock::now();
    let Refused { reason, .. } = refused;
    let cause = refused.cause;
    let (tenant, source) = whose.names();
    let path = source
        .is_none()
        .then(|| mask::line(head.parts.uri.path(), PATH_BYTES_MAX));
    if let Some(left_out) = counters.refused(whose, cause, now) {
        let (tenant, source) = (tenant.map(tracing::field::display), source.map(tracing::field::display));
        match refused.fault {
            FaultOf::Sender => tracing::warn!(tenant, source, cause, left_out, path, "refused: {reason}"),
            FaultOf::Host => {
                tracing::error!(
                    tenant,
                    source,
                    cause,
                    left_out,
                    path,
                    "the sender was asked to come again: {reason}"
                );
            }
        }
    }
    let request = Request {
        number: 0,
        refused_at: now,
        cause,
        reason: reason.clone(),
        http_status,
        method: mask::line(head.parts.method.as_str(), METHOD_BYTES_MAX),
        path,
        from: head.from,
        header_names: header_names(head.parts),
        header_count: head.parts.headers.len(),
        header_bytes: header_bytes(head.parts),
        body_bytes: head.body_bytes,
    };
    // What is for no source of a tenant's is nobody's, even where the path begins as the tenant's do: anybody can write that.
    let place = tenant.cloned().zip(source.cloned());
    remembered.remember(place, request);
}

/// The network that an address is in: enough to mend a list, too little to name a person.
pub(super) fn masked(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & 0xFFFF_FF00)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// Bytes of all names and values.
pub(super) fn header_bytes(parts: &Parts) -> usize {
    parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// The names of its headers with spaces between them, as far as they are kept.
fn header_names(parts: &Parts) -> String {
    let mut names = String::new();
    for name in parts.headers.iter().map(|(name, _)| name.as_str()) {
        let shown = mask::line(name, NAME_BYTES_MAX);
        if names.len() + 1 + shown.len() > limits::REFUSED_HEADER_NAMES_BYTES_MAX {
            break;
        }
        if !names.is_empty() {
            names.push(' ');
        }
        names.push_str(&shown);
    }
    names
}

/// What was refused since the host started, of each source and of no source the newest.
#[derive(Debug)]
pub(crate) struct RefusedRequests(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// The next one's number.
    next: i64,
    /// Each oldest first.
    places: BTreeMap<Place, VecDeque<Request>>,
}

/// The source that requests were for; none where there is no such source.
type Place = Option<(TenantName, SourceName)>;

#[derive(Debug)]
struct Request {
    number: i64,
    refused_at: UnixMillis,
    cause: &'static str,
    reason: String,
    http_status: u16,
    method: String,
    path: Option<String>,
    from: Option<IpAddr>,
    header_names: String,
    header_count: usize,
    header_bytes: usize,
    body_bytes: Option<u64>,
}

impl RefusedRequests {
    /// Nothing yet. Numbers go on from the clock, so that a place which an earlier process named lies before all of them.
    pub(crate) fn since(now: UnixMillis) -> Self {
        Self(Mutex::new(Kept {
            next: now.0.max(0),
            places: BTreeMap::new(),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, place: Place, request: Request) {
        let mut kept = self.kept();
        let number = kept.next;
        kept.next += 1;
        let requests = kept.places.entry(place).or_default();
        if requests.len() >= limits::REFUSED_KEPT_MAX {
            requests.remove(goes(requests));
        }
        requests.push_back(Request { number, ..request });
    }

    /// A page of what fits, newest first.
    pub(crate) fn list(&self, asked: &AskedList) -> Page<Item> {
        let kept = self.kept();
        let fitting = kept.fitting(asked);
        let more = fitting.len() > asked.rows_max;
        let items: Vec<_> = fitting.into_iter().take(asked.rows_max).collect();
        Page {
            next: items.last().filter(|_| more).map(|last| place(last.request.number)),
            newest: Some(place(kept.next - 1)),
            looked_at: kept.of(asked).count() as u64,
            looked_back_to: kept.looked_back_to(asked),
            items: items.iter().map(|seen| Item::Refused(seen.row())).collect(),
        }
    }

    /// How many fit.
    pub(crate) fn count(&self, asked: &AskedList) -> Count {
        let kept = self.kept();
        Count {
            of: Listing::Refused.as_str().to_owned(),
            count: kept.fitting(asked).len() as u64,
            complete: true,
            next: None,
            looked_at: kept.of(asked).count() as u64,
            looked_back_to: kept.looked_back_to(asked),
        }
    }
}

/// Which one makes room: the oldest of the cause that has most, so that a flood of one cause hides no other.
fn goes(requests: &VecDeque<Request>) -> usize {
    // Of each cause how many, and where the oldest is.
    let mut causes: Vec<(&str, usize, usize)> = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        match causes.iter_mut().find(|(cause, ..)| *cause == request.cause) {
            Some((_, count, _)) => *count += 1,
            None => causes.push((request.cause, 1, at)),
        }
    }
    let most = causes
        .into_iter()
        .max_by_key(|(_, count, oldest)| (*count, Reverse(*oldest)));
    most.map_or(0, |(_, _, oldest)| oldest)
}

fn place(number: i64) -> String {
    place_name(Listing::Refused, number)
}

impl Kept {
    /// What whoever asks may see.
    fn of<'k>(&'k self, asked: &'k AskedList) -> impl Iterator<Item = Seen<'k>> {
        self.places
            .iter()
            .map(|(place, requests)| (place.as_ref(), requests))
            .filter(|(place, _)| {
                let tenant = place.map(|(tenant, _)| tenant);
                asked.tenant.is_none() || asked.tenant.as_ref() == tenant
            })
            .flat_map(|(place, requests)| requests.iter().map(move |request| Seen { place, request }))
    }

    fn fitting<'k>(&'k self, asked: &'k AskedList) -> Vec<Seen<'k>> {
        let mut fitting: Vec<_> = self
            .of(asked)
            .filter(|seen| {
                let number = seen.request.number;
                asked.before.is_none_or(|before| number < before)
                    && asked.newer.is_none_or(|newer| number > newer)
                    && seen.fits(&asked.filter)
            })
            .collect();
        fitting.sort_by_key(|seen| Reverse(seen.request.number));
        fitting
    }

    fn looked_back_to(&self, asked: &AskedList) -> Option<String> {
        let oldest = self.of(asked).map(|seen| seen.request.refused_at).min();
        oldest.map(|at| at.to_string())
    }
}

/// A refused request that somebody looks at.
#[derive(Debug, Clone, Copy)]
struct Seen<'k> {
    place: Option<&'k (TenantName, SourceName)>,
    request: &'k Request,
}

impl Seen<'_> {
    fn fits(mut self, filter: &Filter) -> bool {
        let Ok(holds) = filter.holds(&mut self);
        holds
    }

    fn row(&self) -> RefusedRow {
        let Request {
            number,
            refused_at,
            cause,
            reason,
            http_status,
            method,
            path,
            from,
            header_names,
            header_count,
            header_bytes,
            body_bytes,
        } = self.request;
        RefusedRow {
            place: place(*number),
            refused_at: refused_at.to_string(),
            tenant: self.place.map(|(tenant, _)| tenant.clone()),
            source: self.place.map(|(_, source)| source.clone()),
            cause: (*cause).to_owned(),
            reason: reason.clone(),
            code: *http_status,
            method: method.clone(),
            path: path.clone(),
            from: from.map(masked),
            headers: header_names.split_terminator(' ').map(str::to_owned).collect(),
            header_count: *header_count as u64,
            header_bytes: *header_bytes as u64,
            body_bytes: *body_bytes,
        }
    }
}

impl Facts for Seen<'_> {
    type Error = Infallible;

    fn any(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Infallible> {
        let request = self.request;
        Ok(match key {
            Key::Tenant => self.place.is_some_and(|(tenant, _)| fits(Found::Text(tenant.as_str()))),
            Key::Source => self.place.is_some_and(|(_, source)| fits(Found::Text(source.as_str()))),
            Key::Since | Key::Until => fits(Found::Number(request.refused_at.0)),
            Key::Code => fits(Found::Number(request.http_status.into())),
            Key::Reason => fits(Found::Text(&request.reason)),
            Key::Cause => fits(Found::Text(request.cause)),
            // Of events; a filter of this list has none of them.
            Key::Type
            | Key::Event
            | Key::Receipt
            | Key::Subject
            | Key::Family
            | Key::Lifecycle
            | Key::Amount
            | Key::Currency
            | Key::Disposition
            | Key::Status
            | Key::Route
            | Key::Plugin
            | Key::Outcome
            | Key::Destination
            | Key::Attempts
            | Key::Kind
            | Key::Operation
            | Key::Body(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use tollgate_api::lists::{ListQuery, Listed as _};

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::post("/in/acme/shop?token=se-cret");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refuse(remembered: &RefusedRequests, whose: Whose<'_>, cause: &'static str, reason: &str) {
        let parts = head(&[("content-type", "text/se-cret"), ("x-signature", "se-cret")]);
        let head = Head {
            parts: &parts,
            from: Some("203.0.113.77".parse().unwrap()),
            body_bytes: Some(12),
        };
        let refused = Refused::because(Rejection::Unauthentic, cause, reason);
        tell_to(&EdgeCounters::default(), remembered, whose, &head, &refused, 401);
    }

    fn rows(
        remembered: &RefusedRequests,
        tenant: Option<&TenantName>,
        query: ListQuery,
    ) -> (Vec<RefusedRow>, Page<()>) {
        let mut asked = query.checked(Listing::Refused, clock::now()).unwrap();
        asked.tenant = tenant.cloned();
        let page = remembered.list(&asked).map(RefusedRow::of);
        (page.items.clone(), page.map(|_| None))
    }

    fn all(limit: u64) -> ListQuery {
        ListQuery {
            limit: Some(limit),
            ..ListQuery::default()
        }
    }

    #[test]
    fn what_is_told_of_an_address_is_its_network() {
        assert_eq!(masked("203.0.113.77".parse().unwrap()), "203.0.113.0/24");
        assert_eq!(
            masked("2a00:1450:4001:80b::200e".parse().unwrap()),
            "2a00:1450:4001::/48"
        );
    }

    #[test]
    fn i13_of_a_refused_request_its_shape_is_remembered_and_nothing_that_it_said() {
        let remembered = RefusedRequests::since(UnixMillis(7));
        let (acme, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
        refuse(
            &remembered,
            Whose::Sources(&acme, &shop),
            "no-match",
            "no\u{1b}[2J signature \u{202e}matches",
        );
        let (rows, page) = rows(&remembered, Some(&acme), all(5));
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(
            (row.place.as_str(), row.cause.as_str(), row.code, row.method.as_str()),
            ("ref_7", "no-match", 401, "POST")
        );
        assert_eq!(row.reason, "no [2J signature \\u{202e}matches");
        assert_eq!(row.from.as_deref(), Some("203.0.113.0/24"), "masked");
        assert_eq!(row.headers, ["content-type", "x-signature"]);
        assert_eq!((row.header_count, row.header_bytes, row.body_bytes), (2, 42, Some(12)));
        assert_eq!((row.path.as_ref(), page.newest.as_deref()), (None, Some("ref_7")));
        let said = serde_json::to_string(row).unwrap() + &format!("{remembered:?}");
        assert!(
            !said.contains("se-cret") && !said.contains('\u{1b}') && !said.contains('\u{202e}'),
            "{said}"
        );

        let many: Vec<_> = (0..90)
            .map(|n| (format!("x-{n}-{}", "y".repeat(200)), String::new()))
            .collect();
        let many: Vec<_> = many
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let names = header_names(&head(&many));
        assert!(
            names.len() <= limits::REFUSED_HEADER_NAMES_BYTES_MAX && names.split(' ').count() >= 7,
            "{names}"
        );
    }

    #[test]
    fn i13_each_source_has_room_of_its_own_and_a_flood_hides_no_other_cause() {
        let remembered = RefusedRequests::since(UnixMillis(0));
        let (acme, globex): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (shop, bank): (SourceName, SourceName) = ("shop".parse().unwrap(), "bank".parse().unwrap());
        refuse(&remembered, Whose::Sources(&acme, &shop), "expired", "one of its own");
        refuse(&remembered, Whose::Sources(&acme, &bank), "no-match", "quiet");
        for _ in 0..1000 {
            refuse(&remembered, Whose::Sources(&acme, &shop), "no-match", "flood");
            refuse(&remembered, Whose::Tenants(&globex), "unknown-source", "guessed");
        }
        refuse(&remembered, Whose::Sources(&globex, &shop), "no-match", "theirs");
        let causes = |rows: &[RefusedRow], cause: &str| rows.iter().filter(|row| row.cause == cause).count();
        let (acmes, _) = rows(&remembered, Some(&acme), all(1000));
        assert_eq!(acmes.len(), limits::REFUSED_KEPT_MAX + 1);
        assert_eq!((causes(&acmes, "expired"), causes(&acmes, "unknown-source")), (1, 0));
        assert!(
            acmes.is_sorted_by_key(|row| Reverse(row.place[4..].parse::<i64>().unwrap())),
            "newest first"
        );
        assert_eq!(acmes[0].place, "ref_2000", "the newest of the flood stays");
        let (globexs, _) = rows(&remembered, Some(&globex), all(1000));
        assert_eq!(globexs.len(), 1, "what is for no source is nobody's: {globexs:?}");
        let (everything, _) = rows(&remembered, None, all(1000));
        assert_eq!(everything.len(), 2 * limits::REFUSED_KEPT_MAX + 2);
        assert!(everything.iter().any(|row| row.tenant.is_none() && row.path.is_some()));
    }

    #[test]
    fn i13_o10_refused_requests_are_narrowed_and_paged_as_every_list() {
        let remembered = RefusedRequests::since(UnixMillis(100));
        let (acme, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
        for cause in ["no-match", "expired", "no-match", "missing-header"] {
            refuse(
                &remembered,
                Whose::Sources(&acme, &shop),
                cause,
                &format!("For {cause}"),
            );
        }
        let places = |query: ListQuery| {
            let (rows, page) = rows(&remembered, None, query);
            let places: Vec<_> = rows.into_iter().map(|row| row.place).collect();
            (places.join(" "), page.next)
        };
        for (filter, expect) in [
            ("cause:no-match", "ref_102 ref_100"),
            ("-cause:no-match source:shop since:1h code:4xx", "ref_103 ref_101"),
            ("reason:EXPIRED", "ref_101"),
            ("tenant:globex", ""),
            ("until:1h", ""),
            ("code:5xx", ""),
        ] {
            let filter = Some(filter.to_owned());
            let query = ListQuery { filter, ..all(9) };
            assert_eq!(places(query.clone()), (expect.to_owned(), None), "{query:?}");
            let asked = query.checked(Listing::Refused, clock::now()).unwrap();
            assert_eq!(
                remembered.count(&asked).count as usize,
                expect.split_whitespace().count()
            );
        }
        let (first, next) = places(all(3));
        assert_eq!(
            (first.as_str(), next.as_deref()),
            ("ref_103 ref_102 ref_101", Some("ref_101"))
        );
        assert_eq!(
            places(ListQuery { after: next, ..all(3) }),
            ("ref_100".to_owned(), None)
        );
        let newer = Some("ref_102".to_owned());
        assert_eq!(places(ListQuery { newer, ..all(3) }).0, "ref_103");
    }
}
