//! The contract: what every backend promises. Written against [`Store`] alone.

use std::sync::Arc;

use tollgate_core::access::Role;
use tollgate_core::action::Verdict;
use tollgate_core::admission::{Admission, Disposition, OnReplay, on_time};
use tollgate_core::budget::Window;
use tollgate_core::commitment::body_commitment;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::{ActionId, DeadLetterId, DeliveryId, Digest, JobId, LeaseEpoch, OutboxId, ReceiptId, TokenId};
use tollgate_core::limits;
use tollgate_core::outbox::message_id;
use tollgate_core::outcome::JobEnd;
use tollgate_core::portal::{Appearance, Scheme};
use tollgate_core::review::Word;
use tollgate_core::review::{Reviewed, Target, Unmappable};
use tollgate_core::route::Late;
use tollgate_core::state::StateValue;
use tollgate_core::subject::Scope;
use tollgate_core::time::UnixMillis;
use tollgate_store::registry::Act;
use tollgate_store::{
    Admitted, AttemptRecord, AttemptRecorded, BlockingReads as _, BudgetAsked, ClaimRequest, Control as _, Counts,
    DeadLetterFilter, DeadWork, Intake as _, JobClaim, NewToken, OldestWaiting, Outbox as _, OutboxClaim, OutboxHold,
    Place, Quotas, ReceiptKey as _, RecordedRunFilter, Redelivered, ReplayReport, ReplayRequest, ReplayWhat,
    ReplayedWork, ResendRequest, ReviewAnswer, ReviewDecision, ReviewReport, ReviewRequest, Revocation, RoutableFilter,
    RoutableStanding, RouteTargets, SentFilter, SentOf, SentState, SetAside, SetAsideFilter, SetAsideKind, Settled,
    Settlement, StateEdit, StateEdited, StateFilter, Store, StoreError, Targets, TraceBy, TraceQuery, Views as _,
    Work as _,
};

use crate::support::{
    ACCEPTED, Backend, LEASE_MS, Sent, SettlementExt as _, at, at_once, claim, claim_one, claim_outbox_one,
    claim_request, decision, dismiss, dollars, event_ids, finish_all, map, name, proof, settle, settlement, spent,
    times, trace, trace_one, trace_text,
};

pub(crate) use crate::bulks::{
    o11_a_step_is_done_once_whoever_repeats_it_and_goes_on_after_a_restart,
    o11_deliveries_go_again_under_their_own_names_events_are_routed_and_held_work_is_dismissed,
    o11_what_changed_meanwhile_is_passed_over_and_an_aborted_one_does_nothing_more,
};
pub(crate) use crate::issues::{
    o12_a_destination_is_not_told_that_it_cannot_be_told,
    o12_each_change_of_an_issues_state_is_told_once_by_the_outbox,
    o12_failures_of_one_kind_place_and_code_are_one_issue_and_none_counts_twice,
};
pub(crate) use crate::lists::{
    o2_o10_a_list_keeps_to_its_tenant, o10_a_filter_finds_what_fits_in_every_list, o10_a_list_goes_both_ways,
    o10_pages_stay_where_they_are_while_events_come_in, o10_what_was_decided_about_a_held_event_is_not_held_any_more,
    p11_an_operation_that_another_event_recorded_counts_for_both, p11_each_event_has_a_standing_at_each_destination,
};
pub(crate) use crate::settings::{
    o14_secrets_are_kept_as_they_are_sealed_and_each_change_is_told,
    o14_settings_and_the_secret_that_they_bring_are_one_change,
    o14_settings_are_kept_whole_and_of_two_who_saw_the_same_version_one_is_told, o14_the_newest_versions_are_kept,
};

pub(crate) use crate::order::{
    p8_a_long_line_of_one_subject_holds_up_no_other, p8_a_subject_is_its_sources_own_unless_they_share_it,
    p8_of_one_subject_one_leaves_after_the_other_and_nobody_else_waits,
    p8_order_outlives_a_restart_a_rename_and_the_setting,
    p8_what_is_put_back_goes_before_what_waits_and_behind_what_is_on_its_way,
};

pub(crate) use crate::pulls::{
    p9_a_lease_that_runs_out_is_an_attempt_and_the_last_one_a_dead_letter,
    p9_of_many_who_pull_at_once_each_gets_its_own, p9_what_is_pulled_is_ended_under_its_newest_lease_alone,
    p9_what_is_pulled_keeps_order_pauses_and_its_owner_over_a_restart,
};

/// Makes the list of the suite's tests for a backend: `contract!(Sqlite::new())`; of what a store of rows keeps as well, with
/// `contract!(Rows::new(), of rows)`.
#[macro_export]
macro_rules! contract {
    ($backend:expr) => {
        $crate::contract!($backend, of rows);
        // What only the one process can do that has the store to itself, or nothing on Spin asks for.
        $crate::contract!(
            $backend,
            state_is_changed_by_hand_once_and_with_who_and_why,
            tokens_are_kept_listed_and_revoked,
            portal_links_are_kept_with_what_they_list,
            o14_settings_are_kept_whole_and_of_two_who_saw_the_same_version_one_is_told,
            o14_settings_and_the_secret_that_they_bring_are_one_change,
            o14_the_newest_versions_are_kept,
            o14_secrets_are_kept_as_they_are_sealed_and_each_change_is_told,
            signals_wake_when_work_is_ready,
            p9_what_is_pulled_is_ended_under_its_newest_lease_alone,
            p9_a_lease_that_runs_out_is_an_attempt_and_the_last_one_a_dead_letter,
            p9_what_is_pulled_keeps_order_pauses_and_its_owner_over_a_restart,
            p9_of_many_who_pull_at_once_each_gets_its_own,
            reopening_keeps_everything_and_frees_leases,
            a_closed_store_says_so,
        );
    };
    ($backend:expr, of rows) => {
        $crate::contract!(
            $backend,
            a_redelivery_is_the_same_and_other_bytes_conflict,
            one_signed_message_is_one_receipt_and_under_another_id_a_suspected_replay,
            an_operation_belongs_to_its_namespace,
            a_repeat_adds_the_destinations_that_are_missing,
            what_went_to_a_renamed_destination_is_not_sent_again,
            a_replay_says_which_deliveries_are_missing,
            a_message_id_is_one_effects_over_retries_and_stores,
            one_event_sent_many_times_at_once_is_new_once,
            what_comes_at_once_sees_what_came_before_it,
            the_events_of_one_request_are_admitted_together_in_their_order,
            the_event_comes_back_as_it_was_admitted,
            tenants_and_sources_keep_their_own_event_ids,
            a_late_status_is_superseded,
            a_contradiction_is_held,
            a_status_that_nobody_knows_is_held,
            a_status_that_was_not_accepted_moves_nothing,
            held_receipts_are_listed_and_filtered,
            a_mapped_receipt_goes_on_with_the_status_that_it_was_given,
            a_mapped_receipt_that_came_late_is_superseded,
            a_dismissed_receipt_does_nothing,
            a_review_that_cannot_be_taken_writes_nothing,
            a_dry_review_writes_nothing,
            of_many_who_decide_at_once_one_does,
            redeliveries_are_counted_and_kept_one_by_one_up_to_a_bound,
            other_bytes_are_kept_once_each_and_up_to_a_bound,
            a_conflict_is_listed_and_becomes_an_event_of_its_own,
            r3_a_job_is_due_when_its_admission_says_whatever_the_time_of_receipt,
            a_conflict_that_was_decided_stays_so_when_it_comes_again,
            suspected_replays_are_kept_once_each_listed_and_decided_like_conflicts,
            suspected_replays_wait_for_nobody_where_the_source_says_so,
            a_held_receipt_is_replaced_by_another_form_of_it,
            another_form_replaces_what_is_held_by_itself_where_the_source_says_so,
            held_jobs_are_listed_counted_dismissed_and_run_again,
            held_jobs_are_replayed_by_filter,
            what_no_route_took_is_listed_and_routed_once,
            what_was_superseded_is_routed_when_somebody_says_so,
            late_is_not_never_jobs_of_late_events_run_or_wait_for_a_person,
            a_source_moves_no_subject_of_another_unless_they_share_it_and_a_person_sets_it_right,
            lists_and_traces_go_on_where_they_ended,
            jobs_are_claimed_oldest_first,
            tenants_take_turns,
            a_lease_is_extended_by_who_holds_it,
            who_has_nothing_due_takes_nobodys_turn,
            a_lane_goes_one_by_one_in_order,
            a_retry_keeps_its_lane_waiting,
            held_and_dead_jobs_do_not_block_their_lane,
            a_stale_epoch_cannot_settle,
            an_expired_lease_is_claimed_by_another,
            an_expired_lease_that_nobody_took_still_settles,
            state_is_read_written_and_removed,
            a_stale_read_writes_nothing,
            a_run_that_only_repeats_leaves_state_alone,
            state_keeps_to_its_total,
            state_keeps_to_its_total_however_many_settle_at_once,
            w6_budgets_are_counted_in_the_commit_that_records,
            w6_what_repeats_or_conflicts_takes_nothing_of_a_budget,
            w6_a_race_never_spends_a_budget_twice,
            w6_a_person_lets_a_job_go_beyond_its_budget_once,
            w6_counts_of_past_windows_go_and_those_of_now_stay,
            p10_a_paused_route_begins_nothing_and_loses_nothing,
            p10_many_jobs_that_waited_for_a_pause_are_due_again_a_few_at_a_time,
            p10_a_paused_destination_gets_nothing_and_loses_nothing,
            p8_of_one_subject_one_leaves_after_the_other_and_nobody_else_waits,
            p8_what_is_put_back_goes_before_what_waits_and_behind_what_is_on_its_way,
            p8_order_outlives_a_restart_a_rename_and_the_setting,
            p8_a_subject_is_its_sources_own_unless_they_share_it,
            p8_a_long_line_of_one_subject_holds_up_no_other,
            a_version_never_comes_back,
            only_a_finished_job_has_effects,
            an_operation_has_one_effect_across_events,
            the_same_operation_with_other_content_conflicts,
            conflicts_with_the_ledger_are_kept_once_listed_and_counted,
            a_conflict_with_the_ledger_is_kept_out_or_recorded_once,
            operations_of_two_tenants_are_apart,
            an_action_goes_to_each_destination_once,
            destinations_take_turns_and_keep_to_their_room,
            a_failed_attempt_is_tried_again_when_due,
            a_lost_delivery_lease_keeps_its_attempt_as_history,
            a_released_entry_counts_no_attempt,
            dead_jobs_and_deliveries_are_listed_and_filtered,
            a_dry_replay_writes_nothing,
            a_replay_works_once_and_has_no_second_effect,
            a_replayed_delivery_is_sent_again,
            what_was_delivered_is_sent_again_on_purpose_under_its_own_names,
            a_resend_takes_what_was_delivered_and_matches,
            a_receipt_is_replayed_whole,
            a_replayed_job_takes_its_old_place_in_the_lane,
            a_replay_of_what_does_not_exist_says_so,
            every_identifier_leads_to_the_trace,
            a_trace_keeps_to_its_tenant,
            a_trace_shows_what_was_repeated,
            recorded_runs_come_back_with_all_that_they_read,
            next_due_is_the_earliest,
            the_oldest_that_waits_is_known_whenever_it_is_due,
            counts_count,
            what_does_not_exist_is_not_found,
            o10_a_filter_finds_what_fits_in_every_list,
            o10_what_was_decided_about_a_held_event_is_not_held_any_more,
            o10_pages_stay_where_they_are_while_events_come_in,
            o2_o10_a_list_keeps_to_its_tenant,
            o10_a_list_goes_both_ways,
            p11_each_event_has_a_standing_at_each_destination,
            p11_an_operation_that_another_event_recorded_counts_for_both,
            o11_a_step_is_done_once_whoever_repeats_it_and_goes_on_after_a_restart,
            o11_what_changed_meanwhile_is_passed_over_and_an_aborted_one_does_nothing_more,
            o11_deliveries_go_again_under_their_own_names_events_are_routed_and_held_work_is_dismissed,
            o12_failures_of_one_kind_place_and_code_are_one_issue_and_none_counts_twice,
            o12_each_change_of_an_issues_state_is_told_once_by_the_outbox,
            o12_a_destination_is_not_told_that_it_cannot_be_told,
            integrity_is_well_after_work,
        );
    };
    ($backend:expr, $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::suite::$test(&$backend).await;
            }
        )*
    };
}

fn held(reason: &str) -> Admitted {
    Admitted::New(Disposition::Held { reason: reason.into() })
}

fn superseded(current: &str) -> Admitted {
    Admitted::New(Disposition::Superseded { current: name(current) })
}

fn dead(reason: &str) -> JobEnd {
    JobEnd::Dead { reason: reason.into() }
}

fn retry(ms: i64) -> JobEnd {
    JobEnd::RetryAt {
        at: at(ms),
        reason: "not yet".into(),
    }
}

// Admission.

/// Where the signed message tells events apart, one captured request is one receipt, under whatever id and spelling; and every receipt is
/// found by the id that people see.
pub(crate) async fn one_signed_message_is_one_receipt_and_under_another_id_a_suspected_replay(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1").message("m1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    assert_eq!(
        sent.clone().at(10).body("{ }").admit(&store).await,
        Admitted::Same { delivery: 2 },
        "what is not signed may differ"
    );
    let renamed = Sent::new("evt_2").message("m1").at(20);
    assert_eq!(renamed.admit(&store).await, Admitted::SuspectedReplay { delivery: 3 });
    let told_apart = Sent::new("evt_1").message("m2").at(30);
    assert_eq!(told_apart.admit(&store).await, ACCEPTED, "one id, two facts");

    let by_id = store
        .trace(TraceQuery {
            by: TraceBy::Text("evt_1".into()),
            tenant: None,
            after: None,
            receipts_max: 10,
        })
        .await
        .unwrap();
    let mut found: Vec<_> = by_id.iter().map(|trace| trace.receipt.id).collect();
    found.sort();
    let mut both = vec![sent.receipt(&store), told_apart.receipt(&store)];
    both.sort();
    assert_eq!(found, both);
    let trace = trace_one(&store, &sent).await;
    let decisions: Vec<_> = trace
        .deliveries
        .iter()
        .map(|delivery| delivery.decision.as_str())
        .collect();
    assert_eq!(decisions, ["same", "suspected-replay"]);
    assert_eq!(trace.jobs.len(), 1, "a suspected replay makes no job");
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (
            counts.receipts,
            counts.redeliveries,
            counts.conflicts,
            counts.suspected_replays
        ),
        (2, 1, 0, 1)
    );
}

pub(crate) async fn a_redelivery_is_the_same_and_other_bytes_conflict(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    assert_eq!(sent.clone().at(10).admit(&store).await, Admitted::Same { delivery: 2 });
    assert_eq!(
        sent.clone().body("{}").at(20).admit(&store).await,
        Admitted::Conflict { delivery: 3 }
    );
    assert_eq!(sent.clone().at(30).admit(&store).await, Admitted::Same { delivery: 4 });

    let trace = trace_one(&store, &sent).await;
    let deliveries: Vec<_> = trace
        .deliveries
        .iter()
        .map(|delivery| (delivery.number, delivery.decision.as_str()))
        .collect();
    assert_eq!(deliveries, [(2, "same"), (3, "conflict"), (4, "same")]);
    assert_eq!(
        trace.receipt.received_at,
        at(0).to_string(),
        "the first delivery's time stays"
    );
    assert_eq!(
        trace.receipt.body_bytes,
        sent.body.len(),
        "the first delivery's body stays"
    );
    assert_eq!(trace.jobs.len(), 1, "a redelivery makes no job");
}

pub(crate) async fn one_event_sent_many_times_at_once_is_new_once(backend: &impl Backend) {
    let store = backend.open();
    let mut waiting = Vec::new();
    for number in 0..60 {
        let body = if number % 3 == 0 { "{\"a\":1}" } else { "{\"a\":2}" };
        let admission = Sent::new("evt_1").body(body).admission(&store);
        let store = store.clone();
        waiting.push(tokio::spawn(async move {
            store.admit(vec![admission]).await.unwrap().remove(0)
        }));
    }
    let mut news = 0;
    let mut deliveries = Vec::new();
    for answer in waiting {
        match answer.await.unwrap() {
            Admitted::New(_) => news += 1,
            Admitted::Same { delivery } | Admitted::Conflict { delivery } | Admitted::SuspectedReplay { delivery } => {
                deliveries.push(delivery)
            }
            Admitted::Replaced { .. } => panic!("nothing was held"),
        }
    }
    deliveries.sort_unstable();
    assert_eq!(news, 1);
    assert_eq!(
        deliveries,
        (2..=60).collect::<Vec<_>>(),
        "each delivery has its own number"
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.receipts, counts.jobs_waiting), (1, 1));
    assert!(
        counts.conflicts == 20 || counts.conflicts == 40,
        "{} conflicts",
        counts.conflicts
    );
}

/// Pieces of work that share a commit are each done behind the others: two never both find that an operation, a key or a lane is free.
pub(crate) async fn what_comes_at_once_sees_what_came_before_it(backend: &impl Backend) {
    const EACH: usize = 4;
    let store = backend.open();
    let mut admitted = Vec::new();
    for number in 0..48 {
        // Some are alone, and some are behind others about the same.
        let sent = Sent::new(&format!("evt_{number}"));
        let sent = if number < 40 {
            sent
        } else {
            sent.of(&format!("r_{}", number % 2))
        };
        let store = store.clone();
        admitted.push(tokio::spawn(async move { sent.admit(&store).await }));
    }
    for admitted in admitted {
        assert_eq!(admitted.await.unwrap(), ACCEPTED);
    }
    let claims = claim(&store, at(0), 100).await;
    assert_eq!(claims.len(), 40 + 2, "of each lane the first");
    let settled: Vec<_> = (0..)
        .zip(claims)
        .map(|(number, claim)| {
            let group = number / EACH;
            let settlement = settlement(&claim)
                .reads(&format!("k{group}"), 0, None)
                .writes(&format!("k{group}"), Some(b"taken"))
                .acts(&format!("op{}", group / 2), 1)
                .to("shop");
            let store = store.clone();
            tokio::spawn(async move { (claim, settle(&store, settlement).await) })
        })
        .collect();
    let (mut recorded, mut done, mut again) = (0, 0, Vec::new());
    for settled in settled {
        match settled.await.unwrap() {
            (_, Settled::Committed { verdicts, .. }) if verdicts == [Verdict::Recorded] => recorded += 1,
            (_, Settled::Committed { verdicts, .. }) if verdicts == [Verdict::AlreadyDone] => done += 1,
            (claim, Settled::StaleState) => again.push(claim),
            (_, other) => panic!("{other:?}"),
        }
    }
    // Of each operation one run records it and writes its key. Who read that key too is stale; who read the other finds the operation done, and
    // writes nothing.
    assert_eq!((recorded, done, again.len()), (6, 5 * EACH, 5 * (EACH - 1) + 1));
    let ended: Vec<_> = again
        .into_iter()
        .map(|claim| {
            let store = store.clone();
            tokio::spawn(async move { settle(&store, settlement(&claim)).await })
        })
        .collect();
    for ended in ended {
        assert!(matches!(ended.await.unwrap(), Settled::Committed { .. }));
    }
    let entries = store
        .claim_outbox(claim_request(at(1_000), 100), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    assert_eq!(entries.len(), 6);
    let marked: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .record_attempt(attempt(&entry, 1_000, EntryEnd::Delivered))
                    .await
                    .unwrap()
            })
        })
        .collect();
    for marked in marked {
        assert_eq!(marked.await.unwrap(), AttemptRecorded::Recorded);
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.receipts, counts.runs, counts.actions), (48, 42, 6));
    assert_eq!(
        claim(&store, at(1_000), 100).await.len(),
        2,
        "the next of the two lanes"
    );
}

pub(crate) async fn the_events_of_one_request_are_admitted_together_in_their_order(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let sent = [
        Sent::new("e2").of("r_1").status("pending"),
        Sent::new("e1"),
        Sent::new("e3").of("r_1").status("completed"),
        Sent::new("e4").of("r_1").status("created"),
        Sent::new("e2").body("{}"),
    ];
    let admissions = sent.iter().map(|sent| sent.admission(&store)).collect();
    assert_eq!(
        store.admit(admissions).await.unwrap(),
        [
            ACCEPTED,
            Admitted::Same { delivery: 2 },
            ACCEPTED,
            superseded("completed"),
            Admitted::Conflict { delivery: 2 },
        ]
    );
    assert_eq!(finish_all(&store, at(0)).await, ["e1", "e2", "e3"]);
    assert_eq!(store.admit(Vec::new()).await.unwrap(), []);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn the_event_comes_back_as_it_was_admitted(backend: &impl Backend) {
    let store = backend.open();
    for sent in [Sent::new("evt_1"), Sent::new("evt_2").of("r_1").status("pending")] {
        let admission = sent.admission(&store);
        assert_eq!(sent.admit(&store).await, ACCEPTED);
        let claim = claim_one(&store, at(0)).await;
        assert_eq!(claim.receipt, admission.receipt);
        assert_eq!(format!("{:?}", claim.event), format!("{:?}", admission.event));
        let trace = trace_one(&store, &sent).await;
        assert_eq!(trace.receipt.proof, proof());
        assert_eq!(trace.receipt.lifecycle_version, sent.status.map(|_| 1));
        assert_eq!(trace.receipt.amount.as_deref(), Some("5.00 USD"));
        assert!(matches!(
            settle(&store, settlement(&claim)).await,
            Settled::Committed { .. }
        ));
    }
}

pub(crate) async fn tenants_and_sources_keep_their_own_event_ids(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("evt_1").admit(&store).await, ACCEPTED);
    assert_eq!(Sent::new("evt_1").tenant("globex").admit(&store).await, ACCEPTED);
    let mut other_source = Sent::new("evt_1");
    other_source.source = "payments";
    assert_eq!(other_source.admit(&store).await, ACCEPTED);
    assert_eq!(trace_text(&store, "evt_1").await.len(), 3);
}

// Lifecycle.

pub(crate) async fn a_late_status_is_superseded(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(
        Sent::new("e1").of("r_1").status("completed").admit(&store).await,
        ACCEPTED
    );
    assert_eq!(
        Sent::new("e2").of("r_1").status("pending").admit(&store).await,
        superseded("completed")
    );
    assert_eq!(
        Sent::new("e3").of("r_2").status("pending").admit(&store).await,
        ACCEPTED,
        "another subject"
    );
    assert_eq!(
        Sent::new("e4")
            .of("r_1")
            .status("pending")
            .tenant("globex")
            .admit(&store)
            .await,
        ACCEPTED,
        "another tenant"
    );
    assert_eq!(
        Sent::new("e5").of("r_1").admit(&store).await,
        ACCEPTED,
        "an event without a lifecycle"
    );
    assert_eq!(
        Sent::new("e6").of("r_1").status("created").admit(&store).await,
        superseded("completed")
    );
    assert_eq!(trace_one(&store, &Sent::new("e2")).await.jobs.len(), 0);
}

pub(crate) async fn a_contradiction_is_held(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(
        Sent::new("e1").of("r_1").status("rolledback").admit(&store).await,
        ACCEPTED
    );
    let expect = "`completed` can neither follow nor precede `rolledback` in the lifecycle `reward-redemption`";
    let sent = Sent::new("e2").of("r_1").status("completed");
    assert_eq!(sent.admit(&store).await, held(expect));
    let trace = trace_one(&store, &sent).await;
    assert_eq!(trace.receipt.disposition, Disposition::Held { reason: expect.into() });
    assert_eq!(trace.jobs.len(), 0);
}

pub(crate) async fn a_status_that_nobody_knows_is_held(backend: &impl Backend) {
    let store = backend.open();
    let mut unmapped = Sent::new("e1").of("r_1").status("EXPLODED");
    unmapped.unmapped = true;
    assert_eq!(
        unmapped.admit(&store).await,
        held("status `EXPLODED` is not mapped into the lifecycle `reward-redemption`")
    );
    let unknown = Sent::new("e2").of("r_1").status("exploded");
    assert_eq!(
        unknown.admit(&store).await,
        held("the lifecycle `reward-redemption` has no status `exploded`")
    );
    let nameless = Sent::new("e3").status("pending");
    assert_eq!(
        nameless.admit(&store).await,
        held("no subject found, but the lifecycle `reward-redemption` needs one")
    );
}

pub(crate) async fn a_status_that_was_not_accepted_moves_nothing(backend: &impl Backend) {
    let store = backend.open();
    let sent = |id: &str, status| Sent::new(id).of("r_1").status(status);
    assert_eq!(sent("e1", "pending").admit(&store).await, ACCEPTED);
    assert_eq!(sent("e2", "created").admit(&store).await, superseded("pending"));
    // Were the subject at `created` now, this one would still be accepted; were it at `exploded`, it would be held.
    assert!(matches!(
        sent("e3", "exploded").admit(&store).await,
        Admitted::New(Disposition::Held { .. })
    ));
    assert_eq!(sent("e4", "created").admit(&store).await, superseded("pending"));
    assert_eq!(sent("e5", "completed").admit(&store).await, ACCEPTED);
    assert_eq!(
        sent("e1", "pending").admit(&store).await,
        Admitted::Same { delivery: 2 }
    );
    assert_eq!(sent("e6", "pending").admit(&store).await, superseded("completed"));
}

// Review.

fn unmapped(id: &str, subject: &str) -> Sent {
    Sent::new(id).of(subject).unmapped()
}

async fn admit_held(store: &impl Store, sent: &Sent) {
    let admitted = sent.admit(store).await;
    assert!(
        matches!(admitted, Admitted::New(Disposition::Held { .. })),
        "{admitted:?}"
    );
}

fn held_filter() -> SetAsideFilter {
    SetAsideFilter {
        rows_max: 100,
        ..SetAsideFilter::default()
    }
}

async fn held_ids(store: &impl Store, filter: SetAsideFilter) -> Vec<String> {
    let held = store.set_aside(filter).await.unwrap();
    held.into_iter().map(|held| held.event_id).collect()
}

pub(crate) async fn held_receipts_are_listed_and_filtered(backend: &impl Backend) {
    let store = backend.open();
    admit_held(&store, &unmapped("e1", "r_1")).await;
    assert_eq!(
        Sent::new("e2").of("r_2").status("pending").admit(&store).await,
        ACCEPTED
    );
    admit_held(&store, &unmapped("e3", "r_3").tenant("globex").at(1000)).await;
    admit_held(&store, &Sent::new("e4").of("r_4").status("exploded").at(2000)).await;

    let held = store.set_aside(held_filter()).await.unwrap();
    let ids: Vec<_> = held.iter().map(|held| held.event_id.as_str()).collect();
    assert_eq!(ids, ["e4", "e3", "e1"], "newest first, and only what is held");
    assert_eq!(held[2].receipt, unmapped("e1", "r_1").receipt(&store));
    assert_eq!(
        (held[2].status.as_deref(), held[2].family.as_deref(), &held[2].review),
        (Some("EXPLODED"), Some("reward-redemption"), &None)
    );
    assert_eq!(
        held[2].reason,
        "status `EXPLODED` is not mapped into the lifecycle `reward-redemption`"
    );
    let with = |change: fn(&mut SetAsideFilter)| {
        let mut filter = held_filter();
        change(&mut filter);
        filter
    };
    for (filter, expect) in [
        (with(|filter| filter.tenant = Some(name("globex"))), vec!["e3"]),
        (with(|filter| filter.source = Some(name("nowhere"))), vec![]),
        (with(|filter| filter.since = Some(at(1000))), vec!["e4", "e3"]),
        (with(|filter| filter.reason = Some("has no status".into())), vec!["e4"]),
        (with(|filter| filter.rows_max = 2), vec!["e4", "e3"]),
    ] {
        assert_eq!(held_ids(&store, filter.clone()).await, expect, "{filter:?}");
    }

    let answer = store
        .review(dismiss(&store, &unmapped("e1", "r_1"), 9000))
        .await
        .unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    assert_eq!(held_ids(&store, held_filter()).await, ["e4", "e3"]);
    let all = store
        .set_aside(with(|filter| filter.with_reviewed = true))
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
    let review = all[2].review.as_ref().unwrap();
    assert_eq!((review.actor.as_str(), &review.reviewed), ("ann", &Reviewed::Dismissed));
}

async fn counted(store: &impl Store) -> Vec<(SetAsideKind, String, u64, UnixMillis)> {
    let counts = store.set_aside_counts(None).await.unwrap();
    counts
        .into_iter()
        .map(|count| {
            let place = match (&count.source, &count.route) {
                (Some(source), None) => format!("{}/{source}", count.tenant),
                (None, Some(route)) => format!("{}:{route}", count.tenant),
                other => panic!("{other:?}"),
            };
            (count.kind, place, count.count, count.oldest_at)
        })
        .collect()
}

/// One receipt may come again any number of times, and its id with any number of other bodies.
pub(crate) async fn redeliveries_are_counted_and_kept_one_by_one_up_to_a_bound(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    for number in 2..=100 {
        let again = sent.clone().at(i64::from(number));
        assert_eq!(again.admit(&store).await, Admitted::Same { delivery: number });
    }
    let trace = trace_one(&store, &sent).await;
    assert_eq!(trace.deliveries.len(), limits::REDELIVERIES_KEPT_MAX as usize);
    assert_eq!(trace.deliveries[0].received_at, at(2).to_string(), "the first ones");
    assert_eq!(
        trace.redelivered,
        Some(Redelivered {
            same: 99,
            conflicts: 0,
            suspected_replays: 0,
            last_at: at(100).to_string()
        })
    );
    assert_eq!(store.counts().await.unwrap().redeliveries, 99);
    // One that is full keeps no other from being kept.
    let other = Sent::new("evt_2");
    assert_eq!(other.admit(&store).await, ACCEPTED);
    assert_eq!(other.admit(&store).await, Admitted::Same { delivery: 2 });
    assert_eq!(trace_one(&store, &other).await.deliveries.len(), 1);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn other_bytes_are_kept_once_each_and_up_to_a_bound(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    let big = "x".repeat(limits::CONFLICT_BYTES_KEPT_MAX as usize + 1);
    let first = sent.clone().body(&big);
    for delivery in 2..=4 {
        let again = first.clone().at(i64::from(delivery));
        assert_eq!(again.admit(&store).await, Admitted::Conflict { delivery });
    }
    let trace = trace_one(&store, &sent).await;
    assert_eq!(
        trace.deliveries.len(),
        1,
        "the same bytes are kept once, the first whatever their size"
    );
    let kept = &trace.deliveries[0];
    assert_eq!(
        (kept.number, kept.times, kept.decision.as_str(), &kept.last_at),
        (2, 3, "conflict", &Some(at(4).to_string()))
    );
    assert_eq!(
        sent.clone().body("small").at(5).admit(&store).await,
        Admitted::Conflict { delivery: 5 }
    );
    assert_eq!(
        trace_one(&store, &sent).await.deliveries.len(),
        1,
        "there is no room for more bytes"
    );

    let many = Sent::new("evt_2");
    assert_eq!(many.admit(&store).await, ACCEPTED);
    for number in 0..40 {
        let other = many.clone().body(&format!("body {number}")).at(10);
        assert!(matches!(other.admit(&store).await, Admitted::Conflict { .. }));
    }
    // Those with its own bytes are kept beside them.
    assert_eq!(many.clone().at(11).admit(&store).await, Admitted::Same { delivery: 42 });
    let trace = trace_one(&store, &many).await;
    assert_eq!(trace.deliveries.len(), limits::CONFLICTS_KEPT_MAX as usize + 1);
    let again = trace.redelivered.unwrap();
    assert_eq!((again.same, again.conflicts), (1, 40));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.conflicts, counts.redeliveries), (44, 1));
    assert_eq!(counts.conflicts_open, 1 + u64::from(limits::CONFLICTS_KEPT_MAX));
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

/// The conflicts that wait for somebody.
async fn conflicts(store: &impl Store) -> Vec<SetAside> {
    let filter = SetAsideFilter {
        kind: Some(SetAsideKind::Conflict),
        ..held_filter()
    };
    store.set_aside(filter).await.unwrap()
}

/// Hosts share the clock by which work is due; when an event was received, each says by its own.
pub(crate) async fn r3_a_job_is_due_when_its_admission_says_whatever_the_time_of_receipt(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1");
    let hour_ahead = Admission {
        due_at: at(1000),
        ..sent.at(3_600_000).admission(&store)
    };
    assert_eq!(store.admit(vec![hour_ahead]).await.unwrap(), [ACCEPTED]);
    assert!(claim(&store, at(999), 10).await.is_empty());
    let claimed = claim_one(&store, at(1000)).await;
    assert_eq!(claimed.event.received_at, at(3_600_000));
}

/// What a host makes of a conflicting delivery: an event of its own, routed as `sent` is.
async fn on_its_own(store: &impl Store, sent: &Sent, delivery: DeliveryId) -> Box<Admission> {
    let kept = store.kept_delivery(delivery).await.unwrap();
    assert_eq!(kept.receipt, sent.receipt(store));
    let admission = Admission {
        event: Arc::new(kept.event),
        proof: kept.proof,
        ..sent.admission(store)
    };
    assert_eq!(
        body_commitment(store.receipt_key(), &admission.event.tenant, &admission.event.payload),
        admission.body_commitment,
        "with its body"
    );
    Box::new(admission.on_its_own(store.receipt_key()))
}

pub(crate) async fn a_conflict_is_listed_and_becomes_an_event_of_its_own(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1").of("r_1").status("pending");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    let other = sent.clone().status("completed").body("another fact").at(10);
    assert_eq!(other.admit(&store).await, Admitted::Conflict { delivery: 2 });
    let listed = conflicts(&store).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].receipt, listed[0].status.as_deref(), &listed[0].since),
        (sent.receipt(&store), Some("completed"), &at(10).to_string()),
        "as it was read when it came"
    );
    let place = || "acme/rewards".to_owned();
    assert_eq!(counted(&store).await, [(SetAsideKind::Conflict, place(), 1, at(10))]);
    assert_eq!(finish_all(&store, at(20)).await, ["evt_1"]);

    let delivery: DeliveryId = listed[0].id.parse().unwrap();
    let own = on_its_own(&store, &other, delivery).await;
    let own_receipt = own.receipt;
    assert_ne!(own_receipt, sent.receipt(&store));
    let request = decision(Target::Delivery(delivery), ReviewDecision::Admit(own), 30);
    let before = store.counts().await.unwrap();
    let dry = ReviewRequest {
        dry_run: true,
        ..request.clone()
    };
    let expect = |dry_run| ReviewReport {
        dry_run,
        receipt: sent.receipt(&store),
        reviewed: Reviewed::Admitted {
            own_receipt,
            disposition: Disposition::Accepted,
        },
        routes: vec![name("cashback")],
        destinations: Vec::new(),
    };
    assert_eq!(store.review(dry).await.unwrap(), ReviewAnswer::Reviewed(expect(true)));
    assert_eq!(store.counts().await.unwrap(), before);
    assert_eq!(
        store.review(request.clone()).await.unwrap(),
        ReviewAnswer::Reviewed(expect(false))
    );
    assert!(matches!(
        store.review(request).await.unwrap(),
        ReviewAnswer::AlreadyReviewed(view) if view.actor == "ann"
    ));
    assert_eq!(conflicts(&store).await.len(), 0);
    assert_eq!(counted(&store).await, []);
    let claim = claim_one(&store, at(40)).await;
    assert_eq!(claim.receipt, own_receipt);
    assert_eq!(&claim.event.payload[..], b"another fact");
    assert_eq!(claim.event.reading.status(), Some(&name("completed")));
    let late = Sent::new("evt_2").of("r_1").status("pending").at(50);
    assert_eq!(
        late.admit(&store).await,
        superseded("completed"),
        "the subject has moved"
    );
    // History on both.
    let first = trace_one(&store, &sent).await;
    assert_eq!(first.history[0].what, "reviewed");
    assert!(
        first.history[0].detail.contains(&own_receipt.to_string()),
        "{:?}",
        first.history
    );
    let own = trace(&store, TraceBy::Receipt(own_receipt)).await.remove(0);
    assert_eq!(own.history[0].what, "admitted");
    assert_eq!(own.receipt.disposition, Disposition::Accepted);
    // The same bytes under the old id are no new event.
    assert_eq!(
        other.clone().at(60).admit(&store).await,
        Admitted::Conflict { delivery: 3 }
    );
    assert_eq!(conflicts(&store).await.len(), 0);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_conflict_that_was_decided_stays_so_when_it_comes_again(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    assert_eq!(sent.admit(&store).await, Admitted::Same { delivery: 2 });
    let other = sent.clone().body("other").at(10);
    assert_eq!(other.admit(&store).await, Admitted::Conflict { delivery: 3 });
    let trace = trace_one(&store, &sent).await;
    let same = Target::Delivery(trace.deliveries[0].id);
    let answer = store.review(decision(same, ReviewDecision::Dismiss, 20)).await.unwrap();
    assert_eq!(
        answer,
        ReviewAnswer::NotHeld,
        "a redelivery of the same bytes is nothing to decide"
    );
    let conflict = Target::Delivery(trace.deliveries[1].id);
    let answer = store
        .review(decision(conflict, ReviewDecision::Dismiss, 20))
        .await
        .unwrap();
    assert!(
        matches!(&answer, ReviewAnswer::Reviewed(report) if report.reviewed == Reviewed::Dismissed),
        "{answer:?}"
    );
    assert_eq!(
        other.clone().at(30).admit(&store).await,
        Admitted::Conflict { delivery: 4 }
    );
    assert_eq!(conflicts(&store).await.len(), 0);
    let trace = trace_one(&store, &sent).await;
    let review = trace.deliveries[1].review.as_ref().unwrap();
    assert_eq!((review.actor.as_str(), &review.reviewed), ("ann", &Reviewed::Dismissed));
    let all = SetAsideFilter {
        kind: Some(SetAsideKind::Conflict),
        with_reviewed: true,
        ..held_filter()
    };
    assert_eq!(store.set_aside(all).await.unwrap().len(), 1);
    let nobody = Target::Delivery(DeliveryId(99));
    assert!(matches!(
        store.review(decision(nobody, ReviewDecision::Dismiss, 20)).await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn suspected_replays_are_kept_once_each_listed_and_decided_like_conflicts(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1").message("m1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    // Under one other id twice, and under a second one; each time with the receipt's own body.
    let replay = |id: &str, ms| Sent::new(id).message("m1").body(&sent.body).at(ms);
    assert_eq!(
        replay("evt_2", 10).admit(&store).await,
        Admitted::SuspectedReplay { delivery: 2 }
    );
    assert_eq!(
        replay("evt_2", 20).admit(&store).await,
        Admitted::SuspectedReplay { delivery: 3 }
    );
    assert_eq!(
        replay("evt_3", 30).admit(&store).await,
        Admitted::SuspectedReplay { delivery: 4 }
    );
    let listed = store.set_aside(held_filter()).await.unwrap();
    let said: Vec<_> = listed.iter().map(|item| (item.kind, item.event_id.as_str())).collect();
    let kind = SetAsideKind::SuspectedReplay;
    assert_eq!(said, [(kind, "evt_3"), (kind, "evt_2")]);
    assert_eq!(counted(&store).await, [(kind, "acme/rewards".to_owned(), 2, at(10))]);
    let trace = trace_one(&store, &sent).await;
    let again = trace.redelivered.unwrap();
    assert_eq!((again.suspected_replays, trace.deliveries[0].times), (3, 2));
    assert_eq!(finish_all(&store, at(40)).await, ["evt_1"]);

    let delivery: DeliveryId = listed[0].id.parse().unwrap();
    let own = on_its_own(&store, &replay("evt_3", 30), delivery).await;
    let own_receipt = own.receipt;
    let request = decision(Target::Delivery(delivery), ReviewDecision::Admit(own), 50);
    let answer = store.review(request).await.unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    let claim = claim_one(&store, at(60)).await;
    assert_eq!(
        (claim.receipt, &claim.event.payload[..]),
        (own_receipt, sent.body.as_bytes())
    );
    let other = Target::Delivery(listed[1].id.parse().unwrap());
    let answer = store
        .review(decision(other, ReviewDecision::Dismiss, 70))
        .await
        .unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    assert_eq!(counted(&store).await, []);
    // Any number of ids can be made up for one captured request.
    for number in 0..40 {
        let made_up = replay(&format!("made_up_{number}"), 80).admit(&store).await;
        assert!(matches!(made_up, Admitted::SuspectedReplay { .. }), "{made_up:?}");
    }
    let trace = trace_one(&store, &sent).await;
    assert_eq!(trace.deliveries.len(), limits::CONFLICTS_KEPT_MAX as usize);
    assert_eq!(store.counts().await.unwrap().suspected_replays, 43);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn suspected_replays_wait_for_nobody_where_the_source_says_so(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("evt_1").message("m1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    let replay = |id: &str, on_replay, ms| {
        let mut sent = Sent::new(id).message("m1").body(&sent.body).at(ms);
        sent.on_replay = on_replay;
        sent
    };
    for (delivery, ms) in [(2, 10), (3, 20)] {
        let again = replay("evt_2", OnReplay::Answer, ms).admit(&store).await;
        assert_eq!(again, Admitted::SuspectedReplay { delivery });
    }
    // Kept, counted and seen, and open to nobody.
    assert!(store.set_aside(held_filter()).await.unwrap().is_empty());
    assert_eq!(counted(&store).await, []);
    assert_eq!(store.counts().await.unwrap().suspected_replays, 2);
    assert_eq!(store.counts().await.unwrap().conflicts_open, 0);
    let trace = trace_one(&store, &sent).await;
    assert_eq!((trace.deliveries.len(), trace.deliveries[0].times), (1, 2));
    let all = SetAsideFilter {
        with_reviewed: true,
        ..held_filter()
    };
    let listed = store.set_aside(all).await.unwrap();
    assert_eq!(listed.len(), 1);
    // What is held beside it waits.
    let _ = replay("evt_3", OnReplay::Hold, 30).admit(&store).await;
    assert_eq!(
        counted(&store).await,
        [(SetAsideKind::SuspectedReplay, "acme/rewards".to_owned(), 1, at(30))]
    );
    assert_eq!(finish_all(&store, at(40)).await, ["evt_1"]);

    // A person can give it effect all the same, once.
    let delivery: DeliveryId = listed[0].id.parse().unwrap();
    let own = on_its_own(&store, &replay("evt_2", OnReplay::Answer, 10), delivery).await;
    let request = || decision(Target::Delivery(delivery), ReviewDecision::Admit(own.clone()), 50);
    let answer = store.review(request()).await.unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    assert_eq!(finish_all(&store, at(60)).await.len(), 1);
    let answer = store.review(request()).await.unwrap();
    assert!(matches!(answer, ReviewAnswer::AlreadyReviewed(_)), "{answer:?}");
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_held_receipt_is_replaced_by_another_form_of_it(backend: &impl Backend) {
    let store = backend.open();
    let held = unmapped("evt_1", "r_1");
    admit_held(&store, &held).await;
    admit_held(&store, &unmapped("evt_2", "r_2")).await;
    let usable = Sent::new("evt_1")
        .of("r_1")
        .status("completed")
        .body("the newer form")
        .at(10);
    assert_eq!(usable.admit(&store).await, Admitted::Conflict { delivery: 2 });
    let delivery: DeliveryId = conflicts(&store).await[0].id.parse().unwrap();
    let own = on_its_own(&store, &usable, delivery).await;
    let own_receipt = own.receipt;
    let replace = |receipt: ReceiptId| {
        let with = ReviewDecision::ReplaceWith {
            delivery,
            admission: own.clone(),
        };
        decision(Target::Receipt(receipt), with, 20)
    };
    let of_another = store.review(replace(unmapped("evt_2", "r_2").receipt(&store))).await;
    assert_eq!(of_another.unwrap(), ReviewAnswer::NotItsDelivery);
    let answer = store.review(replace(held.receipt(&store))).await.unwrap();
    let ReviewAnswer::Reviewed(report) = answer else {
        panic!("{answer:?}")
    };
    let replaced = Reviewed::Replaced {
        delivery,
        own_receipt,
        disposition: Disposition::Accepted,
    };
    assert_eq!(report.reviewed, replaced);
    assert_eq!(conflicts(&store).await.len(), 0, "the delivery is answered with it");
    assert_eq!(held_ids(&store, held_filter()).await, ["evt_2"]);
    let claim = claim_one(&store, at(30)).await;
    assert_eq!(
        (claim.receipt, &claim.event.payload[..]),
        (own_receipt, &b"the newer form"[..])
    );
    let trace = trace_one(&store, &held).await;
    assert_eq!(trace.review.unwrap().reviewed, replaced);
    assert_eq!(trace.jobs.len(), 0);
    assert!(matches!(
        store.review(dismiss(&store, &held, 40)).await.unwrap(),
        ReviewAnswer::AlreadyReviewed(_)
    ));
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn another_form_replaces_what_is_held_by_itself_where_the_source_says_so(backend: &impl Backend) {
    let store = backend.open();
    let held = unmapped("evt_1", "r_1").replacing();
    admit_held(&store, &held).await;
    let still_unmapped = held.clone().body("another form, no better").at(5);
    assert_eq!(still_unmapped.admit(&store).await, Admitted::Conflict { delivery: 2 });
    let usable = Sent::new("evt_1")
        .of("r_1")
        .status("completed")
        .body("the newer form")
        .at(10)
        .replacing();
    let admitted = usable.admit(&store).await;
    let Admitted::Replaced { own, disposition } = &admitted else {
        panic!("{admitted:?}")
    };
    assert_eq!(*disposition, Disposition::Accepted);
    let claim = claim_one(&store, at(30)).await;
    assert_eq!(
        (claim.receipt, &claim.event.payload[..]),
        (*own, &b"the newer form"[..])
    );
    let trace = trace_one(&store, &held).await;
    assert!(matches!(trace.review.unwrap().reviewed, Reviewed::Replaced { own_receipt, .. } if own_receipt == *own));
    assert_eq!(store.counts().await.unwrap().held, 0);
    // Once.
    assert_eq!(
        usable.clone().at(40).admit(&store).await,
        Admitted::Conflict { delivery: 4 }
    );
    let third = usable.clone().body("a third form").at(50);
    assert_eq!(third.admit(&store).await, Admitted::Conflict { delivery: 5 });
    // And never what was accepted.
    let accepted = Sent::new("evt_2").of("r_2").status("pending").replacing();
    assert_eq!(accepted.admit(&store).await, ACCEPTED);
    let other = accepted.clone().status("completed").body("other").at(60);
    assert_eq!(other.admit(&store).await, Admitted::Conflict { delivery: 2 });
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

/// Jobs whose plugin holds them, by event and route.
async fn hold_jobs(store: &impl Store, events: &[&Sent], ms: i64) {
    for sent in events {
        assert_eq!(sent.admit(store).await, ACCEPTED);
    }
    for claim in claim(store, at(ms), 100).await {
        let mut settlement = settlement(&claim).end(JobEnd::Held {
            reason: "config: unknown key rate_bsp".into(),
        });
        settlement.run.started_at = at(ms);
        assert!(matches!(settle(store, settlement).await, Settled::Committed { .. }));
    }
}

pub(crate) async fn held_jobs_are_listed_counted_dismissed_and_run_again(backend: &impl Backend) {
    let store = backend.open();
    let (first, second) = (Sent::new("e1"), Sent::new("e2").routes(&["cashback", "points"]));
    hold_jobs(&store, &[&first], 100).await;
    hold_jobs(&store, &[&second], 200).await;
    let held = store.set_aside(held_filter()).await.unwrap();
    let listed: Vec<_> = held
        .iter()
        .map(|held| (held.event_id.as_str(), held.route.as_ref().unwrap().as_str(), held.kind))
        .collect();
    let kind = SetAsideKind::HeldJob;
    assert_eq!(
        listed,
        [
            ("e2", "points", kind),
            ("e2", "cashback", kind),
            ("e1", "cashback", kind)
        ]
    );
    assert_eq!(held[2].reason, "config: unknown key rate_bsp");
    let seconds = |from: &str| UnixMillis::from_rfc3339(from).unwrap().since(at(0));
    assert!((100..110).contains(&seconds(&held[2].since)), "{}", held[2].since);
    let counts = counted(&store).await;
    let tally: Vec<_> = counts
        .iter()
        .map(|(kind, place, count, _)| (*kind, place.as_str(), *count))
        .collect();
    assert_eq!(tally, [(kind, "acme:cashback", 2), (kind, "acme:points", 1)]);
    assert_eq!(store.counts().await.unwrap().held_jobs, 3);
    for (filter, count) in [
        (
            SetAsideFilter {
                route: Some(name("points")),
                ..held_filter()
            },
            1,
        ),
        (
            SetAsideFilter {
                tenant: Some(name("globex")),
                ..held_filter()
            },
            0,
        ),
        (
            SetAsideFilter {
                since: Some(at(150)),
                ..held_filter()
            },
            2,
        ),
        (
            SetAsideFilter {
                reason: Some("rate_bsp".into()),
                ..held_filter()
            },
            3,
        ),
        (
            SetAsideFilter {
                reason: Some("other".into()),
                ..held_filter()
            },
            0,
        ),
    ] {
        assert_eq!(
            store.set_aside(filter.clone()).await.unwrap().len(),
            count,
            "{filter:?}"
        );
    }

    let job = |at: usize| -> JobId { held[at].id.parse().unwrap() };
    let dismissed = decision(Target::Job(job(0)), ReviewDecision::Dismiss, 300);
    let dry = ReviewRequest {
        dry_run: true,
        ..dismissed.clone()
    };
    assert!(matches!(store.review(dry).await.unwrap(), ReviewAnswer::Reviewed(_)));
    assert_eq!(store.counts().await.unwrap().held_jobs, 3);
    let answer = store.review(dismissed.clone()).await.unwrap();
    assert!(
        matches!(&answer, ReviewAnswer::Reviewed(report) if report.reviewed == Reviewed::Dismissed),
        "{answer:?}"
    );
    assert!(matches!(
        store.review(dismissed).await.unwrap(),
        ReviewAnswer::AlreadyReviewed(_)
    ));
    let again = decision(Target::Job(job(2)), ReviewDecision::Run, 310);
    let answer = store.review(again.clone()).await.unwrap();
    assert!(
        matches!(&answer, ReviewAnswer::Reviewed(report) if report.reviewed == Reviewed::RunAgain),
        "{answer:?}"
    );
    assert_eq!(
        store.review(again).await.unwrap(),
        ReviewAnswer::NotHeld,
        "it waits for its turn"
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_jobs, counts.jobs_waiting, counts.jobs_done), (1, 1, 0));
    assert_eq!(finish_all(&store, at(320)).await, ["e1"]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_jobs, counts.jobs_waiting, counts.jobs_done), (1, 0, 1));
    let trace = trace_one(&store, &second).await;
    assert_eq!(trace.jobs[1].state, "dismissed");
    assert!(
        trace.history[0].detail.contains("dismissed by ann: looked at"),
        "{:?}",
        trace.history
    );
    let all = SetAsideFilter {
        with_reviewed: true,
        ..held_filter()
    };
    let all = store.set_aside(all).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].review.as_ref().unwrap().reviewed, Reviewed::Dismissed);
}

pub(crate) async fn held_jobs_are_replayed_by_filter(backend: &impl Backend) {
    let store = backend.open();
    let events = [Sent::new("e1"), Sent::new("e2").tenant("globex"), Sent::new("e3")];
    hold_jobs(&store, &events.each_ref(), 100).await;
    let of_acme = SetAsideFilter {
        tenant: Some(name("acme")),
        ..held_filter()
    };
    let request = |dry_run| replay(ReplayWhat::HeldJobs(of_acme.clone()), dry_run, 200);
    let ids = |report: &ReplayReport| -> Vec<String> {
        report
            .replayed
            .iter()
            .map(|replayed| replayed.event_id.clone())
            .collect()
    };
    let dry = store.replay(request(true)).await.unwrap();
    assert_eq!(
        (dry.dry_run, ids(&dry)),
        (true, vec!["e1".to_owned(), "e3".to_owned()]),
        "oldest first"
    );
    assert_eq!(store.counts().await.unwrap().held_jobs, 3);
    let report = store.replay(request(false)).await.unwrap();
    assert_eq!(ids(&report), ["e1", "e3"]);
    assert_eq!(finish_all(&store, at(300)).await, ["e1", "e3"]);
    assert_eq!(store.replay(request(false)).await.unwrap().replayed.len(), 0);
    assert_eq!(store.counts().await.unwrap().held_jobs, 1);
}

pub(crate) async fn what_no_route_took_is_listed_and_routed_once(backend: &impl Backend) {
    let store = backend.open();
    let early = Sent::new("e1").of("r_1").routes(&[]).at(5);
    let routed = Sent::new("e2").of("r_1").at(6);
    let other = Sent::new("e3").tenant("globex").routes(&[]).at(7);
    for sent in [&early, &routed, &other] {
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    assert_eq!(
        held_ids(&store, held_filter()).await,
        [] as [&str; 0],
        "nobody is asked"
    );
    let unrouted = || SetAsideFilter {
        kind: Some(SetAsideKind::NoRoute),
        ..held_filter()
    };
    assert_eq!(held_ids(&store, unrouted()).await, ["e3", "e1"]);
    let (acme, globex) = ("acme/rewards".to_owned(), "globex/rewards".to_owned());
    let kind = SetAsideKind::NoRoute;
    assert_eq!(
        counted(&store).await,
        [(kind, acme, 1, at(5)), (kind, globex.clone(), 1, at(7))]
    );
    let filter = RoutableFilter {
        tenant: Some(name("acme")),
        without_jobs: true,
        rows_max: 10,
        ..RoutableFilter::default()
    };
    let found = store.routable(filter.clone()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].receipt, found[0].routes.len()), (early.receipt(&store), 0));
    let all = RoutableFilter {
        without_jobs: false,
        ..filter.clone()
    };
    let found = store.routable(all).await.unwrap();
    assert_eq!(found.len(), 2, "the oldest first");
    assert_eq!(found[1].routes, [name("cashback")]);

    let jobs = |sent: &Sent| {
        (
            sent.receipt(&store),
            on_time(sent.clone().routes(&["cashback"]).admission(&store).jobs),
        )
    };
    let request = |dry_run| replay(ReplayWhat::Routed(vec![jobs(&early), jobs(&routed)]), dry_run, 100);
    let dry = store.replay(request(true)).await.unwrap();
    assert_eq!(dry.replayed.len(), 1, "only the job that is new");
    assert!(
        matches!(&dry.replayed[0].work, ReplayedWork::NewJob { route } if route.as_str() == "cashback"),
        "{dry:?}"
    );
    assert_eq!(held_ids(&store, unrouted()).await, ["e3", "e1"]);
    assert_eq!(store.replay(request(false)).await.unwrap().replayed.len(), 1);
    assert_eq!(
        store.replay(request(false)).await.unwrap().replayed.len(),
        0,
        "a receipt has one job per route"
    );
    assert_eq!(held_ids(&store, unrouted()).await, ["e3"]);
    assert_eq!(counted(&store).await, [(kind, globex, 1, at(7))]);
    assert_eq!(store.routable(filter).await.unwrap().len(), 0);
    // Behind what waits in its lane.
    assert_eq!(finish_all(&store, at(200)).await, ["e2", "e1"]);
    let trace = trace_one(&store, &early).await;
    assert_eq!((trace.jobs.len(), trace.history[0].what.as_str()), (1, "routed"));

    // A receipt that is replayed gets the jobs that it lacks, too.
    let (receipt, jobs) = (
        other.receipt(&store),
        other.clone().routes(&["points"]).admission(&store).jobs,
    );
    let jobs = on_time(jobs);
    let whole = ReplayWhat::Receipt { receipt, jobs };
    assert_eq!(store.replay(replay(whole, false, 300)).await.unwrap().replayed.len(), 1);
    assert_eq!(counted(&store).await, []);

    // What a review accepts and no route takes is listed as well; what is held has no jobs before.
    let held = unmapped("e4", "r_4").routes(&[]).at(400);
    admit_held(&store, &held).await;
    let routed = || {
        let jobs = held.clone().routes(&["cashback"]).admission(&store).jobs;
        replay(
            ReplayWhat::Routed(vec![(held.receipt(&store), on_time(jobs))]),
            false,
            500,
        )
    };
    assert_eq!(store.replay(routed()).await.unwrap().replayed.len(), 0);
    assert!(matches!(
        store.review(map(&store, &held, "completed", 450)).await.unwrap(),
        ReviewAnswer::Reviewed(_)
    ));
    assert_eq!(held_ids(&store, unrouted()).await, ["e4"]);
    assert_eq!(store.replay(routed()).await.unwrap().replayed.len(), 1);
    assert_eq!(held_ids(&store, unrouted()).await, [] as [&str; 0]);
    let claims = claim(&store, at(600), 10).await;
    let of_held = claims.iter().find(|claim| claim.event.id.as_str() == "e4").unwrap();
    assert_eq!(
        of_held.event.reading.status(),
        Some(&name("completed")),
        "as it was reviewed"
    );
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn what_was_superseded_is_routed_when_somebody_says_so(backend: &impl Backend) {
    let store = backend.open();
    let later = Sent::new("e1").of("r_1").status("completed");
    let late = Sent::new("e2").of("r_1").status("pending").at(5);
    assert_eq!(later.admit(&store).await, ACCEPTED);
    assert_eq!(late.admit(&store).await, superseded("completed"));
    let kind = SetAsideKind::Superseded;
    let filter = SetAsideFilter {
        kind: Some(kind),
        ..held_filter()
    };
    let listed = store.set_aside(filter).await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].reason.as_str()),
        (1, "the subject was already completed")
    );
    assert_eq!(counted(&store).await, [(kind, "acme/rewards".to_owned(), 1, at(5))]);
    let filter = |standing, status: &str| RoutableFilter {
        standing,
        status: Some(name(status)),
        rows_max: 10,
        ..RoutableFilter::default()
    };
    for (standing, status, count) in [
        (RoutableStanding::Accepted, "pending", 0),
        (RoutableStanding::Superseded, "completed", 0),
        (RoutableStanding::Superseded, "pending", 1),
        (RoutableStanding::Accepted, "completed", 1),
    ] {
        assert_eq!(
            store.routable(filter(standing, status)).await.unwrap().len(),
            count,
            "{standing:?} {status}"
        );
    }
    let jobs = late.admission(&store).jobs;
    let routed = ReplayWhat::Routed(vec![(late.receipt(&store), on_time(jobs))]);
    assert_eq!(store.replay(replay(routed, false, 10)).await.unwrap().replayed.len(), 1);
    assert_eq!(finish_all(&store, at(20)).await, ["e1", "e2"]);
    let again = Sent::new("e3").of("r_1").status("pending").at(30);
    assert_eq!(
        again.admit(&store).await,
        superseded("completed"),
        "its subject stays where it is"
    );
}

pub(crate) async fn late_is_not_never_jobs_of_late_events_run_or_wait_for_a_person(backend: &impl Backend) {
    let store = backend.open();
    let later = Sent::new("e1").of("r_1").status("completed");
    assert_eq!(later.admit(&store).await, ACCEPTED);
    let late = Sent::new("e2")
        .of("r_1")
        .status("pending")
        .routes(&["a", "b", "c", "d"])
        .at(5);
    let mut admission = late.admission(&store);
    for (job, says) in admission
        .jobs
        .iter_mut()
        .zip([Late::AsDeclared, Late::Run, Late::Skip, Late::Hold])
    {
        job.late = says;
    }
    assert_eq!(store.admit(vec![admission]).await.unwrap(), [superseded("completed")]);
    let trace = trace_one(&store, &late).await;
    let jobs: Vec<_> = trace
        .jobs
        .iter()
        .map(|job| format!("{} {}", job.route, job.state))
        .collect();
    assert_eq!(jobs, ["b ready", "d held"]);
    let place = || "acme:d".to_owned();
    assert_eq!(counted(&store).await, [(SetAsideKind::HeldJob, place(), 1, at(5))]);
    let superseded_only = SetAsideFilter {
        kind: Some(SetAsideKind::Superseded),
        ..held_filter()
    };
    assert_eq!(
        store.set_aside(superseded_only).await.unwrap().len(),
        0,
        "a route ran it although it came late"
    );
    // Its subject stays where it is, and what is held runs when somebody says so.
    assert_eq!(finish_all(&store, at(20)).await, ["e1", "e2"]);
    let held = trace.jobs[1].id;
    let request = ReviewRequest {
        target: Target::Job(held),
        decision: ReviewDecision::Run,
        actor: "ann".to_owned(),
        why: None,
        now: at(30),
        dry_run: false,
    };
    assert!(matches!(
        store.review(request).await.unwrap(),
        ReviewAnswer::Reviewed(_)
    ));
    assert_eq!(finish_all(&store, at(40)).await, ["e2"]);
    let again = Sent::new("e3").of("r_1").status("created").at(50);
    assert_eq!(again.admit(&store).await, superseded("completed"));

    // What was held and is mapped to a status that comes late is judged alike.
    let unmapped = unmapped("e4", "r_1").at(60);
    admit_held(&store, &unmapped).await;
    let mut request = map(&store, &unmapped, "pending", 70);
    if let ReviewDecision::Map { jobs, .. } = &mut request.decision {
        jobs[0].late = Late::Run;
    }
    let ReviewAnswer::Reviewed(report) = store.review(request).await.unwrap() else {
        panic!("it is refused")
    };
    assert!(matches!(report.reviewed, Reviewed::Superseded { .. }));
    assert_eq!(report.routes.len(), 1);
    let claims = claim(&store, at(80), 10).await;
    assert_eq!(
        claims[0].event.reading.status(),
        Some(&name("pending")),
        "as it was reviewed"
    );
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_source_moves_no_subject_of_another_unless_they_share_it_and_a_person_sets_it_right(
    backend: &impl Backend,
) {
    let store = backend.open();
    let sent = |id: &str, source, subject: &str, status| Sent::new(id).source(source).of(subject).status(status);
    assert_eq!(sent("e1", "partner", "r_1", "rolledback").admit(&store).await, ACCEPTED);
    assert_eq!(sent("e2", "shop", "r_1", "pending").admit(&store).await, ACCEPTED);
    assert_eq!(sent("e3", "shop", "r_1", "completed").admit(&store).await, ACCEPTED);
    let lanes: std::collections::BTreeSet<i64> = ["partner", "shop"]
        .map(|source| {
            sent("e", source, "r_1", "pending")
                .admission(&store)
                .about(Scope::Source)
                .jobs[0]
                .lane
        })
        .into();
    assert_eq!(lanes.len(), 2, "nor does one wait for the other");
    let found = traces(&store, "r_1").await;
    assert_eq!(found, 3, "a trace by the subject finds those of all sources");

    // Where sources share the family they mean one subject; and what one of them said wrongly is set right.
    let shared = |id: &str, source, status| {
        let sent = sent(id, source, "r_2", status).shared();
        let admission = sent.admission(&store).about(Scope::Shared);
        (sent, admission)
    };
    let (_, wrong) = shared("s1", "partner", "rolledback");
    assert_eq!(store.admit(vec![wrong]).await.unwrap(), [ACCEPTED]);
    let (held, admission) = shared("s2", "shop", "completed");
    assert!(matches!(
        store.admit(vec![admission]).await.unwrap().as_slice(),
        [Admitted::New(Disposition::Held { .. })]
    ));
    assert_eq!(traces(&store, "r_2").await, 2);
    let refused = store.review(map(&store, &held, "completed", 5)).await.unwrap();
    assert!(matches!(refused, ReviewAnswer::Unmappable(_)), "{refused:?}");
    let mut request = map(&store, &held, "completed", 6);
    if let ReviewDecision::Map { word, .. } = &mut request.decision {
        *word = Word::SetsRight;
    }
    let ReviewAnswer::Reviewed(report) = store.review(request).await.unwrap() else {
        panic!("it is refused")
    };
    assert_eq!(
        (report.reviewed, report.routes.len()),
        (
            Reviewed::Accepted {
                status: name("completed")
            },
            1
        )
    );
    let trace = trace_one(&store, &held).await;
    let said: Vec<&str> = trace.history.iter().map(|line| line.what.as_str()).collect();
    assert!(said.contains(&"subject"), "{said:?}");
    let (_, late) = shared("s3", "shop", "pending");
    assert_eq!(
        store.admit(vec![late]).await.unwrap(),
        [superseded("completed")],
        "it is completed from now on"
    );

    // What was held before sources shared the family is mapped all the same.
    let before = unmapped("s4", "r_3").source("shop");
    admit_held(&store, &before).await;
    let mapped = store
        .review(map(&store, &before.clone().shared(), "completed", 9))
        .await
        .unwrap();
    assert!(matches!(mapped, ReviewAnswer::Reviewed(_)), "{mapped:?}");
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

/// How many receipts a trace by this text finds.
async fn traces(store: &impl Store, text: &str) -> usize {
    let query = TraceQuery {
        by: TraceBy::Text(text.to_owned()),
        tenant: None,
        after: None,
        receipts_max: 10,
    };
    store.trace(query).await.unwrap().len()
}

pub(crate) async fn state_is_changed_by_hand_once_and_with_who_and_why(backend: &impl Backend) {
    let store = backend.open();
    let edit = |version, value: Option<&str>, dry_run| StateEdit {
        tenant: name("acme"),
        plugin: name("cashback"),
        key: "customer/c_1".to_owned(),
        value: value.map(|value| value.as_bytes().to_vec()),
        version,
        actor: "ann".to_owned(),
        why: "the newer version wrote what this one cannot read".to_owned(),
        now: at(5),
        dry_run,
    };
    let filter = || StateFilter {
        tenant: name("acme"),
        plugin: name("cashback"),
        key: None,
        prefix: Some("customer/".to_owned()),
        after: None,
        rows_max: 10,
    };
    // A run read the key before somebody changed it: its writes are not taken.
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let run = claim(&store, at(1), 1).await.remove(0);
    assert_eq!(
        store.edit_state(edit(0, Some("{}"), true)).await.unwrap(),
        StateEdited::Done { version: 0 }
    );
    assert_eq!(
        store.plugin_state(filter()).await.unwrap(),
        [],
        "a dry run writes nothing"
    );
    let StateEdited::Done { version } = store.edit_state(edit(0, Some("{}"), false)).await.unwrap() else {
        panic!("it is refused")
    };
    assert!(version < 0, "no run has it");
    let read = settlement(&run)
        .reads("customer/c_1", 0, None)
        .writes("customer/c_1", Some(b"old"));
    assert!(!matches!(settle(&store, read).await, Settled::Committed { .. }));
    let seen = store
        .blocking()
        .read_state(&name("acme"), &name("cashback"), "customer/c_1")
        .unwrap();
    assert_eq!((seen.version, seen.value.as_deref()), (version, Some(b"{}".as_slice())));

    let other = StateEdited::OtherVersion { version };
    for dry_run in [true, false] {
        assert_eq!(
            store.edit_state(edit(7, Some("x"), dry_run)).await.unwrap(),
            other,
            "somebody was first"
        );
    }
    let entries = store.plugin_state(filter()).await.unwrap();
    assert_eq!(
        (entries.len(), entries[0].version, entries[0].value.as_slice()),
        (1, version, b"{}".as_slice())
    );
    assert_eq!(
        store.edit_state(edit(version, None, false)).await.unwrap(),
        StateEdited::Done { version: 0 }
    );
    assert_eq!(store.plugin_state(filter()).await.unwrap(), []);
    let edits = store
        .state_edits(name("acme"), name("cashback"), "customer/c_1".to_owned())
        .await
        .unwrap();
    let said: Vec<_> = edits
        .iter()
        .map(|edit| (edit.actor.as_str(), edit.before.is_some(), edit.after.is_some()))
        .collect();
    assert_eq!(said, [("ann", true, false), ("ann", false, true)]);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn lists_and_traces_go_on_where_they_ended(backend: &impl Backend) {
    let store = backend.open();
    for number in 0..5 {
        admit_held(&store, &unmapped(&format!("held{number}"), &format!("r_{number}"))).await;
    }
    let jobs: Vec<Sent> = (0..3).map(|number| Sent::new(&format!("job{number}"))).collect();
    hold_jobs(&store, &jobs.iter().collect::<Vec<_>>(), 10).await;
    for number in 0..3 {
        let conflict = Sent::new("job0").body(&format!("other {number}"));
        assert!(matches!(conflict.admit(&store).await, Admitted::Conflict { .. }));
    }
    let whole: Vec<String> = store
        .set_aside(held_filter())
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.id)
        .collect();
    assert_eq!(whole.len(), 11);
    for rows_max in [1, 2, 4, 11] {
        let mut filter = SetAsideFilter {
            rows_max,
            ..SetAsideFilter::default()
        };
        let mut paged = Vec::new();
        loop {
            let page = store.set_aside(filter.clone()).await.unwrap();
            assert!(page.len() <= rows_max);
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id.parse().unwrap());
            paged.extend(page.into_iter().map(|item| item.id));
        }
        assert_eq!(paged, whole, "{rows_max} at a time");
    }
    for (by, tenant) in [
        (TraceBy::Newest, None),
        (TraceBy::Newest, Some(name("acme"))),
        (TraceBy::Text("r_1".into()), None),
    ] {
        let mut query = TraceQuery {
            by,
            tenant,
            after: None,
            receipts_max: usize::MAX,
        };
        let all: Vec<_> = store
            .trace(query.clone())
            .await
            .unwrap()
            .into_iter()
            .map(|trace| trace.receipt.id)
            .collect();
        query.receipts_max = 3;
        let mut paged = Vec::new();
        loop {
            let page = store.trace(query.clone()).await.unwrap();
            let Some(last) = page.last() else { break };
            query.after = Some(last.receipt.id);
            paged.extend(page.into_iter().map(|trace| trace.receipt.id));
        }
        assert_eq!(paged, all, "{query:?}");
        assert!(!all.is_empty());
    }
    let nowhere = SetAsideFilter {
        after: Some(Target::Delivery(DeliveryId(77))),
        ..held_filter()
    };
    assert!(matches!(
        store.set_aside(nowhere).await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn a_mapped_receipt_goes_on_with_the_status_that_it_was_given(backend: &impl Backend) {
    let store = backend.open();
    let sent = unmapped("e1", "r_1");
    admit_held(&store, &sent).await;
    assert_eq!(claim(&store, at(0), 10).await.len(), 0);

    let answer = store.review(map(&store, &sent, "completed", 5000)).await.unwrap();
    let ReviewAnswer::Reviewed(report) = answer else {
        panic!("{answer:?}")
    };
    let accepted = Reviewed::Accepted {
        status: name("completed"),
    };
    assert_eq!((report.dry_run, &report.reviewed), (false, &accepted));
    assert_eq!(report.routes, [name("cashback")]);

    // A plugin sees the status; the receipt keeps what it was.
    let job = claim_one(&store, at(5000)).await;
    assert_eq!(job.event.reading.status(), Some(&name("completed")));
    assert_eq!(job.receipt, sent.receipt(&store));
    assert!(matches!(
        settle(&store, settlement(&job).acts("op", 1)).await,
        Settled::Committed { .. }
    ));
    let trace = trace_one(&store, &sent).await;
    assert!(matches!(trace.receipt.disposition, Disposition::Held { .. }));
    assert_eq!(trace.receipt.status, None, "the receipt's own status stays unmapped");
    let review = trace.review.unwrap();
    assert_eq!(
        (review.actor.as_str(), review.why.as_deref(), review.lifecycle_version),
        ("ann", Some("the provider renamed it"), Some(1))
    );
    assert_eq!((review.reviewed, review.at), (accepted, at(5000).to_string()));
    assert_eq!(trace.history.len(), 1);
    assert_eq!(trace.history[0].what, "reviewed");
    assert_eq!(
        trace.history[0].detail,
        "mapped to completed by ann: the provider renamed it"
    );

    // The subject has moved; the event as it was admitted has not; the chain is whole.
    assert_eq!(
        Sent::new("e2").of("r_1").status("pending").admit(&store).await,
        superseded("completed")
    );
    assert_eq!(store.event(sent.receipt(&store)).await.unwrap().reading.status(), None);
    assert_eq!(sent.at(9000).admit(&store).await, Admitted::Same { delivery: 2 });
    assert_eq!(store.counts().await.unwrap().held, 0);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_mapped_receipt_that_came_late_is_superseded(backend: &impl Backend) {
    let store = backend.open();
    let sent = unmapped("e1", "r_1");
    admit_held(&store, &sent).await;
    assert_eq!(
        Sent::new("e2")
            .of("r_1")
            .status("completed")
            .routes(&[])
            .admit(&store)
            .await,
        ACCEPTED
    );
    let answer = store.review(map(&store, &sent, "pending", 5000)).await.unwrap();
    let ReviewAnswer::Reviewed(report) = answer else {
        panic!("{answer:?}")
    };
    let late = Reviewed::Superseded {
        status: name("pending"),
        current: name("completed"),
    };
    assert_eq!((&report.reviewed, report.routes.len()), (&late, 0));
    assert_eq!(claim(&store, at(5000), 10).await.len(), 0, "it makes no jobs");
    assert_eq!(trace_one(&store, &sent).await.review.unwrap().reviewed, late);
    assert_eq!(
        Sent::new("e3").of("r_1").status("pending").admit(&store).await,
        superseded("completed"),
        "the subject stays where it was"
    );
}

pub(crate) async fn a_dismissed_receipt_does_nothing(backend: &impl Backend) {
    let store = backend.open();
    let sent = unmapped("e1", "r_1");
    admit_held(&store, &sent).await;
    let answer = store.review(dismiss(&store, &sent, 5000)).await.unwrap();
    assert!(
        matches!(&answer, ReviewAnswer::Reviewed(report) if report.reviewed == Reviewed::Dismissed),
        "{answer:?}"
    );
    assert_eq!(claim(&store, at(5000), 10).await.len(), 0);
    assert_eq!(
        Sent::new("e2").of("r_1").status("created").admit(&store).await,
        ACCEPTED,
        "the subject has no status"
    );
    let trace = trace_one(&store, &sent).await;
    assert_eq!(trace.history[0].detail, "dismissed by ann: a test event");
    assert_eq!(store.counts().await.unwrap().held, 0);
}

pub(crate) async fn a_review_that_cannot_be_taken_writes_nothing(backend: &impl Backend) {
    let store = backend.open();
    let accepted = Sent::new("e1").of("r_1").status("rolledback");
    assert_eq!(accepted.admit(&store).await, ACCEPTED);
    let sent = unmapped("e2", "r_1");
    admit_held(&store, &sent).await;
    let refused = async |request| store.review(request).await.unwrap();

    assert_eq!(
        refused(map(&store, &accepted, "completed", 1)).await,
        ReviewAnswer::NotHeld
    );
    assert_eq!(refused(dismiss(&store, &accepted, 1)).await, ReviewAnswer::NotHeld);
    let contradiction = refused(map(&store, &sent, "completed", 1)).await;
    assert!(
        matches!(contradiction, ReviewAnswer::Unmappable(Unmappable::Contradicts { .. })),
        "{contradiction:?}"
    );
    let unknown = refused(map(&store, &sent, "exploded", 1)).await;
    assert!(
        matches!(unknown, ReviewAnswer::Unmappable(Unmappable::UnknownStatus { .. })),
        "{unknown:?}"
    );
    assert_eq!(store.counts().await.unwrap().held, 1);
    assert!(trace_one(&store, &sent).await.history.is_empty());

    // Once, and never again.
    let first = refused(dismiss(&store, &sent, 2)).await;
    assert!(matches!(first, ReviewAnswer::Reviewed(_)), "{first:?}");
    for again in [dismiss(&store, &sent, 3), map(&store, &sent, "rolledback", 3)] {
        let second = refused(again).await;
        assert!(
            matches!(&second, ReviewAnswer::AlreadyReviewed(view) if view.at == at(2).to_string()),
            "{second:?}"
        );
    }
    assert_eq!(trace_one(&store, &sent).await.history.len(), 1);

    let nobody = ReviewRequest {
        target: Target::Receipt(ReceiptId([7; 16])),
        ..dismiss(&store, &sent, 1)
    };
    assert!(matches!(store.review(nobody).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(
        store.event(ReceiptId([7; 16])).await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn a_dry_review_writes_nothing(backend: &impl Backend) {
    let store = backend.open();
    let sent = unmapped("e1", "r_1");
    admit_held(&store, &sent).await;
    let before = store.counts().await.unwrap();
    let dry = ReviewRequest {
        dry_run: true,
        ..map(&store, &sent, "completed", 1)
    };
    let ReviewAnswer::Reviewed(report) = store.review(dry).await.unwrap() else {
        panic!("it could be reviewed")
    };
    assert_eq!((report.dry_run, report.routes), (true, vec![name("cashback")]));
    assert_eq!(store.counts().await.unwrap(), before);
    assert_eq!(claim(&store, at(1), 10).await.len(), 0);
    let trace = trace_one(&store, &sent).await;
    assert_eq!((trace.review, trace.history.len()), (None, 0));
    assert_eq!(
        Sent::new("e2").of("r_1").status("created").admit(&store).await,
        ACCEPTED
    );
}

pub(crate) async fn of_many_who_decide_at_once_one_does(backend: &impl Backend) {
    let store = backend.open();
    let sent = unmapped("e1", "r_1");
    admit_held(&store, &sent).await;
    let mut waiting = Vec::new();
    for number in 0..20 {
        let request = if number % 2 == 0 {
            map(&store, &sent, "completed", number)
        } else {
            dismiss(&store, &sent, number)
        };
        let store = store.clone();
        waiting.push(tokio::spawn(async move { store.review(request).await.unwrap() }));
    }
    let mut decided = Vec::new();
    for answer in waiting {
        match answer.await.unwrap() {
            ReviewAnswer::Reviewed(report) => decided.push(report),
            other => assert!(matches!(other, ReviewAnswer::AlreadyReviewed(_)), "{other:?}"),
        }
    }
    assert_eq!(decided.len(), 1);
    let trace = trace_one(&store, &sent).await;
    assert_eq!(trace.review.unwrap().reviewed, decided[0].reviewed);
    assert_eq!((trace.history.len(), trace.jobs.len()), (1, decided[0].routes.len()));
}

// Jobs.

pub(crate) async fn jobs_are_claimed_oldest_first(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3", "e4"] {
        assert_eq!(
            Sent::new(id).routes(&["cashback", "fraud"]).admit(&store).await,
            ACCEPTED
        );
    }
    let claims = claim(&store, at(0), 3).await;
    assert_eq!(event_ids(&claims), ["e1", "e1", "e2"]);
    assert_eq!(claims[0].route.as_str(), "cashback");
    assert_eq!(claims[1].route.as_str(), "fraud");
    assert!(
        claims
            .iter()
            .all(|claim| claim.attempt == 1 && claim.epoch == LeaseEpoch(1))
    );
    assert_eq!(
        event_ids(&claim(&store, at(0), 100).await),
        ["e2", "e3", "e3", "e4", "e4"]
    );
    assert_eq!(claim(&store, at(0), 100).await.len(), 0, "all are leased");
    assert_eq!(claim(&store, at(-1), 100).await.len(), 0);
}

pub(crate) async fn a_lane_goes_one_by_one_in_order(backend: &impl Backend) {
    let store = backend.open();
    for (id, subject) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
        assert_eq!(Sent::new(id).of(subject).admit(&store).await, ACCEPTED);
    }
    let first = claim(&store, at(0), 10).await;
    assert_eq!(event_ids(&first), ["a1", "b1"], "one per lane");
    assert_eq!(claim(&store, at(0), 10).await.len(), 0, "the lanes are busy");
    assert!(matches!(
        settle(&store, settlement(&first[0])).await,
        Settled::Committed { .. }
    ));
    let second = claim(&store, at(0), 10).await;
    assert_eq!(event_ids(&second), ["a2"], "the next of the lane that moved");
    assert_eq!(Sent::new("a4").of("a").admit(&store).await, ACCEPTED);
    assert_eq!(
        claim(&store, at(0), 10).await.len(),
        0,
        "a new event waits for its lane"
    );
    assert!(matches!(
        settle(&store, settlement(&second[0])).await,
        Settled::Committed { .. }
    ));
    assert!(matches!(
        settle(&store, settlement(&first[1])).await,
        Settled::Committed { .. }
    ));
    assert_eq!(finish_all(&store, at(0)).await, ["a3", "b2", "a4"]);
}

pub(crate) async fn a_retry_keeps_its_lane_waiting(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("a1").of("a").admit(&store).await, ACCEPTED);
    assert_eq!(Sent::new("a2").of("a").admit(&store).await, ACCEPTED);
    let first = claim_one(&store, at(0)).await;
    assert!(matches!(
        settle(&store, settlement(&first).end(retry(5000))).await,
        Settled::Committed { .. }
    ));
    assert_eq!(claim(&store, at(4999), 10).await.len(), 0);
    let again = claim_one(&store, at(5000)).await;
    assert_eq!(
        (again.event.id.as_str(), again.attempt, again.epoch),
        ("a1", 2, LeaseEpoch(2))
    );
    assert!(matches!(
        settle(&store, settlement(&again)).await,
        Settled::Committed { .. }
    ));
    assert_eq!(finish_all(&store, at(5000)).await, ["a2"]);
}

pub(crate) async fn held_and_dead_jobs_do_not_block_their_lane(backend: &impl Backend) {
    let store = backend.open();
    for id in ["a1", "a2", "a3"] {
        assert_eq!(Sent::new(id).of("a").admit(&store).await, ACCEPTED);
    }
    let ends = [
        JobEnd::Held {
            reason: "ask a person".into(),
        },
        dead("trap: no"),
    ];
    for (end, id) in ends.into_iter().zip(["a1", "a2"]) {
        let claim = claim_one(&store, at(0)).await;
        assert_eq!(claim.event.id.as_str(), id);
        assert!(matches!(
            settle(&store, settlement(&claim).end(end)).await,
            Settled::Committed { .. }
        ));
    }
    assert_eq!(finish_all(&store, at(0)).await, ["a3"]);
    let job = &trace_one(&store, &Sent::new("a1")).await.jobs[0];
    assert_eq!(
        (job.state.as_str(), job.reason.as_deref()),
        ("held", Some("ask a person"))
    );
}

pub(crate) async fn a_stale_epoch_cannot_settle(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(0)).await;
    let forged = settlement(&claim)
        .acts("op_1", 1)
        .to("shop")
        .writes("k", Some(b"v"))
        .with_epoch(claim.epoch.next());
    assert_eq!(settle(&store, forged).await, Settled::LeaseLost);
    let done = settlement(&claim).acts("op_2", 1);
    assert!(matches!(settle(&store, done.clone()).await, Settled::Committed { .. }));
    assert_eq!(settle(&store, done).await, Settled::LeaseLost, "a job is settled once");
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.runs, counts.actions, counts.outbox_waiting), (1, 1, 0));
    assert_eq!(read(&store, "k").version, 0);
}

pub(crate) async fn an_expired_lease_is_claimed_by_another(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let first = claim_one(&store, at(0)).await;
    assert_eq!(claim(&store, at(LEASE_MS - 1), 10).await.len(), 0);
    let second = claim_one(&store, at(LEASE_MS)).await;
    assert_eq!(
        (second.job, second.epoch, second.attempt),
        (first.job, LeaseEpoch(2), 2)
    );
    assert_eq!(
        settle(&store, settlement(&first).acts("op", 1)).await,
        Settled::LeaseLost
    );
    let Settled::Committed { verdicts, .. } = settle(&store, settlement(&second).acts("op", 1)).await else {
        panic!("the newest lease settles")
    };
    assert_eq!(verdicts, [Verdict::Recorded], "the first one's action was not written");
}

pub(crate) async fn an_expired_lease_that_nobody_took_still_settles(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(0)).await;
    let mut late = settlement(&claim);
    late.run.started_at = at(LEASE_MS * 10);
    assert!(matches!(settle(&store, late).await, Settled::Committed { .. }));
}

// State.

fn read(store: &impl Store, key: &str) -> StateValue {
    store
        .blocking()
        .read_state(&name("acme"), &name("cashback"), key)
        .unwrap()
}

pub(crate) async fn state_is_read_written_and_removed(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 10).await;
    assert_eq!(
        read(&store, "k"),
        StateValue {
            version: 0,
            value: None
        }
    );
    let first = settlement(&claims[0])
        .reads("k", 0, None)
        .writes("k", Some(b"one"))
        .writes("other", Some(b""));
    assert!(matches!(settle(&store, first).await, Settled::Committed { .. }));
    let one = read(&store, "k");
    assert_eq!(one.value.as_deref(), Some(b"one".as_slice()));
    assert_ne!(one.version, 0);
    assert_eq!(
        read(&store, "other").value.as_deref(),
        Some(b"".as_slice()),
        "an empty value is a value"
    );

    let second = settlement(&claims[1])
        .reads("k", one.version, Some(b"one"))
        .writes("k", Some(b"two"));
    assert!(matches!(settle(&store, second).await, Settled::Committed { .. }));
    let two = read(&store, "k");
    assert!(two.version > one.version);
    let third = settlement(&claims[2])
        .reads("k", two.version, Some(b"two"))
        .writes("k", None);
    assert!(matches!(settle(&store, third).await, Settled::Committed { .. }));
    assert_eq!(
        read(&store, "k"),
        StateValue {
            version: 0,
            value: None
        }
    );
    let elsewhere = store
        .blocking()
        .read_state(&name("globex"), &name("cashback"), "other")
        .unwrap();
    assert_eq!(elsewhere.version, 0, "another tenant's state is its own");
}

/// Else a replay would charge a limit again for what was credited once.
pub(crate) async fn a_run_that_only_repeats_leaves_state_alone(backend: &impl Backend) {
    let store = backend.open();
    for event in ["e1", "e2", "e3"] {
        assert_eq!(Sent::new(event).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 3).await;
    let first = settlement(&claims[0]).acts("op_1", 1).writes("spent", Some(b"1"));
    assert!(matches!(settle(&store, first).await, Settled::Committed { .. }));
    let spent = read(&store, "spent");
    for (claim, amount, expect) in [
        (&claims[1], 1, Verdict::AlreadyDone),
        (&claims[2], 2, Verdict::Conflict),
    ] {
        let again = settlement(claim).acts("op_1", amount).writes("spent", Some(b"2"));
        match settle(&store, again).await {
            Settled::Committed { verdicts, .. } => assert_eq!(verdicts, [expect]),
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&store, "spent"), spent, "{expect:?} changes nothing");
    }
}

pub(crate) async fn a_stale_read_writes_nothing(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 10).await;
    let write = |at: usize, value: &'static [u8]| {
        settlement(&claims[at])
            .reads("k", 0, None)
            .writes("k", Some(value))
            .acts("op", 1)
    };
    assert!(matches!(
        settle(&store, write(0, b"a")).await,
        Settled::Committed { .. }
    ));
    assert_eq!(settle(&store, write(1, b"b")).await, Settled::StaleState);
    let now = read(&store, "k");
    assert_eq!(now.value.as_deref(), Some(b"a".as_slice()));
    assert_eq!(
        store.counts().await.unwrap().runs,
        1,
        "nothing of the stale run was written"
    );
    let again = settlement(&claims[1])
        .reads("k", now.version, Some(b"a"))
        .writes("k", Some(b"b"));
    assert!(
        matches!(settle(&store, again).await, Settled::Committed { .. }),
        "the lease still holds for another run"
    );
}

pub(crate) async fn a_version_never_comes_back(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let mut versions = Vec::new();
    for claim in claim(&store, at(0), 10).await {
        assert!(matches!(
            settle(&store, settlement(&claim).writes("k", None)).await,
            Settled::Committed { .. }
        ));
        assert_eq!(
            Sent::new(&format!("more-{}", claim.event.id)).admit(&store).await,
            ACCEPTED
        );
        let next = claim_one(&store, at(0)).await;
        assert!(matches!(
            settle(&store, settlement(&next).writes("k", Some(b"v"))).await,
            Settled::Committed { .. }
        ));
        versions.push(read(&store, "k").version);
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

pub(crate) async fn only_a_finished_job_has_effects(backend: &impl Backend) {
    let store = backend.open();
    for (id, end) in [
        ("e1", dead("trap: x")),
        ("e2", JobEnd::Held { reason: "x".into() }),
        ("e3", retry(60_000)),
    ] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
        let claim = claim_one(&store, at(0)).await;
        let settled = settle(
            &store,
            settlement(&claim)
                .acts("op", 1)
                .to("shop")
                .writes("k", Some(b"v"))
                .end(end),
        )
        .await;
        let Settled::Committed { verdicts, .. } = settled else {
            panic!("{settled:?}")
        };
        assert_eq!(verdicts, []);
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.runs, counts.actions, counts.outbox_waiting), (3, 0, 0));
    assert_eq!(read(&store, "k").version, 0);
}

// Actions.

async fn act(store: &impl Store, sent: &Sent, key: &str, score: u32) -> Vec<Verdict> {
    assert_eq!(sent.admit(store).await, ACCEPTED);
    let claim = claim_one(store, sent.at).await;
    match settle(store, settlement(&claim).acts(key, score).to("shop")).await {
        Settled::Committed { verdicts, .. } => verdicts,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn an_operation_has_one_effect_across_events(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    assert_eq!(act(&store, &Sent::new("e2"), "op", 1).await, [Verdict::AlreadyDone]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.actions, counts.outbox_waiting), (1, 1));
}

pub(crate) async fn the_same_operation_with_other_content_conflicts(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    assert_eq!(act(&store, &Sent::new("e2"), "op", 2).await, [Verdict::Conflict]);
    assert_eq!(
        act(&store, &Sent::new("e3"), "op", 2).await,
        [Verdict::Conflict],
        "a conflict records nothing"
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.actions, counts.outbox_waiting), (1, 1));
    let action = &trace_one(&store, &Sent::new("e2")).await.jobs[0].runs[0].actions[0];
    assert_eq!((action.verdict, action.deliveries.len()), (Verdict::Conflict, 0));
    assert_eq!(
        action.summary, "flag r_1 with score 2",
        "the proposal is kept for review"
    );
}

fn ledger_conflicts() -> SetAsideFilter {
    SetAsideFilter {
        kind: Some(SetAsideKind::LedgerConflict),
        ..held_filter()
    }
}

pub(crate) async fn conflicts_with_the_ledger_are_kept_once_listed_and_counted(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    for event in ["e2", "e3"] {
        assert_eq!(
            act(&store, &Sent::new(event).at(200), "op", 2).await,
            [Verdict::Conflict]
        );
    }
    assert_eq!(
        act(&store, &Sent::new("e4").at(300), "op", 3).await,
        [Verdict::Conflict]
    );
    let kind = SetAsideKind::LedgerConflict;
    let listed = store.set_aside(held_filter()).await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|one| {
            (
                one.kind,
                one.event_id.as_str(),
                one.route.as_ref().unwrap().as_str(),
                one.reason.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                kind,
                "e4",
                "cashback",
                "act_1 is recorded as cashback/op: flag r_1 with score 1; this is: flag r_1 with score 3"
            ),
            (
                kind,
                "e2",
                "cashback",
                "act_1 is recorded as cashback/op: flag r_1 with score 1; this is: flag r_1 with score 2, proposed 2 times"
            ),
        ]
    );
    let counts = counted(&store).await;
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!(
        (counts[0].0, counts[0].1.as_str(), counts[0].2),
        (kind, "acme:cashback", 2)
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ledger_conflicts_open, counts.actions), (2, 1));
    let check = async |filter: SetAsideFilter, expect: &[&str]| {
        assert_eq!(held_ids(&store, filter.clone()).await, expect, "{filter:?}");
    };
    check(ledger_conflicts(), &["e4", "e2"]).await;
    for (route, expect) in [("cashback", ["e4", "e2"].as_slice()), ("points", &[])] {
        let of_route = SetAsideFilter {
            route: Some(name(route)),
            ..ledger_conflicts()
        };
        check(of_route, expect).await;
    }
    let others = SetAsideFilter {
        tenant: Some(name("globex")),
        ..ledger_conflicts()
    };
    check(others, &[]).await;
    let behind = SetAsideFilter {
        after: Some(listed[0].id.parse().unwrap()),
        ..ledger_conflicts()
    };
    check(behind, &["e2"]).await;
    // Each of them finds the receipts that proposed it.
    let by_key = TraceQuery {
        by: TraceBy::Text("op".into()),
        tenant: None,
        after: None,
        receipts_max: 10,
    };
    assert_eq!(store.trace(by_key).await.unwrap().len(), 4);
    let again = &trace_one(&store, &Sent::new("e3")).await.jobs[0].runs[0].actions[0];
    assert_eq!(
        (again.verdict, again.id.to_string()),
        (Verdict::Conflict, listed[1].id.clone())
    );
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_conflict_with_the_ledger_is_kept_out_or_recorded_once(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    assert_eq!(act(&store, &Sent::new("e2"), "op", 2).await, [Verdict::Conflict]);
    assert_eq!(act(&store, &Sent::new("e3"), "op", 3).await, [Verdict::Conflict]);
    let recorded: ActionId = "act_1".parse().unwrap();
    let (kept, wanted) = (Target::Action(ActionId(2)), Target::Action(ActionId(3)));
    let record = |key: &str| ReviewDecision::Record {
        operation_key: name(key),
        targets: Targets {
            destinations: vec![name("shop"), name("crm")],
            ..Targets::default()
        },
        budgets: Vec::new(),
    };
    let review = async |target, decision_: ReviewDecision, dry_run| {
        let request = ReviewRequest {
            dry_run,
            ..decision(target, decision_, 300)
        };
        store.review(request).await.unwrap()
    };
    let before = store.counts().await.unwrap();
    assert_eq!(
        review(Target::Action(recorded), ReviewDecision::Keep, false).await,
        ReviewAnswer::NotHeld,
        "it is recorded, and conflicts with nothing"
    );
    assert_eq!(
        review(kept, ReviewDecision::Dismiss, false).await,
        ReviewAnswer::NotHeld
    );
    assert_eq!(
        review(wanted, record("op"), false).await,
        ReviewAnswer::KeyTaken(recorded)
    );
    let reviewed = |answer: &ReviewAnswer| match answer {
        ReviewAnswer::Reviewed(report) => report.reviewed.clone(),
        other => panic!("{other:?}"),
    };
    let stands = Reviewed::Kept { action: recorded };
    for dry_run in [true, false] {
        assert_eq!(reviewed(&review(kept, ReviewDecision::Keep, dry_run).await), stands);
        let again = |action| Reviewed::Recorded {
            operation_key: name("op-b"),
            action,
        };
        let answer = review(wanted, record("op-b"), dry_run).await;
        let number = (!dry_run).then_some(ActionId(4));
        assert_eq!(reviewed(&answer), again(number));
        if dry_run {
            assert_eq!(store.counts().await.unwrap(), before, "a dry run writes nothing");
        }
    }
    for target in [kept, wanted] {
        for decision in [ReviewDecision::Keep, record("op-c")] {
            let answer = review(target, decision, false).await;
            assert!(matches!(answer, ReviewAnswer::AlreadyReviewed(_)), "{answer:?}");
        }
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.actions, counts.ledger_conflicts_open), (2, 0));
    assert_eq!(counts.outbox_waiting, before.outbox_waiting + 2);
    assert_eq!(held_ids(&store, ledger_conflicts()).await, [] as [&str; 0]);
    let all = SetAsideFilter {
        with_reviewed: true,
        ..ledger_conflicts()
    };
    assert_eq!(held_ids(&store, all).await, ["e3", "e2"]);

    // The same proposals come again: both are done, and a destination that is new gets what was recorded.
    assert_eq!(act(&store, &Sent::new("e4"), "op", 2).await, [Verdict::AlreadyDone]);
    assert_eq!(Sent::new("e5").admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(0)).await;
    let later = settlement(&claim).acts("op", 3).to("crm").to("books");
    assert!(
        matches!(settle(&store, later).await, Settled::Committed { verdicts, .. } if verdicts == [Verdict::AlreadyDone])
    );
    assert_eq!(act(&store, &Sent::new("e6"), "op", 4).await, [Verdict::Conflict]);
    let claims = store
        .claim_outbox(claim_request(at(400), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let mut sent: Vec<_> = claims
        .iter()
        .map(|claim| format!("{} to {}", claim.operation_key, claim.destination))
        .collect();
    sent.sort();
    assert_eq!(sent, ["op to shop", "op-b to books", "op-b to crm", "op-b to shop"]);

    let trace = trace_one(&store, &Sent::new("e3")).await;
    let actions = &trace.jobs[0].runs[0].actions;
    let shown: Vec<_> = actions
        .iter()
        .map(|action| (action.operation_key.as_str(), action.verdict))
        .collect();
    assert_eq!(shown, [("op", Verdict::Conflict), ("op-b", Verdict::Recorded)]);
    let review = actions[0].review.as_ref().unwrap();
    assert_eq!(
        (review.actor.as_str(), actions[1].summary.as_str()),
        ("ann", "flag r_1 with score 3")
    );
    assert_eq!(
        trace.history[0].detail,
        "act_3 recorded under op-b as act_4 by ann: looked at"
    );
    let trace = trace_one(&store, &Sent::new("e2")).await;
    assert_eq!(
        trace.history[0].detail,
        "act_2 without effect, act_1 stands, by ann: looked at"
    );
    // What the run proposed is what it proposed.
    let run = RecordedRunFilter {
        run: Some(trace_one(&store, &Sent::new("e3")).await.jobs[0].runs[0].id),
        rows_max: 1,
        ..RecordedRunFilter::default()
    };
    assert_eq!(store.recorded_runs(run).await.unwrap()[0].actions.len(), 1);
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn an_operation_belongs_to_its_namespace(backend: &impl Backend) {
    let store = backend.open();
    let squatter = Sent::new("e1");
    assert_eq!(squatter.admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(0)).await;
    let squatting = Settlement {
        namespace: name("stranger"),
        ..settlement(&claim).acts("op", 1).to("shop")
    };
    assert!(
        matches!(settle(&store, squatting).await, Settled::Committed { verdicts, .. } if verdicts == [Verdict::Recorded])
    );
    assert_eq!(
        act(&store, &Sent::new("e2"), "op", 2).await,
        [Verdict::Recorded],
        "a stranger's key is another"
    );
    // A successor in the same namespace finds what was done.
    assert_eq!(act(&store, &Sent::new("e3"), "op", 2).await, [Verdict::AlreadyDone]);
    assert_eq!(store.counts().await.unwrap().actions, 2);
    let claims = store
        .claim_outbox(claim_request(at(10), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let sent: Vec<_> = claims
        .iter()
        .map(|claim| (claim.namespace.as_str(), claim.operation_key.as_str()))
        .collect();
    assert_eq!(sent, [("stranger", "op"), ("cashback", "op")]);
    assert_ne!(claims[0].message_id, claims[1].message_id);
    let action = &trace_one(&store, &squatter).await.jobs[0].runs[0].actions[0];
    assert_eq!(action.namespace.as_str(), "stranger");
}

/// Admits an event whose run proposes `op` for these destinations, and answers the verdict.
async fn send_op(store: &impl Store, event: &str, destinations: &[&str], renamed: &[(&str, &str)]) -> Verdict {
    assert_eq!(Sent::new(event).admit(store).await, ACCEPTED);
    let claim = claim_one(store, at(0)).await;
    let mut done = settlement(&claim).acts("op", 1);
    for destination in destinations {
        done = done.to(destination);
    }
    done.targets.renamed = renamed.iter().map(|(old, now)| (name(old), name(now))).collect();
    match settle(store, done).await {
        Settled::Committed { verdicts, .. } => verdicts[0],
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_repeat_adds_the_destinations_that_are_missing(backend: &impl Backend) {
    let store = backend.open();
    // The first route names none yet.
    assert_eq!(send_op(&store, "e1", &[], &[]).await, Verdict::Recorded);
    assert_eq!(store.counts().await.unwrap().outbox_waiting, 0);
    assert_eq!(
        send_op(&store, "e2", &["ledger", "books"], &[]).await,
        Verdict::AlreadyDone
    );
    assert_eq!(
        send_op(&store, "e3", &["crm", "ledger", "crm"], &[]).await,
        Verdict::AlreadyDone
    );
    let claims = store
        .claim_outbox(claim_request(at(10), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let to: Vec<_> = claims.iter().map(|claim| claim.destination.as_str()).collect();
    assert_eq!(to, ["books", "crm", "ledger"], "each destination that was meant, once");
    assert!(claims.iter().all(|claim| claim.action == claims[0].action));
    for claim in &claims {
        let recorded = store.record_attempt(attempt(claim, 20, EntryEnd::Delivered)).await;
        assert_eq!(recorded.unwrap(), AttemptRecorded::Recorded);
    }
    assert_eq!(
        send_op(&store, "e4", &["crm", "ledger"], &[]).await,
        Verdict::AlreadyDone
    );
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (counts.actions, counts.delivered, counts.outbox_waiting),
        (1, 3, 0),
        "what was delivered is not sent again"
    );
}

fn resend(entries: &[OutboxId], ms: i64) -> ResendRequest {
    ResendRequest {
        entries: entries.to_vec(),
        now: at(ms),
        actor: "ana".into(),
        why: "their database was lost".into(),
    }
}

pub(crate) async fn what_was_delivered_is_sent_again_on_purpose_under_its_own_names(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(send_op(&store, "e1", &["ledger"], &[]).await, Verdict::Recorded);
    let first = claim_outbox_one(&store, at(10)).await;
    assert_eq!(first.resend, None);
    assert_eq!(
        store.resend(resend(&[first.entry], 15)).await.unwrap(),
        [],
        "it is still on its way"
    );
    let recorded = store.record_attempt(attempt(&first, 20, EntryEnd::Delivered)).await;
    assert_eq!(recorded.unwrap(), AttemptRecorded::Recorded);
    assert_eq!(
        store.resend(resend(&[first.entry, OutboxId(99)], 30)).await.unwrap(),
        [first.entry]
    );
    assert_eq!(store.resend(resend(&[first.entry], 31)).await.unwrap(), [], "once");

    let again = claim_outbox_one(&store, at(40)).await;
    assert_eq!((again.entry, &again.message_id), (first.entry, &first.message_id));
    assert_eq!((again.attempt, &again.operation_key), (1, &first.operation_key));
    let id = again.resend.expect("marked");
    // It fails and is tried again, under the same mark; what was made under the older lease has none.
    let later = EntryEnd::RetryAt {
        at: at(60),
        reason: "busy".into(),
    };
    assert_eq!(
        store.record_attempt(attempt(&again, 50, later)).await.unwrap(),
        AttemptRecorded::Recorded
    );
    assert_eq!(
        store
            .record_attempt(attempt(&first, 51, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::LeaseLost
    );
    let third = claim_outbox_one(&store, at(70)).await;
    assert_eq!((third.resend, third.attempt), (Some(id), 2));
    assert_eq!(
        store
            .record_attempt(attempt(&third, 80, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::Recorded
    );

    let trace = trace_one(&store, &Sent::new("e1")).await;
    let attempts = &trace.jobs[0].runs[0].actions[0].deliveries[0].attempts;
    let marks: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.resend.as_ref().map(|of| (of.id, of.actor.as_str())))
        .collect();
    assert_eq!(marks, [None, Some((id, "ana")), None, Some((id, "ana"))]);
    assert_eq!(trace.history.len(), 1);
    assert_eq!(trace.history[0].what, "resent");
    let (entry, detail) = (first.entry, &trace.history[0].detail);
    assert_eq!(
        *detail,
        format!("{entry} (to ledger) by ana, {id}: their database was lost")
    );
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn a_resend_takes_what_was_delivered_and_matches(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(send_op(&store, "e1", &["crm", "ledger"], &[]).await, Verdict::Recorded);
    let claims = store
        .claim_outbox(claim_request(at(10), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let (crm, ledger) = (&claims[0], &claims[1]);
    let end = |claim, ms, end| store.record_attempt(attempt(claim, ms, end));
    assert_eq!(
        end(crm, 20, EntryEnd::Delivered).await.unwrap(),
        AttemptRecorded::Recorded
    );
    let dead = EntryEnd::Dead { reason: "410".into() };
    assert_eq!(end(ledger, 20, dead).await.unwrap(), AttemptRecorded::Recorded);

    let listed = async |filter: SentFilter| {
        let found = store.sent(SentFilter { rows_max: 10, ..filter }).await.unwrap();
        found.into_iter().map(|sent| sent.entry).collect::<Vec<_>>()
    };
    let of = |of| SentFilter {
        of: Some(of),
        ..SentFilter::default()
    };
    let receipt = Sent::new("e1").receipt(&store);
    // What is named is listed in whatever state it is; a filter finds what was delivered.
    assert_eq!(listed(of(SentOf::Receipt(receipt))).await, [crm.entry, ledger.entry]);
    assert_eq!(listed(of(SentOf::Action(crm.action))).await, [crm.entry, ledger.entry]);
    assert_eq!(listed(of(SentOf::Entry(ledger.entry))).await, [ledger.entry]);
    let tenant = |tenant: &str| SentFilter {
        tenant: Some(name(tenant)),
        ..SentFilter::default()
    };
    assert_eq!(listed(tenant("acme")).await, [crm.entry]);
    assert_eq!(listed(tenant("other")).await, []);
    for (destination, expected) in [("crm", vec![crm.entry]), ("ledger", vec![])] {
        let filter = SentFilter {
            destination: Some(name(destination)),
            ..SentFilter::default()
        };
        assert_eq!(listed(filter).await, expected, "{destination}");
    }
    let ended = store
        .sent(SentFilter {
            rows_max: 1,
            ..tenant("acme")
        })
        .await
        .unwrap()
        .remove(0);
    let SentState::Delivered { at: ended } = ended.state else {
        panic!("{ended:?}")
    };
    let ended = UnixMillis::from_rfc3339(&ended).unwrap();
    for (since, until, expected) in [(0, 1, 1), (1, 2, 0), (-1, 0, 0)] {
        let filter = SentFilter {
            since: Some(ended.plus_ms(since)),
            until: Some(ended.plus_ms(until)),
            ..SentFilter::default()
        };
        assert_eq!(listed(filter).await.len(), expected, "{since} {until}");
    }
    assert_eq!(
        listed(SentFilter {
            after: Some(crm.entry),
            ..tenant("acme")
        })
        .await,
        []
    );
    // Another tenant's does not exist.
    for of in [
        SentOf::Receipt(receipt),
        SentOf::Action(crm.action),
        SentOf::Entry(crm.entry),
        SentOf::Entry(OutboxId(99)),
    ] {
        let filter = SentFilter {
            of: Some(of),
            ..tenant("other")
        };
        assert!(
            matches!(store.sent(filter).await, Err(StoreError::NotFound { .. })),
            "{of:?}"
        );
    }
}

pub(crate) async fn what_went_to_a_renamed_destination_is_not_sent_again(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(send_op(&store, "e1", &["ledger"], &[]).await, Verdict::Recorded);
    let renamed = [("ledger", "books")];
    assert_eq!(
        send_op(&store, "e2", &["books", "crm"], &renamed).await,
        Verdict::AlreadyDone
    );
    let claims = store
        .claim_outbox(claim_request(at(10), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let to: Vec<_> = claims.iter().map(|claim| claim.destination.as_str()).collect();
    assert_eq!(to, ["crm", "ledger"]);
}

pub(crate) async fn a_replay_says_which_deliveries_are_missing(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(send_op(&store, "e1", &["ledger"], &[]).await, Verdict::Recorded);
    let sent = Sent::new("e1");
    let adds = async |destinations: &[&str], renamed: &[(&str, &str)], dry_run, ms| {
        let targets = Targets {
            destinations: destinations.iter().map(|destination| name(destination)).collect(),
            renamed: renamed.iter().map(|(old, now)| (name(old), name(now))).collect(),
            ..Targets::default()
        };
        let request = ReplayRequest {
            routes: vec![RouteTargets {
                tenant: name("acme"),
                route: name("cashback"),
                targets,
            }],
            ..replay(again(sent.receipt(&store)), dry_run, ms)
        };
        let report = store.replay(request).await.unwrap();
        let adds = report.replayed[0].adds.iter();
        adds.map(|added| format!("{} to {}", added.operation_key, added.destination))
            .collect::<Vec<_>>()
    };
    let nothing: [String; 0] = [];
    assert_eq!(adds(&["crm", "ledger", "crm"], &[], true, 10).await, ["op to crm"]);
    assert_eq!(adds(&["books"], &[("ledger", "books")], true, 11).await, nothing);
    assert_eq!(
        store.counts().await.unwrap().outbox_waiting,
        1,
        "a dry run adds nothing"
    );
    assert_eq!(adds(&["crm", "ledger"], &[], false, 12).await, ["op to crm"]);
    let claim = claim_one(&store, at(20)).await;
    let again = settlement(&claim).acts("op", 1).to("ledger").to("crm");
    assert!(matches!(settle(&store, again).await, Settled::Committed { .. }));
    assert_eq!(store.counts().await.unwrap().outbox_waiting, 2);
    assert_eq!(adds(&["crm", "ledger"], &[], true, 30).await, nothing);
}

pub(crate) async fn a_message_id_is_one_effects_over_retries_and_stores(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(send_op(&store, "e1", &["ledger"], &[]).await, Verdict::Recorded);
    let first = claim_outbox_one(&store, at(10)).await;
    let later = EntryEnd::RetryAt {
        at: at(30),
        reason: "503".into(),
    };
    let recorded = store.record_attempt(attempt(&first, 20, later)).await;
    assert_eq!(recorded.unwrap(), AttemptRecorded::Recorded);
    let again = claim_outbox_one(&store, at(40)).await;
    assert_eq!(again.message_id, first.message_id);
    let key = store.receipt_key();
    let (namespace, kind, operation) = (&first.namespace, first.kind, &first.operation_key);
    let derived = message_id(key, first.receipt, namespace, kind, operation, &first.destination);
    assert_eq!(first.message_id, derived);
    assert!(
        !first.message_id.contains(&first.entry.to_string()),
        "no number that another store gives as well"
    );
}

pub(crate) async fn operations_of_two_tenants_are_apart(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    assert_eq!(
        act(&store, &Sent::new("e1").tenant("globex"), "op", 2).await,
        [Verdict::Recorded]
    );
}

// Outbox.

pub(crate) fn attempt(claim: &OutboxClaim, ms: i64, end: EntryEnd) -> AttemptRecord {
    AttemptRecord {
        entry: claim.entry,
        epoch: claim.epoch,
        started_at: at(ms),
        duration_us: 1_000,
        end: match end {
            EntryEnd::Delivered => AttemptEnd::Answered {
                http_status: 204,
                retry_after_ms: None,
            },
            _ => AttemptEnd::Answered {
                http_status: 503,
                retry_after_ms: Some(7),
            },
        },
        answer: "an answer".into(),
        entry_end: end,
    }
}

pub(crate) async fn an_action_goes_to_each_destination_once(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("e1");
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(0)).await;
    let settled = settle(
        &store,
        settlement(&claim).acts("op_1", 1).acts("op_2", 2).to("shop").to("crm"),
    )
    .await;
    assert!(matches!(settled, Settled::Committed { .. }));
    let claims = store
        .claim_outbox(claim_request(at(10), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    let targets: Vec<_> = claims
        .iter()
        .map(|claim| (claim.operation_key.as_str(), claim.destination.as_str()))
        .collect();
    assert_eq!(
        targets,
        [("op_1", "crm"), ("op_2", "crm"), ("op_1", "shop"), ("op_2", "shop")]
    );
    let first = &claims[0];
    assert_eq!(
        (first.attempt, first.epoch, first.receipt),
        (1, LeaseEpoch(1), sent.receipt(&store))
    );
    assert_eq!(
        first.action_json,
        r#"{"kind":"flag","subject":"r_1","score":1,"reasons":["because"]}"#
    );
    assert_eq!((first.tenant.as_str(), first.recorded_at), ("acme", at(2)));
    for claim in &claims {
        assert_eq!(
            store
                .record_attempt(attempt(claim, 20, EntryEnd::Delivered))
                .await
                .unwrap(),
            AttemptRecorded::Recorded
        );
    }
    assert_eq!(
        store
            .claim_outbox(claim_request(at(LEASE_MS * 9), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims
            .len(),
        0
    );
    assert_eq!(store.counts().await.unwrap().delivered, 4);
}

pub(crate) async fn destinations_take_turns_and_keep_to_their_room(backend: &impl Backend) {
    let store = backend.open();
    // A storm for one destination, and afterwards a little for its neighbour and for one of the same name elsewhere.
    for (tenant, events, destination) in [("acme", 20, "down"), ("acme", 2, "well"), ("zeta", 2, "down")] {
        for number in 0..events {
            let sent = Sent::new(&format!("{destination}{number}")).tenant(tenant);
            assert_eq!(sent.admit(&store).await, ACCEPTED);
            let job = claim_one(&store, at(0)).await;
            let acts = settlement(&job)
                .acts(&format!("op_{destination}{number}"), 1)
                .to(destination);
            assert!(matches!(settle(&store, acts).await, Settled::Committed { .. }));
        }
    }
    let claim = async |rows_max, down: usize| {
        let quotas = Quotas {
            each_max: 8,
            of: [((name("acme"), name("down")), down)].into(),
        };
        let request = claim_request(at(10), rows_max);
        let claimed = store.claim_outbox(request, quotas).await.unwrap();
        let of = claimed
            .claims
            .iter()
            .map(|claim| format!("{}/{}", claim.tenant, claim.destination));
        (of.collect::<Vec<_>>(), claimed.next_due)
    };
    assert_eq!(claim(3, 8).await.0, ["acme/down", "acme/well", "zeta/down"], "by turns");
    assert_eq!(claim(1, 8).await.0, ["acme/down"], "and on from there");
    // What may not be sent is not claimed, whatever waits; its neighbour is not held up by it.
    assert_eq!(claim(3, 0).await.0, ["acme/well", "zeta/down"]);
    let (claimed, next_due) = claim(10, 0).await;
    assert_eq!(claimed, [""; 0]);
    // The next that comes to anything is the end of a lease of those that have room.
    assert_eq!(next_due, Some(at(10).plus_ms(LEASE_MS)));
    assert_eq!(claim(10, 5).await.0, ["acme/down"; 5]);
    assert_eq!(
        claim(100, 100).await,
        (vec!["acme/down".to_owned(); 13], Some(at(10).plus_ms(LEASE_MS)))
    );
    assert_eq!(store.next_due().await.unwrap().outbox, Some(at(10).plus_ms(LEASE_MS)));
}

pub(crate) async fn a_failed_attempt_is_tried_again_when_due(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("e1");
    assert_eq!(act(&store, &sent, "op", 1).await, [Verdict::Recorded]);
    let first = claim_outbox_one(&store, at(10)).await;
    let end = EntryEnd::RetryAt {
        at: at(5000),
        reason: "503".into(),
    };
    assert_eq!(
        store.record_attempt(attempt(&first, 10, end)).await.unwrap(),
        AttemptRecorded::Recorded
    );
    assert_eq!(
        store
            .claim_outbox(claim_request(at(4999), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims
            .len(),
        0
    );
    let second = claim_outbox_one(&store, at(5000)).await;
    assert_eq!(
        (second.entry, second.attempt, second.epoch),
        (first.entry, 2, LeaseEpoch(2))
    );
    assert_eq!(
        store
            .record_attempt(attempt(&second, 5000, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::Recorded
    );

    let entry = &trace_one(&store, &sent).await.jobs[0].runs[0].actions[0].deliveries[0];
    assert_eq!(
        (entry.state.as_str(), entry.destination.as_str()),
        ("delivered", "shop")
    );
    let ends: Vec<_> = entry
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.end.clone()))
        .collect();
    let answered = |http_status, retry_after_ms| AttemptEnd::Answered {
        http_status,
        retry_after_ms,
    };
    assert_eq!(ends, [(1, answered(503, Some(7))), (2, answered(204, None))]);
}

pub(crate) async fn a_lost_delivery_lease_keeps_its_attempt_as_history(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("e1");
    assert_eq!(act(&store, &sent, "op", 1).await, [Verdict::Recorded]);
    let first = claim_outbox_one(&store, at(10)).await;
    let second = claim_outbox_one(&store, at(10 + LEASE_MS)).await;
    assert_eq!(second.epoch, LeaseEpoch(2));
    assert_eq!(
        store
            .record_attempt(attempt(&first, 20, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::LeaseLost
    );
    let entry = &trace_one(&store, &sent).await.jobs[0].runs[0].actions[0].deliveries[0];
    assert_eq!((entry.state.as_str(), entry.attempts.len()), ("leased", 1));
    assert_eq!(
        store
            .record_attempt(attempt(&second, 30, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::Recorded
    );
    assert_eq!(
        store
            .record_attempt(attempt(&second, 40, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::LeaseLost
    );
}

pub(crate) async fn a_released_entry_counts_no_attempt(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    let first = claim_outbox_one(&store, at(10)).await;
    let hold = OutboxHold {
        entry: first.entry,
        epoch: first.epoch,
    };
    store.release_outbox(vec![hold], at(100)).await.unwrap();
    assert_eq!(
        store
            .claim_outbox(claim_request(at(99), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims
            .len(),
        0
    );
    let second = claim_outbox_one(&store, at(100)).await;
    assert_eq!((second.attempt, second.epoch), (1, LeaseEpoch(2)));
    store.release_outbox(vec![hold], at(0)).await.unwrap();
    assert_eq!(
        store
            .claim_outbox(claim_request(at(101), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims
            .len(),
        0,
        "an old hold releases nothing"
    );
    assert_eq!(
        store
            .record_attempt(attempt(&second, 100, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::Recorded
    );
}

// Dead letters and replay.

fn all_letters() -> DeadLetterFilter {
    DeadLetterFilter {
        rows_max: 100,
        ..DeadLetterFilter::default()
    }
}

/// Its jobs that have ended, and no new ones.
fn again(receipt: ReceiptId) -> ReplayWhat {
    ReplayWhat::Receipt {
        receipt,
        jobs: Vec::new(),
    }
}

fn replay(what: ReplayWhat, dry_run: bool, ms: i64) -> ReplayRequest {
    ReplayRequest {
        what,
        dry_run,
        routes: Vec::new(),
        now: at(ms),
        actor: "alice".into(),
        why: None,
    }
}

/// Leaves one dead job (of acme) and one dead delivery (of globex).
async fn kill_two(store: &impl Store) -> (Sent, Sent) {
    let (job, delivery) = (Sent::new("e1").of("r_1"), Sent::new("e2").tenant("globex"));
    assert_eq!(job.admit(store).await, ACCEPTED);
    let claim = claim_one(store, at(0)).await;
    let mut settlement = settlement(&claim).end(dead("trap: unreachable"));
    settlement.run.started_at = at(100);
    assert!(matches!(settle(store, settlement).await, Settled::Committed { .. }));
    assert_eq!(act(store, &delivery, "op", 1).await, [Verdict::Recorded]);
    let claim = claim_outbox_one(store, at(10)).await;
    let end = EntryEnd::Dead {
        reason: "the destination answered 410 Gone".into(),
    };
    assert_eq!(
        store.record_attempt(attempt(&claim, 5000, end)).await.unwrap(),
        AttemptRecorded::Recorded
    );
    (job, delivery)
}

pub(crate) async fn dead_jobs_and_deliveries_are_listed_and_filtered(backend: &impl Backend) {
    let store = backend.open();
    let (job, _) = kill_two(&store).await;
    let letters = store.dead_letters(all_letters()).await.unwrap();
    assert_eq!(letters.len(), 2);
    let (delivery, dead_job) = (&letters[0], &letters[1]);
    assert!(
        matches!(&dead_job.work, DeadWork::Job { route, .. } if route.as_str() == "cashback"),
        "newest first"
    );
    assert!(
        matches!(&delivery.work, DeadWork::Delivery { destination, operation_key, .. }
        if destination.as_str() == "shop" && operation_key == "op")
    );
    assert_eq!((dead_job.reason.as_str(), dead_job.attempts), ("trap: unreachable", 1));
    assert_eq!(
        (dead_job.receipt, dead_job.event_id.as_str()),
        (job.receipt(&store), "e1")
    );
    assert_eq!(
        (dead_job.subject.as_deref(), dead_job.died_at.clone()),
        (Some("r_1"), at(102).to_string())
    );
    assert_eq!(dead_job.replayed_at, None);

    let check = async |filter: DeadLetterFilter, expect: &[&str]| {
        let found = store.dead_letters(filter.clone()).await.unwrap();
        let ids: Vec<_> = found.iter().map(|letter| letter.event_id.as_str()).collect();
        assert_eq!(ids, expect, "{filter:?}");
    };
    check(
        DeadLetterFilter {
            id: Some(dead_job.id),
            ..all_letters()
        },
        &["e1"],
    )
    .await;
    check(
        DeadLetterFilter {
            tenant: Some(name("globex")),
            ..all_letters()
        },
        &["e2"],
    )
    .await;
    check(
        DeadLetterFilter {
            source: Some(name("payments")),
            ..all_letters()
        },
        &[],
    )
    .await;
    check(
        DeadLetterFilter {
            route: Some(name("cashback")),
            ..all_letters()
        },
        &["e1"],
    )
    .await;
    check(
        DeadLetterFilter {
            destination: Some(name("shop")),
            ..all_letters()
        },
        &["e2"],
    )
    .await;
    check(
        DeadLetterFilter {
            since: Some(at(103)),
            ..all_letters()
        },
        &["e2"],
    )
    .await;
    check(
        DeadLetterFilter {
            reason: Some("410".into()),
            ..all_letters()
        },
        &["e2"],
    )
    .await;
    check(
        DeadLetterFilter {
            rows_max: 1,
            ..all_letters()
        },
        &["e2"],
    )
    .await;
}

pub(crate) async fn a_dry_replay_writes_nothing(backend: &impl Backend) {
    let store = backend.open();
    let (job, _) = kill_two(&store).await;
    let before = store.counts().await.unwrap();
    let report = store
        .replay(replay(ReplayWhat::DeadLetters(all_letters()), true, 9000))
        .await
        .unwrap();
    assert!(report.dry_run);
    let ids: Vec<_> = report
        .replayed
        .iter()
        .map(|replayed| replayed.event_id.as_str())
        .collect();
    assert_eq!(ids, ["e1", "e2"], "the oldest first");
    let report = store
        .replay(replay(again(job.receipt(&store)), true, 9000))
        .await
        .unwrap();
    assert_eq!((report.dry_run, report.replayed.len()), (true, 1));
    assert_eq!(store.counts().await.unwrap(), before);
    assert_eq!(claim(&store, at(9000), 10).await.len(), 0);
    assert!(trace_one(&store, &job).await.history.is_empty());
}

pub(crate) async fn a_replay_works_once_and_has_no_second_effect(backend: &impl Backend) {
    let store = backend.open();
    // An earlier event has done the operation already.
    assert_eq!(act(&store, &Sent::new("e0"), "op_job", 1).await, [Verdict::Recorded]);
    let delivered = claim_outbox_one(&store, at(10)).await;
    let _ = store
        .record_attempt(attempt(&delivered, 10, EntryEnd::Delivered))
        .await
        .unwrap();
    let (job, _) = kill_two(&store).await;
    let letter = store
        .dead_letters(DeadLetterFilter {
            route: Some(name("cashback")),
            ..all_letters()
        })
        .await
        .unwrap()[0]
        .id;
    let by_id = || {
        ReplayWhat::DeadLetters(DeadLetterFilter {
            id: Some(letter),
            ..all_letters()
        })
    };

    let report = store.replay(replay(by_id(), false, 9000)).await.unwrap();
    assert_eq!((report.dry_run, report.replayed.len()), (false, 1));
    assert_eq!(report.replayed[0].reason, "trap: unreachable");
    assert_eq!(
        store.replay(replay(by_id(), false, 9001)).await.unwrap().replayed.len(),
        0,
        "already replayed"
    );

    let claim = claim_one(&store, at(9000)).await;
    assert_eq!(
        (claim.event.id.as_str(), claim.attempt, claim.epoch),
        ("e1", 1, LeaseEpoch(2))
    );
    let settled = settle(&store, settlement(&claim).acts("op_job", 1).to("shop")).await;
    let Settled::Committed { verdicts, .. } = settled else {
        panic!("{settled:?}")
    };
    assert_eq!(verdicts, [Verdict::AlreadyDone]);
    assert_eq!(
        store
            .claim_outbox(claim_request(at(9100), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims
            .len(),
        0,
        "no second delivery"
    );

    let trace = trace_one(&store, &job).await;
    assert_eq!(
        (
            trace.jobs[0].replays,
            trace.jobs[0].state.as_str(),
            trace.jobs[0].runs.len()
        ),
        (1, "done", 2)
    );
    assert_eq!(trace.history.len(), 1);
    assert_eq!(trace.history[0].what, "replayed");
    assert!(trace.history[0].detail.contains("alice"), "{}", trace.history[0].detail);
    let letters = store
        .dead_letters(DeadLetterFilter {
            with_replayed: true,
            ..all_letters()
        })
        .await
        .unwrap();
    let replayed: Vec<_> = letters.iter().map(|letter| letter.replayed_at.clone()).collect();
    assert_eq!(replayed, [None, Some(at(9000).to_string())]);
    assert_eq!(
        store.dead_letters(all_letters()).await.unwrap().len(),
        1,
        "only the open one is listed"
    );
}

pub(crate) async fn a_replayed_delivery_is_sent_again(backend: &impl Backend) {
    let store = backend.open();
    kill_two(&store).await;
    let filter = DeadLetterFilter {
        destination: Some(name("shop")),
        ..all_letters()
    };
    let report = store
        .replay(replay(ReplayWhat::DeadLetters(filter.clone()), false, 9000))
        .await
        .unwrap();
    assert_eq!(report.replayed.len(), 1);
    let claim = claim_outbox_one(&store, at(9000)).await;
    assert_eq!(
        (claim.attempt, claim.epoch, claim.operation_key.as_str()),
        (1, LeaseEpoch(2), "op")
    );
    let end = EntryEnd::Dead { reason: "again".into() };
    assert_eq!(
        store.record_attempt(attempt(&claim, 9000, end)).await.unwrap(),
        AttemptRecorded::Recorded
    );
    let letters = store.dead_letters(filter.clone()).await.unwrap();
    assert_eq!(letters.len(), 1, "it died again: a letter of its own");
    assert_eq!(letters[0].reason, "again");
    assert_eq!(
        store
            .replay(replay(ReplayWhat::DeadLetters(filter), false, 9500))
            .await
            .unwrap()
            .replayed
            .len(),
        1
    );
    let claim = claim_outbox_one(&store, at(9500)).await;
    assert_eq!(
        store
            .record_attempt(attempt(&claim, 9500, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::Recorded
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.delivered, counts.dead_letters_open), (1, 1));
}

pub(crate) async fn a_receipt_is_replayed_whole(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("e1").routes(&["a", "b", "c", "d"]);
    assert_eq!(sent.admit(&store).await, ACCEPTED);
    let claims = claim(&store, at(0), 3).await;
    for (claim, end) in claims
        .iter()
        .zip([JobEnd::Done, JobEnd::Held { reason: "why".into() }, dead("trap")])
    {
        assert!(matches!(
            settle(&store, settlement(claim).end(end)).await,
            Settled::Committed { .. }
        ));
    }
    let request = || replay(again(sent.receipt(&store)), false, 50);
    let report = store.replay(request()).await.unwrap();
    let reasons: Vec<_> = report
        .replayed
        .iter()
        .map(|replayed| replayed.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        ["done", "why", "trap"],
        "the one that still waits is left alone"
    );
    assert_eq!(
        store.dead_letters(all_letters()).await.unwrap().len(),
        0,
        "its dead letter is answered"
    );
    assert_eq!(claim(&store, at(50), 10).await.len(), 4);
    assert_eq!(
        store.replay(request()).await.unwrap().replayed.len(),
        0,
        "all are at work"
    );
}

pub(crate) async fn a_replayed_job_takes_its_old_place_in_the_lane(backend: &impl Backend) {
    let store = backend.open();
    let events: Vec<_> = ["e1", "e2", "e3"].map(|id| Sent::new(id).of("r_1")).into();
    for sent in &events {
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    let first = claim_one(&store, at(0)).await;
    assert!(matches!(
        settle(&store, settlement(&first)).await,
        Settled::Committed { .. }
    ));
    let request = |ms| replay(again(events[0].receipt(&store)), false, ms);

    // Before one that only waits.
    assert_eq!(store.replay(request(1)).await.unwrap().replayed.len(), 1);
    let again = claim_one(&store, at(1)).await;
    assert_eq!(again.event.id.as_str(), "e1");
    assert!(matches!(
        settle(&store, settlement(&again)).await,
        Settled::Committed { .. }
    ));

    // Behind one that runs, before one that waits; and a retry of the younger lets it pass.
    let running = claim_one(&store, at(2)).await;
    assert_eq!(running.event.id.as_str(), "e2");
    assert_eq!(store.replay(request(3)).await.unwrap().replayed.len(), 1);
    assert_eq!(claim(&store, at(3), 10).await.len(), 0, "never two of a lane at once");
    assert!(matches!(
        settle(&store, settlement(&running).end(retry(4))).await,
        Settled::Committed { .. }
    ));
    assert_eq!(finish_all(&store, at(5)).await, ["e1", "e2", "e3"]);

    // The same when the younger one's lease expires.
    assert_eq!(Sent::new("e4").of("r_1").admit(&store).await, ACCEPTED);
    let running = claim_one(&store, at(6)).await;
    assert_eq!(store.replay(request(7)).await.unwrap().replayed.len(), 1);
    let later = at(7 + LEASE_MS);
    let mut order = Vec::new();
    for _ in 0..3 {
        for claim in claim(&store, later, 10).await {
            if order.is_empty() {
                let late = settle(&store, settlement(&running)).await;
                assert_eq!(late, Settled::LeaseLost, "its turn is over while the older one runs");
            }
            order.push(claim.event.id.to_string());
            assert!(matches!(
                settle(&store, settlement(&claim)).await,
                Settled::Committed { .. }
            ));
        }
    }
    assert_eq!(order, ["e1", "e4"]);
    assert_eq!(settle(&store, settlement(&running)).await, Settled::LeaseLost);
}

pub(crate) async fn a_replay_of_what_does_not_exist_says_so(backend: &impl Backend) {
    let store = backend.open();
    for dry_run in [true, false] {
        let missing = DeadLetterFilter {
            id: Some(DeadLetterId(7)),
            ..all_letters()
        };
        let error = store
            .replay(replay(ReplayWhat::DeadLetters(missing), dry_run, 0))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StoreError::NotFound { what } if what == "dead_7"),
            "{error:?}"
        );
        let error = store
            .replay(replay(again(ReceiptId([1; 16])), dry_run, 0))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StoreError::NotFound { what } if what.starts_with("rcpt_0101")),
            "{error:?}"
        );
        assert_eq!(
            store
                .replay(replay(ReplayWhat::DeadLetters(all_letters()), dry_run, 0))
                .await
                .unwrap()
                .replayed
                .len(),
            0
        );
    }
}

// Trace.

pub(crate) async fn every_identifier_leads_to_the_trace(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("other").of("r_9").admit(&store).await, ACCEPTED);
    assert_eq!(finish_all(&store, at(0)).await, ["other"]);
    let sent = Sent::new("e1").of("r_1").status("pending");
    assert_eq!(act(&store, &sent, "cashback:r_1", 1).await, [Verdict::Recorded]);
    let delivery = claim_outbox_one(&store, at(10)).await;
    let end = EntryEnd::Dead { reason: "gone".into() };
    let _ = store.record_attempt(attempt(&delivery, 10, end)).await.unwrap();
    let letter = store.dead_letters(all_letters()).await.unwrap()[0].id;

    let whole = trace_one(&store, &sent).await;
    let run = &whole.jobs[0].runs[0];
    assert_eq!(
        (run.outcome.as_str(), run.fuel, run.duration_us),
        ("completed", 123_456, 2_500)
    );
    assert_eq!(run.logs[0]["message"], "hello");
    for by in [
        TraceBy::Job(whole.jobs[0].id),
        TraceBy::Run(run.id),
        TraceBy::Action(run.actions[0].id),
        TraceBy::Outbox(run.actions[0].deliveries[0].id),
        TraceBy::DeadLetter(letter),
        TraceBy::Text("e1".into()),
        TraceBy::Text("r_1".into()),
        TraceBy::Text("cashback:r_1".into()),
    ] {
        let found = trace(&store, by.clone()).await;
        assert_eq!(found.len(), 1, "{by:?}");
        assert_eq!(
            serde_json::to_value(&found[0]).unwrap(),
            serde_json::to_value(&whole).unwrap(),
            "{by:?}"
        );
    }
    for by in [
        TraceBy::Text("r_2".into()),
        TraceBy::Job(JobId(99)),
        TraceBy::Receipt(ReceiptId([0; 16])),
    ] {
        assert!(trace(&store, by.clone()).await.is_empty(), "{by:?}");
    }

    for number in 2..=5 {
        let late = Sent::new(&format!("e{number}")).of("r_1").status("created");
        assert_eq!(late.admit(&store).await, superseded("pending"));
    }
    assert_eq!(
        trace_text(&store, "r_1").await,
        ["e5", "e4", "e3", "e2", "e1"],
        "newest first, not accepted ones as well"
    );
    let newest = store
        .trace(TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: 2,
        })
        .await
        .unwrap();
    assert_eq!(
        newest
            .iter()
            .map(|trace| trace.receipt.event_id.as_str())
            .collect::<Vec<_>>(),
        ["e5", "e4"]
    );
    let few = TraceQuery {
        by: TraceBy::Text("r_1".into()),
        tenant: None,
        after: None,
        receipts_max: 2,
    };
    assert_eq!(store.trace(few).await.unwrap().len(), 2);
}

pub(crate) async fn a_trace_keeps_to_its_tenant(backend: &impl Backend) {
    let store = backend.open();
    for tenant in ["acme", "globex"] {
        let sent = Sent::new("e1").of("r_1").tenant(tenant);
        assert_eq!(act(&store, &sent, "op", 1).await, [Verdict::Recorded]);
    }
    let whole = trace_one(&store, &Sent::new("e1")).await;
    let count = async |by: TraceBy, tenant: &str| {
        store
            .trace(TraceQuery {
                by,
                tenant: Some(name(tenant)),
                after: None,
                receipts_max: 10,
            })
            .await
            .unwrap()
            .len()
    };
    for text in ["e1", "r_1", "op"] {
        assert_eq!(trace_text(&store, text).await.len(), 2, "{text}");
        assert_eq!(count(TraceBy::Text(text.into()), "acme").await, 1, "{text}");
        assert_eq!(count(TraceBy::Text(text.into()), "initech").await, 0, "{text}");
    }
    assert_eq!(count(TraceBy::Newest, "acme").await, 1);
    assert_eq!(count(TraceBy::Job(whole.jobs[0].id), "acme").await, 1);
    assert_eq!(count(TraceBy::Job(whole.jobs[0].id), "globex").await, 0);
    assert_eq!(count(TraceBy::Receipt(whole.receipt.id), "globex").await, 0);
}

pub(crate) async fn a_trace_shows_what_was_repeated(backend: &impl Backend) {
    let store = backend.open();
    let (first, second) = (Sent::new("e1"), Sent::new("e2"));
    assert_eq!(act(&store, &first, "op", 1).await, [Verdict::Recorded]);
    assert_eq!(act(&store, &second, "op", 1).await, [Verdict::AlreadyDone]);
    let recorded = trace_one(&store, &first).await.jobs[0].runs[0].actions[0].clone();
    let repeated = trace_one(&store, &second).await.jobs[0].runs[0].actions[0].clone();
    assert_eq!(
        (recorded.verdict, repeated.verdict),
        (Verdict::Recorded, Verdict::AlreadyDone)
    );
    assert_eq!(recorded.id, repeated.id, "a repeat leads to the action that stands");
    assert_eq!(repeated.deliveries.len(), 1, "and to where it goes");
    assert_eq!(trace_text(&store, "op").await, ["e2", "e1"]);
    assert_eq!(trace(&store, TraceBy::Action(recorded.id)).await.len(), 2);
}

// Sleeping and waking.

pub(crate) async fn next_due_is_the_earliest(backend: &impl Backend) {
    let store = backend.open();
    let due = store.next_due().await.unwrap();
    assert_eq!((due.job, due.outbox), (None, None));
    assert_eq!(Sent::new("e1").at(100).admit(&store).await, ACCEPTED);
    assert_eq!(Sent::new("e2").at(200).admit(&store).await, ACCEPTED);
    assert_eq!(store.next_due().await.unwrap().job, Some(at(100)));
    let claims = claim(&store, at(200), 10).await;
    assert_eq!(
        store.next_due().await.unwrap().job,
        Some(at(200 + LEASE_MS)),
        "the end of the leases"
    );
    assert!(matches!(
        settle(&store, settlement(&claims[0]).end(retry(900))).await,
        Settled::Committed { .. }
    ));
    assert_eq!(store.next_due().await.unwrap().job, Some(at(900)));
    let mut with_action = settlement(&claims[1]).acts("op", 1).to("shop");
    with_action.run.started_at = at(300);
    assert!(matches!(settle(&store, with_action).await, Settled::Committed { .. }));
    assert_eq!(store.next_due().await.unwrap().outbox, Some(at(302)));
}

pub(crate) async fn the_oldest_that_waits_is_known_whenever_it_is_due(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(store.oldest_waiting().await.unwrap(), OldestWaiting::default());
    for (event, ms) in [("e1", 100), ("e2", 200)] {
        assert_eq!(Sent::new(event).at(ms).admit(&store).await, ACCEPTED);
    }
    let jobs = async || store.oldest_waiting().await.unwrap().job;
    assert_eq!(jobs().await, Some(at(100)));
    let claims = claim(&store, at(200), 10).await;
    assert_eq!(claims[0].due_at, at(100));
    assert_eq!(jobs().await, Some(at(100)), "while it is leased");
    let later = settlement(&claims[0]).end(retry(900));
    assert!(matches!(settle(&store, later).await, Settled::Committed { .. }));
    assert_eq!(jobs().await, Some(at(100)), "while it waits for its next attempt");
    let mut acts = settlement(&claims[1]).acts("op", 1).to("shop");
    acts.run.started_at = at(300);
    assert!(matches!(settle(&store, acts).await, Settled::Committed { .. }));
    let again = claim_one(&store, at(950)).await;
    assert_eq!(again.due_at, at(900));
    assert!(matches!(
        settle(&store, settlement(&again)).await,
        Settled::Committed { .. }
    ));
    let delivery = Some(at(302));
    assert_eq!(
        store.oldest_waiting().await.unwrap(),
        OldestWaiting { job: None, delivery }
    );
    let entry = claim_outbox_one(&store, at(1_000)).await;
    assert_eq!(store.oldest_waiting().await.unwrap().delivery, delivery);
    let delivered = attempt(&entry, 1_000, EntryEnd::Delivered);
    assert_eq!(
        store.record_attempt(delivered).await.unwrap(),
        AttemptRecorded::Recorded
    );
    assert_eq!(store.oldest_waiting().await.unwrap(), OldestWaiting::default());
}

/// Whether the signal has woken since it was asked last.
async fn woken(ready: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(std::time::Duration::from_millis(50), ready)
        .await
        .is_ok()
}

pub(crate) async fn signals_wake_when_work_is_ready(backend: &impl Backend) {
    let store = backend.open();
    assert!(!woken(store.work_ready()).await);
    assert_eq!(Sent::new("e1").of("r_1").admit(&store).await, ACCEPTED);
    assert!(woken(store.work_ready()).await);
    assert_eq!(
        Sent::new("e1").of("r_1").admit(&store).await,
        Admitted::Same { delivery: 2 }
    );
    assert_eq!(Sent::new("e2").of("r_1").admit(&store).await, ACCEPTED);
    assert!(
        !woken(store.work_ready()).await,
        "neither a redelivery nor a job that must wait is work"
    );
    let claim = claim_one(&store, at(0)).await;
    assert!(!woken(store.outbox_ready()).await);
    assert!(matches!(
        settle(&store, settlement(&claim).acts("op", 1).to("shop")).await,
        Settled::Committed { .. }
    ));
    assert!(woken(store.work_ready()).await, "the lane's next");
    assert!(woken(store.outbox_ready()).await);
}

// The whole.

pub(crate) async fn counts_count(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(store.counts().await.unwrap(), Counts::default());
    kill_two(&store).await;
    assert_eq!(
        Sent::new("e2").tenant("globex").admit(&store).await,
        Admitted::Same { delivery: 2 }
    );
    assert_eq!(
        Sent::new("e2").tenant("globex").body("x").admit(&store).await,
        Admitted::Conflict { delivery: 3 }
    );
    assert_eq!(
        Sent::new("e3").of("r_3").status("completed").admit(&store).await,
        ACCEPTED
    );
    assert_eq!(
        Sent::new("e4").of("r_3").status("pending").admit(&store).await,
        superseded("completed")
    );
    assert!(matches!(
        Sent::new("e5").of("r_3").status("nope").admit(&store).await,
        Admitted::New(Disposition::Held { .. })
    ));
    assert_eq!(finish_all(&store, at(0)).await, ["e3"]);
    assert_eq!(act(&store, &Sent::new("e6").at(1), "op", 9).await, [Verdict::Recorded]);
    assert_eq!(Sent::new("e7").at(2).of("r_7").admit(&store).await, ACCEPTED);
    assert_eq!(Sent::new("e8").at(3).of("r_7").admit(&store).await, ACCEPTED);
    let expect = Counts {
        receipts: 8,
        redeliveries: 1,
        conflicts: 1,
        suspected_replays: 0,
        superseded: 1,
        held: 1,
        held_jobs: 0,
        conflicts_open: 1,
        ledger_conflicts_open: 0,
        jobs_waiting: 2,
        jobs_done: 3,
        runs: 4,
        actions: 2,
        outbox_waiting: 1,
        delivered: 0,
        dead_letters_open: 2,
        bounded: false,
    };
    assert_eq!(store.counts().await.unwrap(), expect);
}

pub(crate) async fn reopening_keeps_everything_and_frees_leases(backend: &impl Backend) {
    let store = backend.open();
    let key = store.receipt_key().expose().to_vec();
    let sent = Sent::new("e1").of("r_1").status("completed");
    assert_eq!(act(&store, &sent, "op", 1).await, [Verdict::Recorded]);
    assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    let job = claim_one(&store, at(1)).await;
    let entry = claim_outbox_one(&store, at(10)).await;
    let before = serde_json::to_value(trace_one(&store, &sent).await.receipt).unwrap();
    store.close().await;
    drop(store);

    let store = backend.open();
    assert_eq!(store.receipt_key().expose(), key, "the key is drawn once");
    assert_eq!(
        serde_json::to_value(trace_one(&store, &sent).await.receipt).unwrap(),
        before
    );
    assert_eq!(sent.admit(&store).await, Admitted::Same { delivery: 2 });
    assert_eq!(
        Sent::new("e3").of("r_1").status("pending").admit(&store).await,
        superseded("completed")
    );
    let job_again = claim_one(&store, at(2)).await;
    assert_eq!(
        (job_again.job, job_again.epoch, job_again.attempt),
        (job.job, LeaseEpoch(2), 2)
    );
    let entry_again = claim_outbox_one(&store, at(11)).await;
    assert_eq!(
        (entry_again.entry, entry_again.epoch, entry_again.attempt),
        (entry.entry, LeaseEpoch(2), 2)
    );
    assert_eq!(
        settle(&store, settlement(&job)).await,
        Settled::LeaseLost,
        "the dead process's lease is gone"
    );
    assert!(matches!(
        settle(&store, settlement(&job_again)).await,
        Settled::Committed { .. }
    ));
    assert_eq!(backend.problems(&store), [] as [String; 0]);
}

pub(crate) async fn a_closed_store_says_so(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let other = store.clone();
    store.close().await;
    store.close().await;
    assert!(matches!(
        other.admit(vec![Sent::new("e2").admission(&other)]).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(other.counts().await, Err(StoreError::Closed)));
    assert!(matches!(
        other.blocking().read_state(&name("acme"), &name("cashback"), "k"),
        Err(StoreError::Closed)
    ));
}

pub(crate) async fn what_does_not_exist_is_not_found(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(act(&store, &Sent::new("e1"), "op", 1).await, [Verdict::Recorded]);
    assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    let mut settlement = settlement(&claim_one(&store, at(0)).await);
    settlement.job = JobId(77);
    let error = store.settle(settlement).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NotFound { what } if what == "job_77"),
        "{error:?}"
    );
    let mut claim = claim_outbox_one(&store, at(10)).await;
    claim.entry = OutboxId(77);
    let error = store
        .record_attempt(attempt(&claim, 0, EntryEnd::Delivered))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::NotFound { what } if what == "out_77"),
        "{error:?}"
    );
}

pub(crate) async fn integrity_is_well_after_work(backend: &impl Backend) {
    let store = backend.open();
    kill_two(&store).await;
    for number in 0..50 {
        let sent = Sent::new(&format!("n{number}"))
            .of(&format!("r_{}", number % 7))
            .status("pending");
        assert!(matches!(sent.admit(&store).await, Admitted::New(_)));
    }
    assert_eq!(backend.problems(&store), [""; 0]);
    assert_eq!(store.counts().await.unwrap().receipts, 52);
}

pub(crate) async fn recorded_runs_come_back_with_all_that_they_read(backend: &impl Backend) {
    let store = backend.open();
    for number in 1..=5 {
        let sent = Sent::new(&format!("e{number}")).tenant(if number == 3 { "globex" } else { "acme" });
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    let mut runs = Vec::new();
    let mut claims = claim(&store, at(0), 10).await;
    claims.sort_by_key(|claim| claim.event.id.to_string());
    for (claim, number) in claims.iter().zip(1..) {
        let mut settlement = settlement(claim)
            .acts(&format!("flag:{}", number.min(2_u8)), 7)
            .reads("seen", 0, None)
            .reads("total", 0, None)
            .writes(&format!("k{number}"), Some(b"v"));
        settlement.run.digest = Digest([u8::from(number > 3); 32]);
        settlement.run.config = format!(r#"{{"n":{number}}}"#);
        settlement.run.config_digest = Digest::of(settlement.run.config.as_bytes());
        settlement.run.started_at = at(i64::from(number));
        match settle(&store, settlement).await {
            Settled::Committed { run, .. } => runs.push(run),
            other => panic!("{other:?}"),
        }
    }
    let all = RecordedRunFilter {
        rows_max: 100,
        ..RecordedRunFilter::default()
    };
    let found = store.recorded_runs(all.clone()).await.unwrap();
    assert_eq!(
        found.iter().map(|run| run.id).collect::<Vec<_>>(),
        runs,
        "the oldest first"
    );
    let one = &found[3];
    assert_eq!(
        (one.event.id.as_str(), one.event.payload.as_ref()),
        ("e4", &br#"{"id":"e4"}"#[..])
    );
    assert_eq!((one.config.as_str(), one.digest), (r#"{"n":4}"#, Digest([1; 32])));
    let read: Vec<_> = one.reads.iter().map(|read| (read.key.as_str(), read.version)).collect();
    assert_eq!(read, [("seen", 0), ("total", 0)]);
    // Repeated ones are what the run proposed as well.
    let keys: Vec<_> = found.iter().map(|run| run.actions[0].0.to_string()).collect();
    assert_eq!(keys, ["flag:1", "flag:2", "flag:2", "flag:2", "flag:2"]);

    let count = async |filter| store.recorded_runs(filter).await.unwrap().len();
    let base = || all.clone();
    assert_eq!(
        count(RecordedRunFilter {
            run: Some(runs[1]),
            ..base()
        })
        .await,
        1
    );
    assert_eq!(
        count(RecordedRunFilter {
            tenant: Some(name("globex")),
            ..base()
        })
        .await,
        1
    );
    assert_eq!(
        count(RecordedRunFilter {
            route: Some(name("other")),
            ..base()
        })
        .await,
        0
    );
    assert_eq!(
        count(RecordedRunFilter {
            plugin: Some(found[0].plugin.clone()),
            ..base()
        })
        .await,
        5
    );
    assert_eq!(
        count(RecordedRunFilter {
            digest: Some(Digest([1; 32])),
            ..base()
        })
        .await,
        2
    );
    assert_eq!(
        count(RecordedRunFilter {
            since: Some(at(4)),
            ..base()
        })
        .await,
        2
    );
    assert_eq!(
        count(RecordedRunFilter {
            after: Some(runs[3]),
            ..base()
        })
        .await,
        1
    );
    assert_eq!(count(RecordedRunFilter { rows_max: 2, ..base() }).await, 2);
}

pub(crate) async fn tokens_are_kept_listed_and_revoked(backend: &impl Backend) {
    let store = backend.open();
    let token = |fill: u8, tenant: Option<&str>| NewToken {
        digest: Digest([fill; 32]),
        name: format!("token {fill}"),
        role: Role::Viewer,
        tenant: tenant.map(name),
        created_by: "me".to_owned(),
        why: format!("ticket {fill}"),
        now: at(1),
        expires_at: tenant.map(|_| at(9)),
        look: Appearance::default(),
    };
    let first = store.issue_token(token(1, Some("acme"))).await.unwrap();
    let second = store.issue_token(token(2, None)).await.unwrap();
    assert!(
        store.issue_token(token(2, None)).await.is_err(),
        "a digest means one token"
    );
    let end = |by: &str, when: i64| Revocation {
        by: by.to_owned(),
        why: format!("{by} saw it in a log"),
        at: at(when),
    };
    assert!(store.revoke_token(first, end("you", 5)).await.unwrap());
    assert!(!store.revoke_token(first, end("she", 6)).await.unwrap());
    let missing = store.revoke_token(TokenId(99), end("you", 5)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    store.close().await;
    drop(store);
    let found = backend.open().tokens().await.unwrap();
    assert_eq!(found.iter().map(|token| token.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!(
        (found[0].tenant.as_ref(), found[0].expires_at, &found[0].revoked),
        (None, None, &None)
    );
    let revoked = &found[1];
    assert_eq!((revoked.digest, revoked.role), (Digest([1; 32]), Role::Viewer));
    assert_eq!(
        (revoked.expires_at, &revoked.revoked),
        (Some(at(9)), &Some(end("you", 5)))
    );
}

pub(crate) async fn portal_links_are_kept_with_what_they_list(backend: &impl Backend) {
    let store = backend.open();
    let link = |number: u32, made: i64| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        NewToken {
            digest: Digest(digest),
            name: format!("ana {number}"),
            role: Role::Portal("read,replay".parse().unwrap()),
            tenant: Some(name("acme")),
            created_by: "me".to_owned(),
            why: "a visit".to_owned(),
            now: at(made),
            expires_at: Some(at(made + 10)),
            look: Appearance {
                accent: Some("#0a7".parse().unwrap()),
                scheme: Some(Scheme::Dark),
            },
        }
    };
    let first = store.issue_token(link(0, 0)).await.unwrap();
    let viewer = NewToken {
        role: Role::Viewer,
        expires_at: Some(at(1)),
        look: Appearance::default(),
        ..link(1, 0)
    };
    let viewer = store.issue_token(viewer).await.unwrap();
    let open = store.issue_token(link(2, 1_000_000)).await.unwrap();
    store.close().await;
    drop(store);
    let store = backend.open();
    let found = store.tokens().await.unwrap();
    let kept = found.iter().find(|token| token.id == first).unwrap();
    assert_eq!(
        (kept.role, kept.look),
        (link(0, 0).role, link(0, 0).look),
        "what it lists, and how it looks"
    );
    assert!(kept.is_valid(at(9)) && !kept.is_valid(at(10)));
    // Of those that are over the newest are kept; what is open or is no link stays whatever its age.
    let many = u32::try_from(limits::PORTAL_LINKS_OVER_MAX).unwrap() + 20;
    for number in 0..many {
        store
            .issue_token(link(number + 10, i64::from(number) * 11))
            .await
            .unwrap();
    }
    let found = store.tokens().await.unwrap();
    let last = i64::from(many - 1) * 11;
    let over = found
        .iter()
        .filter(|token| matches!(token.role, Role::Portal(_)) && !token.is_valid(at(last)));
    assert_eq!(over.count() as u64, limits::PORTAL_LINKS_OVER_MAX);
    let has = |id| found.iter().any(|token| token.id == id);
    assert!(!has(first) && has(viewer) && has(open));
}

pub(crate) async fn tenants_take_turns(backend: &impl Backend) {
    let store = backend.open();
    // A storm of one tenant's, and afterwards a few of two others.
    for number in 0..40 {
        assert_eq!(
            Sent::new(&format!("s{number}")).tenant("storm").admit(&store).await,
            ACCEPTED
        );
    }
    for tenant in ["acme", "zeta"] {
        for number in 0..3 {
            assert_eq!(
                Sent::new(&format!("e{number}")).tenant(tenant).admit(&store).await,
                ACCEPTED
            );
        }
    }
    let of = |claims: &[JobClaim]| -> Vec<String> {
        let mut tenants: Vec<_> = claims.iter().map(|claim| claim.event.tenant.to_string()).collect();
        tenants.sort();
        tenants
    };
    let first = claim(&store, at(0), 6).await;
    assert_eq!(of(&first), ["acme", "acme", "storm", "storm", "zeta", "zeta"]);
    // One at a time, in turn.
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.extend(of(&claim(&store, at(0), 1).await));
    }
    turns.sort();
    assert_eq!(turns, ["acme", "storm", "zeta"]);
    // Who has nothing left leaves its share to the others.
    let rest = claim(&store, at(0), 10).await;
    assert_eq!(of(&rest), ["storm"; 10]);
    // Of a tenant that is passed over nothing is claimed, also when nobody else has anything.
    let request = ClaimRequest {
        passed_over: vec![name("storm")],
        ..claim_request(at(0), 10)
    };
    assert_eq!(of(&store.claim_jobs(request).await.unwrap()), [] as [String; 0]);
    assert_eq!(of(&claim(&store, at(0), 100).await).len(), 40 - 2 - 1 - 10);
    assert_eq!(store.next_due().await.unwrap().job, Some(at(0).plus_ms(LEASE_MS)));
}

/// A run that waits behind others longer than its lease keeps its job, as long as it says so in time.
pub(crate) async fn a_lease_is_extended_by_who_holds_it(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let held = claim(&store, at(0), 1).await.remove(0);
    assert!(
        store
            .extend_lease(held.job, held.epoch, at(3 * LEASE_MS))
            .await
            .unwrap()
    );
    assert_eq!(claim(&store, at(2 * LEASE_MS), 1).await.len(), 0, "it is held still");
    assert_eq!(store.next_due().await.unwrap().job, Some(at(3 * LEASE_MS)));

    let taken_over = claim(&store, at(3 * LEASE_MS), 1).await.remove(0);
    assert_eq!((taken_over.job, taken_over.attempt), (held.job, 2));
    assert!(
        !store
            .extend_lease(held.job, held.epoch, at(9 * LEASE_MS))
            .await
            .unwrap(),
        "who lost the lease cannot have it back"
    );
    assert_eq!(store.next_due().await.unwrap().job, Some(at(4 * LEASE_MS)));
}

pub(crate) async fn who_has_nothing_due_takes_nobodys_turn(backend: &impl Backend) {
    let store = backend.open();
    // All of these are leased, and only one more seat is free.
    for tenant in ["acme", "storm", "zeta"] {
        assert_eq!(Sent::new("busy").tenant(tenant).admit(&store).await, ACCEPTED);
    }
    assert_eq!(claim(&store, at(0), 10).await.len(), 3);
    for tenant in ["zeta", "acme", "storm"] {
        assert_eq!(Sent::new("due").tenant(tenant).admit(&store).await, ACCEPTED);
        assert_eq!(event_ids(&claim(&store, at(0), 1).await), ["due"], "of {tenant}");
        assert_eq!(event_ids(&claim(&store, at(0), 1).await), [""; 0]);
    }
}

pub(crate) async fn state_keeps_to_its_total(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3", "e4", "e5", "e6"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 10).await;
    let bounded = |at: usize, most: u64| Settlement {
        state_total_max: Some(most),
        ..settlement(&claims[at])
    };
    let committed = |settled| matches!(settled, Settled::Committed { .. });
    // A key of one byte and a value of nine.
    let ten = [b'v'; 9];
    assert!(committed(settle(&store, bounded(0, 10).writes("a", Some(&ten))).await));
    let over = settle(&store, bounded(1, 19).writes("b", Some(&ten))).await;
    assert_eq!(over, Settled::OverQuota { bytes: 20 });
    assert_eq!(read(&store, "b").value, None, "nothing was written");
    // The same job once more: what is no more than before, or less, is never too much.
    assert!(committed(
        settle(&store, bounded(1, 0).writes("a", Some(&[b'w'; 9]))).await
    ));
    assert!(committed(settle(&store, bounded(2, 0).writes("a", None)).await));
    assert!(committed(settle(&store, bounded(3, 10).writes("b", Some(&ten))).await));
    assert_eq!(
        settle(&store, bounded(4, 10).writes("c", Some(b""))).await,
        Settled::OverQuota { bytes: 11 }
    );
    assert!(committed(
        settle(&store, bounded(4, 10).writes("b", None).writes("c", Some(&ten))).await
    ));
    // Without a bound it may grow, and is counted all the same.
    assert!(committed(
        settle(&store, settlement(&claims[5]).writes("d", Some(&ten))).await
    ));
    store.close().await;
    drop(store);
    let store = backend.open();
    assert_eq!(Sent::new("e7").admit(&store).await, ACCEPTED);
    let claim = claim_one(&store, at(1)).await;
    let next = Settlement {
        state_total_max: Some(20),
        ..settlement(&claim)
    };
    assert_eq!(
        settle(&store, next.writes("e", Some(b""))).await,
        Settled::OverQuota { bytes: 21 }
    );
}

/// Those that share a transaction count each other.
pub(crate) async fn state_keeps_to_its_total_however_many_settle_at_once(backend: &impl Backend) {
    let store = backend.open();
    for number in 0..12 {
        assert_eq!(Sent::new(&format!("e{number}")).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 12).await;
    let settling = claims.iter().enumerate().map(|(number, claim)| {
        let bounded = Settlement {
            state_total_max: Some(50),
            ..settlement(claim)
        };
        // A key of two bytes and a value of eight.
        store.settle(bounded.writes(&format!("{number:02}"), Some(&[b'v'; 8])))
    });
    let settled = at_once(settling).await;
    let over = settled
        .iter()
        .filter(|settled| matches!(settled, Ok(Settled::OverQuota { bytes: 60 })))
        .count();
    let committed = settled
        .iter()
        .filter(|settled| matches!(settled, Ok(Settled::Committed { .. })))
        .count();
    assert_eq!((committed, over), (5, 7), "{settled:?}");
}

pub(crate) async fn w6_budgets_are_counted_in_the_commit_that_records(backend: &impl Backend) {
    let store = backend.open();
    let events: Vec<String> = (1..=6).map(|number| format!("e{number}")).collect();
    for id in &events {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 10).await;
    let (a_day, each) = (dollars(Window::Day, 1_000), times(Window::Hour, 2));
    let bounded = |at: usize| settlement(&claims[at]).within(&[a_day, each]);
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 0, 1_000)]);
    assert_eq!(spent(&store, each, at(0)).await, []);

    let both = bounded(0).credits("k1", "ann", 300).credits("k2", "bob", 200);
    assert!(matches!(settle(&store, both).await, Settled::Committed { .. }));
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 500, 500)]);
    assert_eq!(
        spent(&store, each, at(0)).await,
        [("ann".into(), 1, 1), ("bob".into(), 1, 1)]
    );

    // All or nothing: what fits goes no more than what does not.
    let two = bounded(1).credits("k3", "ann", 100).credits("k4", "cid", 401);
    let Settled::OverBudget(over) = settle(&store, two.writes("limit", Some(b"1"))).await else {
        panic!("it is over")
    };
    assert_eq!(
        over.to_string(),
        "over the budget of 10.00 USD a day for `credit`: 5.00 USD spent, 5.01 USD more asked for; the day ends at 2026-05-06T00:00:00.000Z"
    );
    assert_eq!(store.counts().await.unwrap().actions, 2);
    assert_eq!(read(&store, "limit").value, None, "nothing was written");
    assert_eq!(spent(&store, each, at(0)).await.len(), 2);
    // The same lease settles it, held: it waits for a person.
    let held = settlement(&claims[1]).end(JobEnd::Held {
        reason: over.to_string(),
    });
    assert!(matches!(settle(&store, held).await, Settled::Committed { .. }));
    assert_eq!(store.counts().await.unwrap().held_jobs, 1);

    // To the last cent, and to the last one of an account.
    let last = bounded(2).credits("k5", "ann", 500);
    assert!(matches!(settle(&store, last).await, Settled::Committed { .. }));
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 1_000, 0)]);
    let third = |claim: &JobClaim| settlement(claim).within(&[each]).credits("k6", "ann", 1);
    let Settled::OverBudget(over) = settle(&store, third(&claims[3])).await else {
        panic!("it is the account's third")
    };
    assert_eq!((over.spending.account.as_str(), over.spent), ("ann", 2));

    // What is no route's budget any more, or of another route or kind, bounds nothing.
    let free = settlement(&claims[4]).credits("k7", "ann", 9_000).acts("k7", 1);
    assert!(matches!(settle(&store, free).await, Settled::Committed { .. }));
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 1_000, 0)]);

    store.close().await;
    drop(store);
    let store = backend.open();
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 1_000, 0)]);
    assert_eq!(spent(&store, each, at(0)).await[0], ("ann".into(), 2, 0));
    // The next window begins whole.
    assert_eq!(spent(&store, each, at(3_600_000)).await, []);
    let claims = claim(&store, at(LEASE_MS + 1), 10).await;
    let next = |minor_units| {
        third(&claims[0])
            .within(&[each, a_day])
            .credits("k8", "bob", minor_units)
    };
    let still = settle(&store, next(1).started_at(at(3_600_000))).await;
    assert!(
        matches!(still, Settled::OverBudget(_)),
        "the day is the same: {still:?}"
    );
    let tomorrow = settle(&store, next(999).started_at(at(14 * 3_600_000))).await;
    assert!(matches!(tomorrow, Settled::Committed { .. }), "{tomorrow:?}");
    assert_eq!(
        spent(&store, a_day, at(14 * 3_600_000)).await,
        [(String::new(), 1_000, 0)]
    );
}

pub(crate) async fn w6_what_repeats_or_conflicts_takes_nothing_of_a_budget(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3", "e4"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let claims = claim(&store, at(0), 10).await;
    let a_day = dollars(Window::Day, 1_000);
    let bounded = |at: usize| settlement(&claims[at]).within(&[a_day]);
    let settled = async |settlement| match settle(&store, settlement).await {
        Settled::Committed { verdicts, .. } => verdicts,
        other => panic!("{other:?}"),
    };
    assert_eq!(settled(bounded(0).credits("k1", "ann", 900)).await, [Verdict::Recorded]);
    assert_eq!(
        settled(bounded(1).credits("k1", "ann", 900)).await,
        [Verdict::AlreadyDone]
    );
    // The conflict would not fit, and what is new beside it does.
    let beside = bounded(2).credits("k1", "ann", 950).credits("k2", "bob", 50);
    assert_eq!(settled(beside).await, [Verdict::Conflict, Verdict::Recorded]);
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 950, 50)]);

    // Where a person has the conflict recorded as well, it is money that goes: also beyond the budget.
    let conflict = SetAsideFilter {
        kind: Some(SetAsideKind::LedgerConflict),
        ..held_filter()
    };
    let conflict: ActionId = store.set_aside(conflict).await.unwrap()[0].id.parse().unwrap();
    let record = ReviewDecision::Record {
        operation_key: name("k1-again"),
        targets: Targets::default(),
        budgets: vec![a_day],
    };
    let answer = store
        .review(decision(Target::Action(conflict), record, 10))
        .await
        .unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 1_900, 0)]);
    // Proposed again it is a repeat, also now that nothing is left.
    assert_eq!(
        settled(bounded(3).credits("k1", "ann", 950)).await,
        [Verdict::AlreadyDone]
    );

    // A replay of what was recorded takes nothing either.
    let receipt = Sent::new("e1").receipt(&store);
    let again = ReplayWhat::Receipt {
        receipt,
        jobs: Vec::new(),
    };
    assert_eq!(store.replay(replay(again, false, 20)).await.unwrap().replayed.len(), 1);
    let claim = claim_one(&store, at(30)).await;
    let again = settlement(&claim).within(&[a_day]).credits("k1", "ann", 900);
    assert_eq!(settled(again).await, [Verdict::AlreadyDone]);
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 1_900, 0)]);
}

pub(crate) async fn w6_a_race_never_spends_a_budget_twice(backend: &impl Backend) {
    let store = backend.open();
    for number in 0..20 {
        assert_eq!(Sent::new(&format!("e{number}")).admit(&store).await, ACCEPTED);
    }
    let a_day = dollars(Window::Day, 700);
    let mut racing = Vec::new();
    for (number, claim) in claim(&store, at(0), 20).await.into_iter().enumerate() {
        let (store, key) = (store.clone(), format!("k{number}"));
        let settlement = settlement(&claim).within(&[a_day]).credits(&key, "ann", 100);
        racing.push(tokio::spawn(async move { settle(&store, settlement).await }));
    }
    let (mut recorded, mut over) = (0, 0);
    for settled in racing {
        match settled.await.unwrap() {
            Settled::Committed { .. } => recorded += 1,
            Settled::OverBudget(_) => over += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((recorded, over), (7, 13));
    assert_eq!(store.counts().await.unwrap().actions, 7);
    assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 700, 0)]);
}

pub(crate) async fn w6_a_person_lets_a_job_go_beyond_its_budget_once(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("e1");
    hold_jobs(&store, &[&sent, &Sent::new("e2")], 100).await;
    let held = store.set_aside(held_filter()).await.unwrap();
    let job: JobId = held[1].id.parse().unwrap();
    let a_day = dollars(Window::Day, 100);
    let beyond = decision(Target::Job(job), ReviewDecision::RunBeyondBudget, 200);
    let answer = store.review(beyond.clone()).await.unwrap();
    assert!(
        matches!(&answer, ReviewAnswer::Reviewed(report) if report.reviewed == Reviewed::RunBeyondBudget),
        "{answer:?}"
    );
    assert_eq!(store.review(beyond).await.unwrap(), ReviewAnswer::NotHeld);
    // Another try of it is still let go.
    let first = claim_one(&store, at(210)).await;
    let again = JobEnd::RetryAt {
        at: at(220),
        reason: "busy".into(),
    };
    let tried = settlement(&first).within(&[a_day]).end(again);
    assert!(matches!(settle(&store, tried).await, Settled::Committed { .. }));
    let second = claim_one(&store, at(220)).await;
    let done = settlement(&second).within(&[a_day]).credits("k1", "ann", 900);
    assert!(matches!(settle(&store, done).await, Settled::Committed { .. }));
    assert_eq!(
        spent(&store, a_day, at(0)).await,
        [(String::new(), 900, 0)],
        "it is counted like all others"
    );
    let trace = trace_one(&store, &sent).await;
    let said = "job_1 run again beyond its budgets by ann: looked at";
    assert!(
        trace.history.iter().any(|line| line.detail == said),
        "{:?}",
        trace.history
    );

    // That was the once: a replay of the same job is bound again, and so is the other that is only run.
    let again = ReplayWhat::Receipt {
        receipt: sent.receipt(&store),
        jobs: Vec::new(),
    };
    assert_eq!(store.replay(replay(again, false, 300)).await.unwrap().replayed.len(), 1);
    let run = decision(Target::Job(held[0].id.parse().unwrap()), ReviewDecision::Run, 310);
    assert!(matches!(store.review(run).await.unwrap(), ReviewAnswer::Reviewed(_)));
    for (number, claim) in claim(&store, at(320), 10).await.iter().enumerate() {
        let bounded = settlement(claim)
            .within(&[a_day])
            .credits(&format!("new{number}"), "ann", 1);
        let settled = settle(&store, bounded).await;
        assert!(matches!(settled, Settled::OverBudget(_)), "{settled:?}");
    }
    let of_nobody = decision(Target::Delivery(DeliveryId(99)), ReviewDecision::RunBeyondBudget, 330);
    assert!(matches!(
        store.review(of_nobody).await,
        Ok(ReviewAnswer::NotHeld) | Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn w6_counts_of_past_windows_go_and_those_of_now_stay(backend: &impl Backend) {
    const HOUR: i64 = 3_600_000;
    let store = backend.open();
    let each = times(Window::Hour, 9);
    let a_month = dollars(Window::Month, 1_000_000);
    let long = "é".repeat(500);
    for number in 0..40 {
        assert_eq!(Sent::new(&format!("e{number}")).admit(&store).await, ACCEPTED);
        let claim = claim_one(&store, at(0)).await;
        let now = at(number * HOUR);
        let account = if number % 2 == 0 { "ann" } else { long.as_str() };
        let settlement = settlement(&claim).within(&[each, a_month]).started_at(now);
        let settled = settle(&store, settlement.credits(&format!("k{number}"), account, 10)).await;
        assert!(matches!(settled, Settled::Committed { .. }), "{settled:?}");
        assert_eq!(spent(&store, each, now).await.len(), 1);
        assert_eq!(spent(&store, a_month, now).await[0].1, 10 * (number + 1));
    }
    // A host whose clock is behind finds what was counted a little before; what is long past is not kept.
    assert_eq!(spent(&store, each, at(30 * HOUR)).await.len(), 1);
    assert_eq!(spent(&store, each, at(0)).await, []);
    let asked = BudgetAsked {
        tenant: name("acme"),
        route: name("cashback"),
        budget: each,
    };
    let of_one = store
        .budgets(vec![asked], Some(long.clone()), at(39 * HOUR))
        .await
        .unwrap();
    assert_eq!(of_one[0].spent.len(), 1);
    assert_eq!((of_one[0].spent[0].spent, of_one[0].spent[0].left), (1, 8));
    let shown = of_one[0].spent[0].account.as_ref().unwrap();
    assert!(shown.starts_with('é') && shown.len() < 256, "{shown}");
}

/// Somebody pauses or resumes something.
fn by_ann(what: &str, ms: i64) -> Act {
    Act {
        actor: "ann".into(),
        why: Some(what.into()),
        at: at(ms),
        dry_run: false,
    }
}

pub(crate) async fn p10_a_paused_route_begins_nothing_and_loses_nothing(backend: &impl Backend) {
    let store = backend.open();
    let both = ["cashback", "fraud"];
    let sent: Vec<_> = ["e1", "e2"]
        .map(|id| Sent::new(id).of("r_1").routes(&["cashback", "fraud"]))
        .into();
    for event in &sent {
        assert_eq!(event.admit(&store).await, ACCEPTED);
    }
    let of = |claims: &[JobClaim]| -> Vec<String> {
        claims
            .iter()
            .map(|claim| format!("{} {}", claim.event.id, claim.route))
            .collect()
    };
    // One has begun; it goes on to its end.
    let begun = claim(&store, at(0), 1).await;
    assert_eq!(of(&begun), [format!("e1 {}", both[0])]);
    let route = Place::Route(name(both[0]));
    let planned = Act {
        dry_run: true,
        ..by_ann("a look", 1)
    };
    let planned = store.pause(name("acme"), route.clone(), planned).await.unwrap();
    assert_eq!((planned.actor.as_str(), planned.why.as_str()), ("ann", "a look"));
    assert_eq!(store.pauses().await.unwrap(), []);
    let paused = store
        .pause(name("acme"), route.clone(), by_ann("too much", 1))
        .await
        .unwrap();
    assert_eq!(store.pauses().await.unwrap(), std::slice::from_ref(&paused));
    let again = store
        .pause(name("acme"), route.clone(), by_ann("twice", 2))
        .await
        .unwrap();
    assert_eq!(again, paused, "it stays as it was");
    // Another tenant's route of that name runs.
    let other = Sent::new("x1").tenant("globex").routes(&["cashback"]);
    assert_eq!(other.admit(&store).await, ACCEPTED);
    let claims = claim(&store, at(10), 10).await;
    assert_eq!(of(&claims), ["x1 cashback", "e1 fraud"]);
    for claim in claims.iter().chain(&begun) {
        assert!(matches!(
            settle(&store, settlement(claim)).await,
            Settled::Committed { .. }
        ));
    }
    // The next of its lane is ready, and begins neither now nor much later, nor after a restart.
    assert_eq!(of(&claim(&store, at(20), 10).await), ["e2 fraud"]);
    assert_eq!(of(&claim(&store, at(25), 10).await), Vec::<String>::new());
    assert_eq!(
        store.next_due().await.unwrap().job,
        Some(at(20 + LEASE_MS)),
        "nobody wakes for what waits"
    );
    store.close().await;
    let store = backend.open();
    let month = 30 * 86_400_000;
    assert!(!of(&claim(&store, at(month), 10).await).contains(&"e2 cashback".to_owned()));
    assert_eq!(store.counts().await.unwrap().jobs_waiting, 2);
    assert_eq!(store.pauses().await.unwrap(), std::slice::from_ref(&paused));

    let ended = store
        .resume(name("acme"), route.clone(), by_ann("well again", month))
        .await
        .unwrap();
    assert_eq!(ended, Some(paused));
    assert_eq!(
        store
            .resume(name("acme"), route.clone(), by_ann("twice", month))
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.pauses().await.unwrap(), []);
    let claims = claim(&store, at(month + 1), 10).await;
    assert_eq!(of(&claims), ["e2 cashback"]);
    assert!(matches!(
        settle(&store, settlement(&claims[0])).await,
        Settled::Committed { .. }
    ));
    assert_eq!(backend.problems(&store), Vec::<String>::new());
}

pub(crate) async fn p10_many_jobs_that_waited_for_a_pause_are_due_again_a_few_at_a_time(backend: &impl Backend) {
    const JOBS: usize = 600;
    let store = backend.open();
    for number in 0..JOBS {
        assert_eq!(Sent::new(&format!("e{number}")).admit(&store).await, ACCEPTED);
    }
    let route = Place::Route(name("cashback"));
    let claimed = async |ms| claim(&store, at(ms), 64).await.len();
    store
        .pause(name("acme"), route.clone(), by_ann("now", 1))
        .await
        .unwrap();
    // Each claim puts some off, and the last ones look at nothing any more.
    for _ in 0..JOBS / 64 + 2 {
        assert_eq!(claimed(2).await, 0);
    }
    assert_eq!(store.next_due().await.unwrap().job, None);
    store
        .resume(name("acme"), route.clone(), by_ann("go on", 3))
        .await
        .unwrap();
    assert_eq!(claimed(4).await, 64);
    // Paused again before all were due: none begins, and none is forgotten.
    store
        .pause(name("acme"), route.clone(), by_ann("stop", 5))
        .await
        .unwrap();
    for _ in 0..JOBS / 64 + 2 {
        assert_eq!(claimed(6).await, 0);
    }
    store.resume(name("acme"), route, by_ann("go on", 7)).await.unwrap();
    let mut seen = 64;
    for _ in 0..JOBS / 64 + 2 {
        seen += claimed(8).await;
    }
    assert_eq!(seen, JOBS, "each once");
}

pub(crate) async fn p10_a_paused_destination_gets_nothing_and_loses_nothing(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let job = claim_one(&store, at(0)).await;
    let proposed = settlement(&job).acts("op", 1).to("ledger").to("mirror");
    assert!(matches!(settle(&store, proposed).await, Settled::Committed { .. }));
    let ledger = Place::Destination(name("ledger"));
    let paused = store
        .pause(name("acme"), ledger.clone(), by_ann("they move", 1))
        .await
        .unwrap();
    assert_eq!(store.pauses().await.unwrap(), [paused]);
    let claims = async |ms| {
        store
            .claim_outbox(claim_request(at(ms), 10), Quotas::unlimited())
            .await
            .unwrap()
    };
    let found = claims(10).await;
    let named: Vec<_> = found.claims.iter().map(|claim| claim.destination.as_str()).collect();
    assert_eq!(named, ["mirror"]);
    assert_eq!(found.next_due, Some(at(10 + LEASE_MS)), "of the other one");
    assert_eq!(store.next_due().await.unwrap().outbox, Some(at(10 + LEASE_MS)));
    let delivered = attempt(&found.claims[0], 20, EntryEnd::Delivered);
    assert_eq!(
        store.record_attempt(delivered).await.unwrap(),
        AttemptRecorded::Recorded
    );
    assert_eq!(
        store.next_due().await.unwrap().outbox,
        None,
        "nobody wakes for what waits"
    );
    let later = claims(86_400_000).await;
    assert!(later.claims.is_empty() && later.next_due.is_none());

    store
        .resume(name("acme"), ledger, by_ann("they are there", 86_400_001))
        .await
        .unwrap();
    let found = claims(86_400_002).await;
    assert_eq!(found.claims.len(), 1);
    assert_eq!(
        (found.claims[0].destination.as_str(), found.claims[0].attempt),
        ("ledger", 1)
    );
}
