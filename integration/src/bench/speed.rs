//! One platform, cold, warm and changed, against `go build` with the same toolchain and flags.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::{
    bench::{
        figures::Figures,
        timing::{in_turns, run, seconds},
        world::World,
    },
    home::host_platform,
};

/// The file that gets changed: in a package that others import.
const CHANGED_FILE: &str = "src/util/util.go";

/// `cold_ratio`.
///
/// # Errors
/// When a build fails.
pub fn cold(world: &World, round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    world.cool_ours()?;
    world.cool_theirs()?;
    let (ours, theirs) = in_turns(
        round,
        || seconds(world.meridian_build(&["--platform", host_platform()])),
        || seconds(world.go_build(host_platform())),
    )?;
    figures.add("cold_ratio", ours / theirs);
    figures.add("cold_s", ours);
    figures.add("cold_go_s", theirs);
    Ok(())
}

/// `warm_ratio` and `warm_overhead_s`: nothing changed since the last build, whose output is in place.
///
/// # Errors
/// When a build fails.
pub fn warm(world: &World, round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    run(&mut world.meridian_build(&["--platform", host_platform()]))?;
    run(&mut world.go_build(host_platform()))?;
    let (ours, theirs) = in_turns(
        round,
        || seconds(world.meridian_build(&["--platform", host_platform()])),
        || seconds(world.go_build(host_platform())),
    )?;
    figures.add("warm_ratio", ours / theirs);
    figures.add("warm_overhead_s", ours - theirs);
    figures.add("warm_s", ours);
    figures.add("warm_go_s", theirs);
    Ok(())
}

/// `changed_ratio`: one package changed, and with it all that import it.
///
/// # Errors
/// When a build fails.
pub fn changed(world: &World, round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    run(&mut world.meridian_build(&["--platform", host_platform()]))?;
    run(&mut world.go_build(host_platform()))?;
    for side in [world.ours(), world.theirs()] {
        change(&side.join(CHANGED_FILE), round)?;
    }
    let (ours, theirs) = in_turns(
        round,
        || seconds(world.meridian_build(&["--platform", host_platform()])),
        || seconds(world.go_build(host_platform())),
    )?;
    figures.add("changed_ratio", ours / theirs);
    figures.add("changed_s", ours);
    figures.add("changed_go_s", theirs);
    Ok(())
}

/// Adds an exported variable of its own for every round: a change that reaches the package's importers.
fn change(file: &Path, round: usize) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let id = std::process::id();
    fs::write(
        file,
        format!("{text}\n// Round{id}x{round} is there for the bench.\nvar Round{id}x{round} = {round}\n"),
    )
    .with_context(|| format!("cannot write {}", file.display()))
}
