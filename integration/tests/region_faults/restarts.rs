//! Everything restarted in turn, as for a new release, while people build.

use crate::world::{REGIONS, WITHIN, World};

#[test]
fn a_rolling_restart_of_everything_in_a_storm_fails_no_build() {
    let Some(mut world) = World::start() else { return };
    let storm = world.storm(&REGIONS, 5, &[]);
    storm.wait_until_acknowledged(&world);
    for agent in world.agents() {
        let ended = world.fleet.agent(agent).terminate(WITHIN);
        assert!(ended.success(), "{ended}: {}", world.fleet.agent(agent).log());
        world.fleet.restart_agent(agent);
        world.fleet.wait_until_attached(agent);
        if agent == 1 {
            let ended = world.fleet.coordinator().terminate(WITHIN);
            assert!(ended.success(), "{ended}: {}", world.fleet.coordinator().log());
            world.fleet.start_coordinator();
        }
    }
    storm.expect_success();
    world.expect_whole();
}
