//! A region that nobody reaches, or that reaches nobody.

use meridian_integration::{
    bench::region_loss::release_after_loss,
    namespaces::Flow,
    regions::{HOME, Held, LEASE},
};

/// Cuts the region in which builds are held off, and heals it when all is built that can be without it.
#[track_caller]
fn check(flows: &[Flow]) {
    let Some(mut held) = Held::begin() else { return };
    let before = held.world.storm(&["us", "ap"], 2, &[]);
    before.wait_until_acknowledged(&held.world);
    for flow in flows {
        held.world.network.cut_flow(HOME, *flow);
    }
    let during = held.world.storm(&["us", "ap"], 2, &[]);
    let nowhere_else = held.world.storm(&["us"], 1, &["--region", HOME]);
    // All this while the region is away: whatever waits in vain for it runs into its deadline.
    held.wait_until_taken_over();
    before.expect_success(&held.world);
    during.expect_success(&held.world);
    held.world.wait_until_explained(&nowhere_else.ids()[0], &["eu/a0", "region eu"]);
    let lost = held.ids();
    let mut world = held.expect_success();
    for id in &lost {
        world.explain(id).expect_code(0).expect_words(&["eu/a0 did not renew its lease", "leased to"]);
    }
    world.network.heal(HOME);
    nowhere_else.expect_success(&world);
    let evidence = world.expect_whole();
    let of_lost = |task: &str| lost.iter().any(|id| task.starts_with(id.as_str()));
    let given_up: Vec<_> = evidence
        .leases
        .iter()
        .filter(|lease| of_lost(&lease.task.to_string()) && lease.failed.is_some())
        .collect();
    assert!(given_up.len() >= lost.len(), "{given_up:?}");
    for lease in given_up {
        let lived = lease.failed.map_or(0, |failed| failed.0 - lease.granted.0);
        assert!(u128::from(lived) >= LEASE.as_millis(), "{lease:?} was given its time");
    }
}

#[test]
fn the_builds_of_a_region_that_is_cut_off_end_elsewhere_and_it_builds_again_once_healed() {
    check(&[Flow::Out, Flow::In]);
}

#[test]
fn so_they_do_when_nothing_comes_from_the_region_although_it_hears_everything() {
    check(&[Flow::Out]);
}

#[test]
fn so_they_do_when_the_region_hears_nothing_although_it_is_heard() {
    check(&[Flow::In]);
}

#[test]
fn clients_of_a_region_that_is_cut_off_have_their_builds_once_it_is_healed() {
    let Some(mut held) = Held::begin() else { return };
    let mut theirs = held.world.storm(&[HOME], 3, &[]);
    theirs.wait_until_acknowledged(&held.world);
    held.world.network.cut(HOME);
    held.wait_until_taken_over();
    // Others build their builds, and they wait for the word of it.
    for id in theirs.ids() {
        held.world.wait_until_explained(&id, &["succeeded"]);
    }
    assert!(theirs.all_run(), "nobody gave up");
    held.world.network.heal(HOME);
    theirs.expect_success(&held.world);
    held.expect_success().expect_whole();
}

/// Far more than it takes, and less than an offer to an agent that is as silent lives.
const RELEASED_WITHIN_S: f64 = 8.0;

#[test]
fn the_tasks_of_a_lost_region_are_leased_elsewhere_soon_after_their_leases_ran_out() {
    let Some(released_s) = release_after_loss() else { return };
    println!("region_loss_release_s {released_s}");
    assert!(released_s < RELEASED_WITHIN_S, "{released_s} s after their leases ran out");
}
