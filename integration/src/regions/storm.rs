//! Many builds at once.

use super::world::{WITHIN, World};
use crate::{client::RunningBuild, fixture::program::Program, fleet::TEAM, process::Run, wait::wait_for};

/// Builds under way.
#[derive(Debug)]
pub struct Storm(Vec<StormBuild>);

#[derive(Debug)]
struct StormBuild {
    id: String,
    running: RunningBuild,
    /// What its program says.
    text: String,
}

impl Storm {
    /// Begins builds from regions, each of another program.
    #[track_caller]
    pub(super) fn begin(world: &mut World, from: &[&str], count: u32, arguments: &[&str]) -> Self {
        let all = (0..count).flat_map(|_| from);
        Self(all.map(|region| StormBuild::begin(world, region, arguments)).collect())
    }

    /// The ids of its builds.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|build| build.id.clone()).collect()
    }

    /// Waits until every build is acknowledged.
    ///
    /// # Panics
    /// When one is not in time.
    #[track_caller]
    pub fn wait_until_acknowledged(&self, world: &World) {
        for build in &self.0 {
            wait_for(&format!("{} is acknowledged", build.id), WITHIN, || {
                (world.fleet.warden().run(&["explain", &build.id]).code == Some(0)).then_some(())
            });
        }
    }

    /// Whether all of its commands still run.
    #[must_use]
    pub fn all_run(&mut self) -> bool {
        self.0.iter_mut().all(|build| build.running.running.is_running())
    }

    /// Waits for the end of each, however it ends.
    ///
    /// # Panics
    /// When one has not ended in time.
    #[must_use]
    #[track_caller]
    pub fn ends(self) -> Vec<Run> {
        self.0.into_iter().map(|build| build.running.finish().run).collect()
    }

    /// Waits for the end of each: it succeeded, was verified, and its program says what its source said.
    ///
    /// # Panics
    /// When one did not, with what the fleet says of it.
    #[track_caller]
    pub fn expect_success(self, world: &World) {
        for StormBuild { id, running, text } in self.0 {
            let build = running.finish();
            assert_eq!(build.run.code, Some(0), "{}\n{}", build.run, world.explain(&id));
            let dist = build.expect_success();
            let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
            assert_eq!(dist.execute(&name, &[]).trim(), text, "{id}");
        }
    }
}

impl StormBuild {
    #[track_caller]
    fn begin(world: &mut World, region: &str, arguments: &[&str]) -> Self {
        world.builds += 1;
        let number = world.builds;
        let text = format!("build {number} of the storm");
        let client = &world.clients[region];
        let source = client.home.path().join(format!("source-{number}"));
        Program::saying("example.test/storm", &text).write(&source).expect("a directory can be written");
        let source = source.display().to_string();
        // A project for each, so that each is the first of its project whoever comes first.
        let project = format!("{TEAM}/storm-{number}");
        let mut all = vec![source.as_str(), "--version", "1", "--project", &project];
        all.extend(arguments);
        let running = client.start_build(&format!("dist-{number}"), &all);
        Self { id: format!("{project}/1"), running, text }
    }
}
