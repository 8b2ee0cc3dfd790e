//! Landlock on top of the mounts: the same rules once more, kept by another part of the kernel.
//!
//! It adds what mounts cannot say: files that may be opened by name in a directory that cannot be listed, and a
//! refusal of every TCP port. On a kernel without it the sandbox stands on its mounts alone.

use std::{io, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::super::plan::{Access, Mount, Network, Plan};

/// The newest rules that this file was written for. Older kernels keep the part that they know.
const VERSION: ABI = ABI::V6;

/// Restricts this process and all that it starts to what the plan says, as far as the kernel can. Says whether it can at
/// all.
pub(super) fn restrict(plan: &Plan) -> io::Result<bool> {
    let mut rules =
        Ruleset::default().handle_access(AccessFs::from_all(VERSION)).map_err(io::Error::other)?;
    if plan.network == Network::None {
        rules = rules.handle_access(AccessNet::from_all(VERSION)).map_err(io::Error::other)?;
    }
    let rules = rules.scope(Scope::from_all(VERSION)).map_err(io::Error::other)?;
    let mut rules = rules.create().map_err(io::Error::other)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let own = [(Path::new("/proc"), read), (Path::new("/dev"), device), (Path::new("/dev/shm"), writes())];
    let planned = plan.mounts.iter().filter_map(of_mount);
    for (path, access) in own.into_iter().chain(planned) {
        let place = PathFd::new(path).map_err(io::Error::other)?;
        let is_file = !std::fs::metadata(path)?.is_dir();
        let access = if is_file { access & AccessFs::from_file(VERSION) } else { access };
        rules = rules.add_rule(PathBeneath::new(place, access)).map_err(io::Error::other)?;
    }
    let restricted = rules.restrict_self().map_err(io::Error::other)?;
    Ok(restricted.ruleset != RulesetStatus::NotEnforced)
}

/// Everything but running files and making devices.
fn writes() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar;
    AccessFs::from_all(VERSION) & !never
}

fn of_mount(mount: &Mount) -> Option<(&Path, BitFlags<AccessFs>)> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match mount {
        Mount::Bind { target, access, .. } => {
            let access = match access {
                Access::Read => read,
                Access::Run => read | AccessFs::Execute,
                Access::ReadByName => AccessFs::ReadFile.into(),
                // Connecting is no access to a file.
                Access::Connect => return None,
                Access::Write => writes(),
            };
            Some((target, access))
        }
        Mount::Scratch { target, run, .. } => {
            let access = if *run { writes() | AccessFs::Execute } else { writes() };
            Some((target, access))
        }
        Mount::File { target, .. } => Some((target, AccessFs::ReadFile.into())),
        Mount::Copy { target, .. } => Some((target, AccessFs::ReadFile | AccessFs::Execute)),
        // A link is followed to where it leads, and that has a rule or none.
        Mount::Link { .. } => None,
    }
}
