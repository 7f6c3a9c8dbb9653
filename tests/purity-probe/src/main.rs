//! Reaches every public function of tollgate-core. Built for wasm32-wasip2, this component imports what core reaches, and what
//! std brings along; `cargo xtask check-pure` looks at the imports.
//!
//! A function is reached when its address is taken in a way that the optimiser cannot see through: nothing has to be called,
//! so nothing has to be made up to call it with. `tests/tests/repository.rs` names the public functions that are missing here.

use std::hint::black_box;

use tollgate_core::*;

/// Takes the addresses of functions. As many `_` as the function has arguments, the receiver included.
macro_rules! reach {
    ($($($segment:ident)::+ ($($argument:tt),*);)*) => {
        $( black_box($($segment)::+ as fn($($argument),*) -> _); )*
    };
}

fn main() {
    reach! {
        action::Action::account(_);
        action::Action::amount(_);
        action::Action::content_digest(_);
        action::Action::kind(_);
        action::Action::to_json(_);
        action::ActionKind::as_str(_);
        action::ActionKind::from_name(_);
        action::ActionKind::has_account(_);
        action::ActionKind::moves_money(_);
        action::ActionKind::of_ledger(_);
        action::GrantedAction::action(_);
        action::GrantedAction::operation_key(_);
        action::verdict(_, _);
        admission::Admission::about(_, _);
        admission::Admission::made(_, _);
        admission::Admission::of(_, _, _, _, _, _);
        admission::Admission::accepted_by(_, _);
        admission::Admission::on_its_own(_, _);
        admission::Kept::keeps_conflict(_, _);
        admission::Kept::keeps_same(_);
        access::Caller::may(_, _, _);
        access::Caller::may_issue(_, _, _, _);
        access::Caller::may_link(_, _, _, _);
        access::Caller::narrowed(_, _);
        access::Caller::operator();
        access::Caller::sees(_, _);
        access::Capabilities::has(_, _);
        access::Capabilities::list(_);
        access::Capabilities::may(_, _);
        access::Capabilities::of(_);
        access::Capability::as_str(_);
        access::Capability::permissions(_);
        access::Capability::says(_);
        access::Permission::as_str(_);
        access::Role::as_str(_);
        access::Role::may(_, _);
        access::token(_, _);
        access::token_digest(_);
        admission::decide(_, _, _);
        admission::jobs(_, _, _, _);
        admission::made_late(_, _, _, _);
        admission::on_time(_);
        admission::lane(_, _, _, _, _);
        admission::receipt_id(_, _, _, _);
        admission::receipt_id_of_message(_, _, _, _);
        admission::replaces(_, _, _, _);
        answer::Rejection::as_str(_);
        answer::Ack::with_conflict_status(_, _);
        answer::Answer::with_body_bound(_, _);
        answer::Answer::body(_);
        answer::Answer::content_type(_);
        answer::Happening::as_str(_);
        answer::Happening::receipt(_);
        answer::answer(_, _);
        answer::answer_all(_, _);
        breaker::Breaker::finished(_, _, _, _);
        breaker::Breaker::is_open(_);
        breaker::Breaker::new();
        breaker::Breaker::permit(_, _, _);
        catalogue::markdown();
        chain::ReceiptFacts::digest(_);
        chain::link(_, _);
        commitment::body_commitment(_, _, _);
        challenge::answer(_, _);
        challenge::preflight(_, _, _);
        checkpoint::Checkpoint::signed(_, _);
        checkpoint::Mark::after(_, _);
        checkpoint::SignedCheckpoint::from_json(_);
        checkpoint::SignedCheckpoint::to_json(_);
        checkpoint::SignedCheckpoint::verify(_, _);
        checkpoint::StoreId::of(_);
        difference::Percentiles::of(_);
        difference::Said::of(_, _, _);
        difference::StateUse::of(_);
        difference::Tally::coarse(_);
        difference::Tallying::add(_, _, _, _, _, _);
        difference::Tallying::finish(_);
        difference::differences(_, _);
        bulk::BulkAction::as_str(_);
        bulk::BulkAction::direction(_);
        bulk::BulkAction::lists(_);
        bulk::BulkState::as_str(_);
        delivery::AttemptEnd::is_healthy(_);
        delivery::AttemptEnd::is_success(_);
        delivery::AttemptEnd::lease_ran_out();
        delivery::AttemptEnd::mailed(_, _, _);
        delivery::TestMessage::compose(_, _, _);
        delivery::AttemptEnd::answered(_, _, _);
        delivery::AttemptEnd::event_unread(_);
        delivery::OutboxClaim::attempted(_, _, _, _, _, _);
        delivery::OutboxClaim::compose(_, _, _, _, _);
        delivery::attempt_span(_, _);
        delivery::span_id(_, _);
        delivery::OutboxClaim::hands_on_event(_);
        mail::OutboxClaim::mail(_);
        mail::MailAddress::as_str(_);
        mail::MailAddress::domain(_);
        mail::is_domain(_);
        delivery::OutboxClaim::without_destination(_);
        delivery::entry_end(_, _, _, _, _);
        delivery::kept_answer(_, _);
        filter::Filter::is_empty(_);
        filter::Filter::only(_, _);
        filter::Filter::read(_, _, _);
        filter::Filter::since(_);
        filter::Filter::until(_);
        filter::FilterError::pointed(_, _);
        filter::Key::is_of_event(_);
        filter::Key::word(_);
        filter::Listing::as_str(_);
        filter::Listing::is_of_events(_);
        filter::Listing::statuses(_);
        filter::in_body(_, _, _);
        issue::IssueKind::as_str(_);
        issue::IssueKind::first_action(_, _, _);
        issue::IssueKind::found_by(_, _, _, _);
        issue::IssueState::as_str(_);
        issue::IssueState::next(_, _);
        issue::namespace();
        issue::notice(_);
        host_calls::HostCalls::get(_, _, _);
        host_calls::HostCalls::into_remains(_);
        host_calls::HostCalls::log(_, _, _);
        host_calls::HostCalls::new(_);
        host_calls::HostCalls::put(_, _, _);
        envelope::Unreadable::reason(_);
        envelope::read(_, _, _, _);
        event::StatusReading::family(_);
        event::StatusReading::status(_);
        explain::Differs::as_str(_);
        explain::explain(_, _, _, _);
        fixture::Ending::allows(_, _);
        fixture::Ending::of(_, _, _);
        fixture::Fixture::from_json(_);
        fixture::Fixture::of_event(_);
        fixture::Fixture::read(_, _);
        fixture::Fixture::to_json(_);
        fixture::Series::count(_);
        fixture::Series::from_json(_);
        fixture::Series::name(_, _, _);
        fixture::Series::only(_);
        fixture::state_from_json(_);
        action::ForwardForm::as_str(_);
        forward::action(_, _);
        forward::form_of(_);
        forward::plugin_name();
        grant::Grant::of(_);
        grant::judge(_, _);
        habits::Habits::keys(_, _, _);
        habits::Habits::note(_, _, _, _);
        ids::Digest::of(_);
        ids::LeaseEpoch::next(_);
        ids::TenantName::as_str(_);
        ids::TenantName::new(_);
        lifecycle::Lifecycle::from_toml(_);
        lifecycle::Lifecycle::is_terminal(_, _);
        lifecycle::Lifecycle::knows(_, _);
        lifecycle::Lifecycle::lateness(_, _, _);
        lifecycle::Lifecycle::statuses(_);
        lifecycle::Lifecycle::transition(_, _, _);
        lifecycle::shipped();
        config_schema::ConfigSchema::from_json(_);
        config_schema::ConfigSchema::document(_);
        config_schema::ConfigSchema::check(_, _);
        manifest::Manifest::from_json(_);
        manifest::Manifest::to_json(_);
        mask::identifier(_);
        mask::check_note(_, _, _);
        mask::is_hidden(_);
        mask::json(_);
        mask::line(_, _);
        mask::shown(_);
        mode::Accept::of(_);
        mode::Accept::why_not(_, _);
        money::Currency::as_str(_);
        money::Currency::exponent(_);
        money::Currency::new(_);
        money::Money::currency(_);
        money::Money::minor_units(_);
        money::Money::new(_, _);
        outbox::idempotency_key(_, _, _);
        outbox::message_id(_, _, _, _, _, _);
        network::Network::contains(_, _);
        network::judge(_, _);
        outcome::Fault::as_str(_);
        outcome::Fault::is_deterministic(_);
        outcome::Outcome::message(_);
        outcome::Outcome::name(_);
        outcome::job_end(_, _, _, _, _);
        outcome::job_end_unstopped(_, _, _, _, _);
        outcome::judged(_, _);
        own_header::carries_credential(_);
        own_header::check_value(_);
        own_header::kept(_);
        own_header::name(_);
        portal::Colour::contrast(_, _);
        portal::Colour::shades(_);
        portal::Origin::as_str(_);
        portal::Origin::is_https(_);
        portal::Origin::is_safe(_);
        portal::Scheme::as_str(_);
        portal::lasts_ms(_);
        profile::standard_webhooks();
        profile::Profile::about(_);
        profile::Profile::accept(_);
        profile::Profile::ack(_);
        profile::Amounts::exponent(_, _);
        profile::Profile::amounts(_);
        profile::Profile::body_bytes_max(_);
        profile::Profile::is_told_by_message(_);
        profile::Profile::operations(_);
        profile::Profile::reads_amounts(_);
        profile::Profile::tells_mode(_);
        profile::Profile::with_accept(_, _);
        profile::Profile::writes_major_units(_);
        profile::Profile::body_is_signed(_);
        profile::Profile::families(_);
        profile::Profile::fetches_keys(_);
        profile::Profile::fetch_hosts(_);
        profile::Profile::from_toml(_);
        profile::Profile::id_is_signed(_);
        profile::Profile::id_places(_);
        profile::Profile::needs_event_type(_);
        profile::Profile::needs_secrets(_);
        profile::Profile::parameters(_);
        profile::Profile::scheme_title(_);
        profile::Profile::schemes(_);
        profile::Profile::signs_url(_);
        profile::Profile::tolerance_s(_);
        profile::Profile::statuses(_);
        profile::Profile::vectors(_);
        profile::Profile::with_currency(_, _);
        profile::Profile::with_event_type(_, _);
        profile::Profile::with_kept_headers(_, _);
        profile::shipped();
        profile::Vector::parameters(_);
        profile::Vector::secrets(_);
        quarantine::Row::add(_, _, _);
        quarantine::Row::faults(_);
        quarantine::Row::of(_);
        quarantine::counts(_);
        rate::Bucket::charge(_, _, _, _);
        rate::Bucket::give_back(_, _);
        rate::Bucket::left(_, _, _);
        rate::Bucket::take(_, _, _);
        rate::Rate::burst(_);
        rate::Rate::burst_ms(_);
        rate::Rate::new(_, _);
        request::RawRequest::header_values(_, _);
        request::RawRequest::single_header(_, _);
        request::RawRequest::urls(_);
        request::signed_url(_, _);
        request::source_of_path(_);
        retry::RetryPolicy::is_spent(_, _);
        retry::RetryPolicy::next(_, _, _, _, _);
        review::ReviewBody::checked(_);
        review::judge(_, _, _, _, _);
        review::mapped(_, _);
        route::Late::from_word(_);
        route::Late::job(_, _);
        route::Late::word(_);
        route::RouteMatch::takes(_, _);
        outbox::lane(_, _);
        content::in_event(_, _, _);
        content::Content::of(_);
        content::Content::event(_);
        content::ContentFilter::read(_);
        content::ContentFilter::text(_);
        content::ContentFilter::fits(_, _);
        admission::Admission::why_filtered(_, _);
        route::TypePattern::matches(_, _);
        route::TypePattern::new(_);
        secret::Secret::expose(_);
        secret::Secret::matches(_, _);
        subject::Scope::source(_, _);
        subject::key(_, _, _, _, _);
        subject::Sharing::scope(_, _);
        sample::Sample::as_test(_, _, _, _);
        sample::Sample::of(_);
        sign::sign(_, _, _, _);
        golden::check(_, _, _, _);
        golden::events(_);
        golden::from_json(_);
        golden::neutral(_);
        grant::Violation::rule(_);
        budget::Budget::counts_as(_, _);
        budget::Budget::left(_, _);
        budget::Most::currency(_);
        budget::Most::in_words(_, _);
        budget::Most::number(_);
        budget::Per::as_str(_);
        budget::Per::from_word(_);
        budget::Spending::over(_, _, _);
        budget::Tally::add(_, _, _, _);
        budget::Window::as_str(_);
        budget::Window::ends_at(_, _);
        budget::Window::from_word(_);
        budget::counted_as(_);
        grant::well_formed(_);
        registry::Binding::admits(_, _);
        registry::Binding::after(_, _);
        registry::Binding::chosen(_, _, _, _, _);
        registry::Binding::new(_, _);
        registry::Change::brings(_);
        registry::Change::name(_);
        registry::Evidence::warning(_, _);
        registry::PromotionGate::unmet(_, _, _);
        registry::Refused::code(_);
        registry::Share::as_per_mille(_);
        registry::Share::per_mille(_);
        registry::Standing::next(_, _);
        signature::PluginSignature::from_json(_);
        signature::PluginSignature::to_json(_);
        signature::PluginSignature::verify(_, _, _);
        signature::PrivateKey::from_seed(_);
        signature::PrivateKey::from_text(_);
        signature::PrivateKey::public(_);
        signature::PrivateKey::sign(_, _, _, _);
        signature::PrivateKey::to_text(_);
        signature::PublicKey::as_bytes(_);
        signature::PublicKey::from_bytes(_);
        signature::PublicKey::from_text(_);
        signature::PublicKey::to_text(_);
        signature::signed_message(_, _, _);
        time::UnixMillis::from_rfc3339(_);
        time::UnixMillis::from_seconds(_);
        time::UnixMillis::next_month(_);
        time::UnixMillis::next_multiple_of(_, _);
        time::UnixMillis::plus_ms(_, _);
        time::UnixMillis::since(_, _);
        time::UnixMillis::unix_seconds(_);
        vector::of(_);
        vector::run(_, _);
        vector::shipped();
        undelivered::Standing::as_str(_);
        undelivered::Standing::is_due(_);
        undelivered::reached(_, _, _, _, _, _);
        verify::Credential::basic(_, _);
        verify::Credential::bearer(_);
        verify::Credential::check(_, _);
        verify::Credential::header(_, _);
        verify::KeyNeed::name(_);
        verify::KeyNeed::url(_);
        verify::Keyring::fetch_body(_, _, _);
        verify::Keyring::fetched_name(_, _);
        verify::Keyring::key_ids(_);
        verify::Keyring::learn(_, _, _, _, _);
        verify::Keyring::need(_, _, _);
        verify::Keyring::new(_, _);
        verify::Keyring::renewal(_, _);
        verify::Keyring::vouch_for(_, _);
        verify::Keyring::windows(_);
        verify::Keyring::with_parameters(_, _, _);
        verify::Unproven::needs_key(_);
        verify::Unproven::reason(_);
        verify::Verified::into_proof(_);
        verify::Verified::identity(_, _);
        verify::Verified::proof(_);
        verify::Verified::request(_);
        verify::Verified::body(_);
        verify::Window::holds(_, _);
        verify::pasted(_);
        verify::verify(_, _, _);
        worker::RunRecord::fault(_);
        worker::Rules::after(_, _, _, _, _, _);
        worker::Rules::given_up(_, _, _, _, _, _);
        worker::Rules::judge(_, _, _, _, _);
        worker::Rules::unrun(_, _, _, _);
        worker::Rules::unrunnable(_, _, _, _, _);
        worker::Rules::without_route(_, _, _);
        worker::Settlement::may_be_refused(_);
        work::EntryState::as_str(_);
        work::EntryState::is_held_under(_, _, _);
        work::EntryState::next(_, _);
        work::JobState::as_str(_);
        work::JobState::is_held_under(_, _, _);
        work::JobState::next(_, _);
    }

    // What is generic has no address until its types are known.
    let _ = black_box(secret::Secret::new(black_box(vec![1_u8])));
    let refused = outcome::Outcome::Refused { message: String::new() };
    let _ = black_box(outcome::judged_with(black_box(refused), &[], |violation| {
        black_box(violation.rule());
    }));
    if let Ok(filter) = filter::Filter::read(black_box("type:a"), filter::Listing::Events, time::UnixMillis(0)) {
        let part = filter::Filter::part(&filter, |key| black_box(key).is_of_event());
        black_box(filter::Filter::asks(&part, |key| black_box(key).is_of_event()));
        let _ = black_box(filter::Filter::holds(&part, &mut HasNothing));
        black_box(filter::Listing::keys(filter::Listing::Events).count());
    }
    let _ = black_box(grant::bounding(black_box(&[]), action::ActionKind::moves_money));
    let _ = black_box(budget::spendings(black_box(&[]), std::iter::empty()));
    let _ = black_box(turns::take(&mut NobodyWaits, &mut 0, black_box(1)));
    if let Ok(series) = fixture::Series::from_json(black_box(b"{}")) {
        let _ = black_box(fixture::Series::play(&series, |_| ((), Vec::new())));
    }
    let binding = |digest| registry::Binding::new(ids::PluginName::new("a").expect("a name"), digest);
    let _ = black_box(registry::Binding::digests(&binding(ids::Digest([0; 32]))).count());

    // Text ids come of one macro and row ids of another: one of each stands for all. Reading and printing are traits.
    for text in black_box(["acme", "job_1", "rcpt_00", "sha256:00"]) {
        read_and_print::<ids::TenantName>(text);
        read_and_print::<ids::JobId>(text);
        read_and_print::<ids::ReceiptId>(text);
        read_and_print::<ids::Digest>(text);
    }
    let _ = black_box(
        money::Currency::new(black_box("USD"))
            .and_then(|usd| money::Money::new(black_box(1), usd))
            .map(|m| m.to_string()),
    );
    let _ = black_box(time::UnixMillis(black_box(0)).to_string());
}

struct HasNothing;

impl filter::Facts for HasNothing {
    type Error = std::fmt::Error;

    fn any(&mut self, _: &filter::Key, fits: &mut dyn FnMut(filter::Found<'_>) -> bool) -> Result<bool, Self::Error> {
        Ok(fits(black_box(filter::Found::NoAnswer)))
    }
}

struct NobodyWaits;

impl turns::Line for NobodyWaits {
    type Name = u32;
    type Error = std::fmt::Error;

    fn behind(&mut self, name: &u32) -> Result<Option<u32>, Self::Error> {
        Ok(black_box((*name == 0).then_some(1)))
    }

    fn quota(&mut self, name: &u32) -> Result<usize, Self::Error> {
        Ok(black_box(*name as usize))
    }

    fn lease(&mut self, _: &u32, rows_max: usize) -> Result<turns::Leased, Self::Error> {
        Ok(turns::Leased {
            rows: black_box(rows_max),
            may_be_more: false,
        })
    }
}

fn read_and_print<Id: std::str::FromStr + std::fmt::Display>(text: &str) {
    let _ = black_box(text.parse::<Id>().map(|id| id.to_string()).ok());
}
