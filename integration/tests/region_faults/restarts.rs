//! Everything restarted in turn, as for a new release, while people build.

use meridian_integration::regions::{REGIONS, WITHIN, World};

#[test]
fn a_rolling_restart_of_everything_in_a_storm_fails_no_build() {
    let Some(mut world) = World::start() else { return };
    let storm = world.storm(&REGIONS, 5, &[]);
    storm.wait_until_acknowledged(&world);
    for (turn, agent) in world.all_agents().into_iter().enumerate() {
        let ended = world.fleet.agent(agent).terminate(WITHIN);
        assert!(ended.success(), "{ended}: {}", world.fleet.agent(agent).log());
        world.fleet.restart_agent(agent);
        world.fleet.wait_until_attached(agent);
        if turn == 1 {
            let ended = world.fleet.coordinator().terminate(WITHIN);
            assert!(ended.success(), "{ended}: {}", world.fleet.coordinator().log());
            world.fleet.start_coordinator();
        }
    }
    storm.expect_success(&world);
    world.expect_whole();
}
