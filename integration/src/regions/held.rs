//! Builds that are under way in one region and do not end before the test wants them to.
//!
//! They need a module that the proxy does not give until it is told to. Their region is the only one when they begin, so
//! it is known where they run; the others join then. Whoever takes one over asks the proxy again, which shows that it did.

use super::world::{CENTRE, LEASE, Plan, REGIONS, World};
use crate::{
    client::RunningBuild,
    fixture::{
        module_proxy::{Misbehaviour, ModuleProxy},
        program::Program,
    },
    fleet::TEAM,
    namespaces::Network,
};

/// How many there are: as many as one agent makes at once.
const HELD: u32 = 2;
/// Where they run.
pub const HOME: &str = "eu";

/// A world with builds that are held in [`HOME`].
#[derive(Debug)]
pub struct Held {
    /// The fleet.
    pub world: World,
    /// What holds them.
    pub proxy: ModuleProxy,
    builds: Vec<(u32, RunningBuild)>,
}

/// A proxy with so many programs, each of which needs a library of its own that is held.
fn holding_proxy(network: &Network) -> ModuleProxy {
    let mut proxy = ModuleProxy::start_at(network.address(CENTRE).into());
    for number in 0..HELD {
        let (library, program) = (format!("example.test/lib{number}"), format!("example.test/p{number}"));
        let text = format!("package lib{number}\n\nconst Text = \"held {number}\"\n");
        let main =
            format!("package main\n\nimport lib \"{library}\"\n\nfunc main() {{ println(lib.Text) }}\n");
        let go_mod = format!("module {program}\n\ngo 1.22\n\nrequire {library} v1.0.0\n");
        let program_files = Program::module(&program).file("go.mod", &go_mod).file("main.go", &main);
        proxy = proxy.with(&library, "v1.0.0", &Program::module(&library).file("lib.go", &text)).with(
            &program,
            "v1.0.0",
            &program_files,
        );
        proxy.misbehave(&request(number), Misbehaviour::Hold);
    }
    proxy
}

/// What is held of a build.
fn request(number: u32) -> String {
    format!("/example.test/lib{number}/@v/v1.0.0.zip")
}

impl Held {
    /// With leases that a test can wait for to be over; `None` where there are no namespaces.
    ///
    /// # Panics
    /// When something of it does not start in time.
    #[must_use]
    #[track_caller]
    pub fn begin() -> Option<Self> {
        Self::begin_with(Plan { lease: LEASE, ..Plan::default() })
    }

    /// The same in a world that the test has planned.
    ///
    /// # Panics
    /// When something of it does not start in time.
    #[must_use]
    #[track_caller]
    pub fn begin_with(plan: Plan) -> Option<Self> {
        let mut world = World::without_agents(plan)?;
        let proxy = holding_proxy(&world.network);
        world.modules_from(&proxy);
        world.join_region(HOME);
        let mut builds = Vec::new();
        for number in 0..HELD {
            let (source, project) = (format!("example.test/p{number}@v1.0.0"), project(number));
            // Whoever asked is where nothing happens.
            let client = &world.clients["us"];
            let out = format!("dist-held-{number}");
            builds.push((number, client.start_build(&out, &[&source, "--project", &project])));
        }
        for number in 0..HELD {
            proxy.wait_for_request(&request(number), 1);
        }
        for region in REGIONS.into_iter().filter(|region| *region != HOME) {
            world.join_region(region);
        }
        Some(Self { world, proxy, builds })
    }

    /// Their ids.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.builds.iter().map(|(number, _)| format!("{}/1", project(*number))).collect()
    }

    /// Waits until each was begun by another agent.
    ///
    /// # Panics
    /// When one is not in time.
    #[track_caller]
    pub fn wait_until_taken_over(&self) {
        for (number, _) in &self.builds {
            self.proxy.wait_for_request(&request(*number), 2);
        }
    }

    /// How often what is held was asked for, in all.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.builds.iter().map(|(number, _)| self.proxy.count(&request(*number))).sum()
    }

    /// Lets them end, and waits until they have: all came out right.
    ///
    /// # Panics
    /// When one did not.
    #[track_caller]
    pub fn expect_success(self) -> World {
        self.proxy.release();
        for (number, build) in self.builds {
            let dist = build.finish().expect_success();
            let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
            assert_eq!(dist.execute(&name, &[]).trim(), format!("held {number}"));
        }
        self.world
    }
}

fn project(number: u32) -> String {
    format!("{TEAM}/held-{number}")
}
