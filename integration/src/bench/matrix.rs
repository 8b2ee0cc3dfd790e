//! Four platforms from an empty build cache, against a shell loop of `go build` and against GoReleaser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::bench::{
    figures::Figures,
    peers,
    timing::seconds,
    world::{PLATFORMS, World},
};

/// Pinned, so that two runs compare with the same peer; newer ones depend on modules that not every proxy serves.
const GORELEASER: &str = "github.com/goreleaser/goreleaser/v2";
const GORELEASER_VERSION: &str = "v2.16.0";

/// Installs GoReleaser through the environment's module proxy, once: it is kept in the target directory. The
/// installed Go compiles it; what it then builds with is the Go that the measured run finds in PATH.
///
/// # Errors
/// When it cannot be installed. The bench goes on without it and says so.
pub fn install_goreleaser() -> anyhow::Result<PathBuf> {
    peers::go_install("goreleaser", GORELEASER, GORELEASER_VERSION)
}

/// `matrix_vs_shell_ratio` and, with GoReleaser at hand, `matrix_vs_goreleaser_ratio`.
///
/// # Errors
/// When a build fails.
pub fn matrix(
    world: &World,
    goreleaser: Option<&Path>,
    round: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut order = [Side::Ours, Side::Shell, Side::GoReleaser];
    order.rotate_left(round % 3);
    let mut took = [0.0; 3];
    for side in order {
        took[side as usize] = match side {
            Side::Ours => {
                world.cool_ours()?;
                seconds(world.meridian_build(&["--platform", &PLATFORMS.join(",")]))?
            }
            Side::Shell => {
                world.cool_theirs()?;
                seconds(shell_loop(world))?
            }
            Side::GoReleaser => match goreleaser {
                Some(program) => {
                    world.cool_theirs()?;
                    write_goreleaser_configuration(world)?;
                    seconds(goreleaser_build(world, program))?
                }
                None => continue,
            },
        };
    }
    let [ours, shell, released] = took;
    figures.add("matrix_vs_shell_ratio", ours / shell);
    figures.add("matrix_s", ours);
    figures.add("matrix_shell_s", shell);
    if goreleaser.is_some() {
        figures.add("matrix_vs_goreleaser_ratio", ours / released);
        figures.add("matrix_goreleaser_s", released);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Shell,
    GoReleaser,
}

fn shell_loop(world: &World) -> Command {
    let script = "for platform in $PLATFORMS; do\n\
         GOOS=${platform%/*} GOARCH=${platform#*/} \
         go build -trimpath -buildvcs=false -o \"$OUT/fzf_${platform%/*}_${platform#*/}\" . || exit 1\n\
         done";
    let mut command = world.client.home.program("sh");
    world.set_go_environment(&mut command);
    command
        .args(["-c", script])
        .current_dir(world.theirs())
        .env("PLATFORMS", PLATFORMS.join(" "))
        .env("OUT", world.scratch("go-out"));
    command
}

fn goreleaser_build(world: &World, program: &Path) -> Command {
    let mut command = world.client.home.program(program);
    world.set_go_environment(&mut command);
    command.args(["build", "--snapshot", "--clean", "--config"]).arg(goreleaser_configuration(world));
    command.current_dir(world.theirs());
    command
}

/// Named to GoReleaser, because the program has a configuration of its own, which it would find first.
fn goreleaser_configuration(world: &World) -> PathBuf {
    world.scratch("goreleaser.yaml")
}

/// The same targets and flags, and nothing else that GoReleaser could do.
fn write_goreleaser_configuration(world: &World) -> anyhow::Result<()> {
    let targets: Vec<_> =
        PLATFORMS.iter().map(|platform| format!("      - {}\n", platform.replace('/', "_"))).collect();
    let text = format!(
        "version: 2\nproject_name: fzf\nbuilds:\n  - id: fzf\n    main: .\n    binary: fzf\n    env:\n      - CGO_ENABLED=0\n    flags:\n      - -trimpath\n      - -buildvcs=false\n    ldflags:\n      - \"\"\n    targets:\n{}",
        targets.concat()
    );
    fs::write(goreleaser_configuration(world), text).context("cannot write GoReleaser's configuration")
}
