//! Disks that are full in the midst of a storm.

use meridian_integration::{
    fixture::small_disk::SmallDisk,
    home::Home,
    regions::{Held, Plan, REGIONS, World},
};

#[test]
fn builds_end_elsewhere_while_an_agents_disk_is_full_and_there_again_once_it_has_room() {
    let Some(mut world) = World::without_agents(Plan::default()) else { return };
    let home = world.home_in("eu");
    let Some(disk) = SmallDisk::mount(home.path().join("agent"), 160 << 10) else { return };
    world.join_in("eu", home, &["free_min_mib=8"]);
    world.join("us");
    world.join("ap");
    let storm = world.storm(&REGIONS, 3, &[]);
    storm.wait_until_acknowledged(&world);
    disk.fill(u32::MAX >> 8);
    let during = world.storm(&REGIONS, 2, &[]);
    storm.expect_success(&world);
    during.expect_success(&world);
    disk.make_room();
    world.storm(&["us"], 2, &["--region", "eu"]).expect_success(&world);
    world.expect_whole();
    drop(disk);
}

#[test]
fn what_was_acknowledged_ends_once_the_coordinators_full_disk_has_room_again() {
    let home = Home::with_proxy("off");
    let Some(disk) = SmallDisk::mount(home.path().join("coordinator"), 64 << 10) else { return };
    let Some(mut held) = Held::begin_with(Plan { home, settings: &["free_min_mib=8"], ..Plan::default() })
    else {
        return;
    };
    let storm = held.world.storm(&REGIONS, 3, &[]);
    storm.wait_until_acknowledged(&held.world);
    disk.fill(u32::MAX >> 8);
    let refused = held.world.storm(&["us"], 2, &[]);
    for run in refused.ends() {
        run.expect_code(4).expect_words(&["no space left"]);
    }
    disk.make_room();
    // It ended if there was something that it could not write down.
    if held.world.fleet.coordinator().ended().is_some() {
        held.world.fleet.kill_coordinator();
        held.world.fleet.start_coordinator();
    }
    storm.expect_success(&held.world);
    held.expect_success().expect_whole();
    drop(disk);
}
