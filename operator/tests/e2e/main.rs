//! End-to-end tests on a real Kubernetes control plane with simulated nodes. Each is named after
//! the promise it holds.
//!
//! All share one control plane and run one after the other: a test that stops the controller
//! must not stop it for others. `cargo test -p daylight --test e2e -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod caps;
mod dashboards;
mod daylight;
mod energy;
mod filling;
mod jobs;
mod leadership;
mod metering;
mod mirror;
mod observer;
mod prometheus;
mod reclaim;
mod refusals;
mod registration;
mod renewal;
mod signature;
mod site;
mod upkeep;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};

use daylight_testbed::{ControlPlane, Options};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

use site::Site;

/// Runs on a site of its own.
type Test = for<'a> fn(&'a mut Site) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|site| Box::pin($module::$name(site))) as Test,
        )),*]
    };
}

struct World {
    runtime: Runtime,
    control_plane: OnceLock<Result<Arc<ControlPlane>, String>>,
    count: Mutex<u32>,
}

impl World {
    fn control_plane(&self) -> Result<Arc<ControlPlane>, String> {
        let start = || {
            let started = self.runtime.block_on(async {
                let control_plane = ControlPlane::start(Options::full()).await?;
                site::install(&control_plane).await;
                Ok::<_, daylight_testbed::Error>(Arc::new(control_plane))
            });
            started.map_err(|error| error.to_string())
        };
        self.control_plane.get_or_init(start).clone()
    }

    fn run(&self, name: &'static str, test: Test) -> Result<(), Failed> {
        let control_plane = self.control_plane()?;
        // Also a test that failed leaves room for the next.
        let mut count = self.count.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *count += 1;
        let number = *count;
        self.runtime.block_on(async move {
            let logs = control_plane.directory().join("logs");
            let mut site = Site::new(control_plane, name, number).await;
            let outcome = tokio::spawn(async move {
                test(&mut site).await;
                site
            })
            .await;
            match outcome {
                Ok(site) => {
                    site.end().await;
                    Ok(())
                }
                Err(error) => {
                    daylight::show_logs(&logs, number);
                    Err(panic_text(error).into())
                }
            }
        })
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".into()),
        Err(error) => error.to_string(),
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let world = Arc::new(World {
        runtime: Runtime::new().unwrap(),
        control_plane: OnceLock::new(),
        count: Mutex::new(0),
    });
    let tests = tests![
        filling::idle_gpus_are_filled,
        registration::nothing_mines_before_approval,
        registration::an_edit_voids_the_approval_and_mining_stops,
        registration::suspended_rejected_and_revoked_registrations_do_not_mine,
        registration::nobody_approves_what_they_submitted_or_what_was_edited,
        registration::the_emergency_stop_ends_all_mining_until_it_is_lifted,
        registration::people_see_who_has_what_and_why,
        caps::no_cap_is_passed_while_filling,
        caps::a_cap_that_shrinks_holds_again_within_the_drain_time,
        caps::a_power_budget_counts_declared_watts,
        caps::a_kwh_limit_without_a_meter_holds_mining,
        caps::observe_writes_nothing_but_status,
        caps::a_pool_holds_and_drains_as_it_is_told,
        caps::the_window_closes_and_mining_ends,
        caps::kubectl_scale_scales,
        caps::a_changed_miner_gets_new_pods,
        jobs::an_ai_job_takes_back_exactly_what_it_needs,
        jobs::a_gang_meets_under_one_name,
        jobs::a_job_that_ends_gives_its_gpus_back_and_goes_in_time,
        jobs::a_job_that_fails_says_so,
        jobs::a_half_gang_holds_no_gpus,
        jobs::a_job_whose_batch_job_is_deleted_gets_another,
        jobs::deleting_a_job_frees_its_gpus_however_it_is_deleted,
        jobs::the_queue_is_kept_and_the_waiting_are_told_why,
        jobs::with_a_kueue_queue_daylight_leaves_suspend_alone,
        jobs::a_job_of_that_name_is_not_taken_over,
        jobs::names_of_the_greatest_length_work,
        reclaim::a_plain_job_preempts_and_nobody_else_is_displaced,
        reclaim::with_daylight_stopped_ai_displaces_miners,
        reclaim::a_disruption_budget_does_not_hold_gpus_back,
        reclaim::a_miner_gets_its_grace_and_no_more,
        reclaim::a_miner_that_is_deleted_takes_its_pods_along,
        reclaim::kubectl_drain_of_a_node_full_of_miners_finishes,
        reclaim::a_node_that_is_deleted_is_forgotten,
        reclaim::gpus_that_vanish_for_a_moment_displace_nobody,
        reclaim::a_namespace_is_deleted_while_its_miners_drain,
        reclaim::an_api_server_that_restarts_under_load_changes_nothing,
        reclaim::an_unreachable_nodes_miners_still_count,
        refusals::a_quota_refuses_one_miner_and_another_gets_the_gpus,
        refusals::an_ai_job_whose_pods_are_refused_says_why,
        refusals::a_priority_class_that_would_displace_ai_stops_grants,
        refusals::a_bad_object_beside_good_ones_stops_none,
        refusals::a_class_that_is_taken_off_the_list_stops_mining,
        refusals::a_miner_that_crashes_rests,
        refusals::a_miner_that_would_fail_anywhere_keeps_nothing_from_others,
        leadership::a_leader_killed_while_filling_is_replaced,
        leadership::a_leader_killed_while_reclaiming_is_replaced,
        leadership::a_paused_leader_writes_nothing_when_it_goes_on,
        leadership::a_leader_that_ends_hands_over_within_a_second,
        leadership::every_replica_is_ready_and_one_leads,
        renewal::a_renewal_that_overlaps_costs_no_more_than_the_drain,
        renewal::a_renewal_that_begins_as_the_old_one_ends_waits_for_that,
        energy::no_kwh_cap_is_passed_and_its_date_is_foreseen,
        energy::a_meter_that_stops_holds_mining_and_not_ai,
        energy::an_owners_registrations_are_limited_together,
        signature::nothing_mines_without_the_authoritys_signature,
        signature::the_auditor_verifies_the_signature_by_itself,
        mirror::admission_is_told_what_is_registered,
        mirror::a_mirror_that_others_spoil_is_put_right,
        mirror::without_a_mirror_ai_runs_and_no_miner_is_started,
        metering::leases_that_end_while_the_auditor_is_away_are_booked_exactly,
        metering::device_time_adds_up,
        metering::mining_stops_before_a_kwh_cap_could_be_passed,
        metering::a_full_disk_stops_grants_and_loses_nothing,
        metering::an_auditor_that_hangs_holds_metered_mining_and_not_ai,
        metering::edits_that_nobody_saw_are_on_record,
        metering::what_miners_say_of_their_work_is_booked_as_seen_or_claimed,
        metering::a_foreign_pod_that_ends_unseen_is_bounded,
        metering::a_node_that_is_lost_takes_little_of_its_miners_work_along,
        metering::ends_that_no_auditor_takes_are_written_down_and_hold_nothing_up,
        dashboards::grafana_can_show_the_dashboards,
        dashboards::every_query_of_every_dashboard_has_an_answer,
        upkeep::not_ready_until_the_definitions_are_installed,
        upkeep::pods_that_ended_are_removed,
        upkeep::nothing_is_written_while_nothing_changes,
        upkeep::a_status_that_somebody_else_wrote_is_put_right,
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let world = world.clone();
            Trial::ignorable_test(name, move || match prometheus::missing() {
                Some(why) if name.contains("every_query") => Ok(Completion::ignored_with(why)),
                _ => world.run(name, test).map(|()| Completion::Completed),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit_code()
}
