//! The numbered steps of the schema. The file's `user_version` says how many were taken.

pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_first.sql"),
    include_str!("../../migrations/0002_segments.sql"),
    include_str!("../../migrations/0003_review.sql"),
    include_str!("../../migrations/0004_tokens.sql"),
    include_str!("../../migrations/0005_plugins.sql"),
    include_str!("../../migrations/0006_turns.sql"),
    include_str!("../../migrations/0007_quarantine.sql"),
    include_str!("../../migrations/0008_state_totals.sql"),
    include_str!("../../migrations/0009_outbox_turns.sql"),
    include_str!("../../migrations/0010_lane_index.sql"),
    include_str!("../../migrations/0011_event_ids.sql"),
    include_str!("../../migrations/0012_set_aside.sql"),
    include_str!("../../migrations/0013_namespaces.sql"),
    include_str!("../../migrations/0014_route_namespaces.sql"),
    include_str!("../../migrations/0015_resends.sql"),
    include_str!("../../migrations/0016_ledger_conflicts.sql"),
];
pub(super) const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;
