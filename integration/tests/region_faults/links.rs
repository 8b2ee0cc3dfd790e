//! Long, narrow and lossy ways to the coordinator.

use std::time::Duration;

use meridian_integration::{
    regions::{CENTRE, Plan, REGIONS, World},
    relay::{Relay, Shape},
};

/// A third of a second there and back, two megabits, and one segment of a hundred is lost.
fn far() -> Shape {
    Shape::with_round_trip(Duration::from_millis(330)).at_bits_per_s(2_000_000).losing_per_million(10_000)
}

#[test]
fn a_region_behind_a_long_narrow_and_lossy_link_builds_and_so_does_a_client_there() {
    let Some(mut world) = World::without_agents(Plan::default()) else { return };
    let coordinator = world.fleet.address().parse().expect("an address");
    let [to_agent, to_client] =
        [(); 2].map(|()| Relay::start_on(world.network.address(CENTRE).into(), coordinator, far()));
    world.fleet.lead_agents_by(Some(to_agent.address()));
    world.join("ap");
    world.fleet.lead_agents_by(None);
    world.join("eu");
    world.join("us");
    let client = world.clients.get_mut("ap").expect("a client in each region");
    client.coordinator = Some(to_client.address().to_string());

    let far_away = world.storm(&["us", "ap"], 2, &["--region", "ap"]);
    let near = world.storm(&REGIONS, 3, &[]);
    far_away.wait_until_acknowledged(&world);
    // What breaks on the way is begun anew.
    to_agent.cut_connections();
    to_client.cut_connections();
    near.expect_success(&world);
    far_away.expect_success(&world);
    for link in [&to_agent, &to_client] {
        assert!(link.traffic().down_bytes > 10_000, "it was used: {:?}", link.traffic());
    }
    world.expect_whole();
}
