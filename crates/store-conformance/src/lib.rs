//! The tests that every backend of the store must pass. A new backend adds one line for [`suite!`] and one for
//! [`equivalence`].
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "tests: their names say what they check"
)]

pub mod backup;
pub mod equivalence;
pub mod fixture;
mod opened;
pub mod suite;

pub use opened::Opened;

/// Makes one test of each check. The argument is an expression that opens an empty store: [`Opened`]. Attributes apply
/// to each test: `suite!(each #[ignore]; opened())`.
#[macro_export]
macro_rules! suite {
    (each #[$attribute:meta]; $open:expr) => {
        $crate::suite!(@all [#[$attribute]] $open;
            a_unit_that_is_aborted_leaves_nothing,
            a_unit_is_committed_as_a_whole,
            a_decision_that_panics_leaves_nothing_and_the_store_lives_on,
            a_unit_sees_what_it_names_and_all_that_was_committed_before,
            a_unit_may_read_more,
            a_unit_in_the_background_is_committed,
            a_session_is_joined_with_what_ended_it,
            the_policy_in_force_is_what_was_committed_last,
            times_are_committed,
            indexes_list_sessions_in_order_and_only_theirs,
            pages_end_where_the_items_end,
            all_sessions_are_visited_in_order,
            a_visit_ends_where_its_visitor_breaks_off,
            a_visitor_that_panics_harms_nobody_else,
            policies_are_kept_whole,
            a_decision_reads_the_policies_that_units_before_it_kept,
            the_last_staleness_bound_of_a_realm_is_kept,
            the_position_of_an_audit_sink_is_kept,
            a_purge_removes_policies_that_were_replaced,
            an_index_follows_a_session_that_changes,
            a_name_that_begins_like_another_is_another,
            concurrent_updates_of_a_session_are_one_after_the_other,
            events_are_gapless_and_can_be_resumed,
            concurrent_events_are_gapless,
            watchers_are_woken_only_for_what_can_be_read,
            revocations_are_folded_in,
            a_cutoff_is_known_to_the_next_unit,
            a_cutoff_outlives_its_event,
            a_later_cutoff_never_shortens_an_earlier_one,
            requests_are_remembered_and_replaced,
            api_keys_are_listed_by_realm,
            api_keys_are_found_by_their_maker,
            api_keys_are_removed,
            clients_are_disabled_and_enabled,
            signing_keys_are_listed_oldest_first,
            a_decision_reads_the_signing_keys_that_units_before_it_wrote,
            the_sessions_of_a_client_are_counted,
            each_group_that_is_durable_is_told,
            audit_records_are_in_the_commit_of_what_they_record,
            each_audit_record_is_linked_to_those_before_it,
            a_part_of_the_audit_trail_is_looked_at,
            a_purge_removes_sessions_that_are_dead_and_no_others,
            a_purge_follows_a_session_that_was_refreshed,
            a_purge_removes_the_oldest_events_only,
            an_event_dated_years_ahead_does_not_keep_those_behind_it,
            a_revocation_outlives_a_token_that_was_issued_by_a_clock_ahead,
            a_purge_removes_requests_and_audit_records,
            a_purge_stops_at_its_limit_and_goes_on,
            a_purge_says_how_far_it_came_and_where_the_log_begins,
            a_store_that_is_closed_answers_so,
        );
    };
    (@all $attributes:tt $open:expr; $($check:ident),* $(,)?) => {
        $($crate::suite!(@one $attributes $open, $check);)*
    };
    ($open:expr) => {
        $crate::suite!(each #[cfg(test)]; $open);
    };
    (@one [$($attributes:tt)*] $open:expr, $check:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attributes)*
        async fn $check() {
            let opened: $crate::Opened = $open;
            $crate::suite::$check(&opened.store).await;
        }
    };
}
