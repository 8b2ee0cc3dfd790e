//! Runs a program where it can harm nothing but itself.
//!
//! A compiler reads what strangers wrote, and a test *is* what strangers wrote. So each runs in namespaces of
//! its own: a root file system that holds only what its [`Plan`] names, no network, no process but its own, an
//! unprivileged user without capabilities, a filter on system calls, Landlock where the kernel has it, and
//! limits on memory, processes, files and time. Whatever it started is gone when it ends.
//!
//! How it is made: the agent's [`Launcher`] starts `meridian sandbox-enter`, which is single-threaded, and hands
//! it the plan on a file descriptor. That process enters the namespaces (`stage`), its child is process 1 of
//! the new process namespace, builds the root, gives every right away and starts the program. The kernel ends
//! the whole tree when process 1 ends, and process 1 ends with the agent.
//!
//! User code runs in a *second* sandbox, beside the first one and not in it: cmd/go is given
//! `-exec "meridian sandbox-exec …"`, and that helper asks the agent's [`ExecBroker`] to run one binary with
//! given arguments and streams. The first sandbox therefore needs no right to make namespaces.
//!
//! Not here: what a build may see, which the caller says in the plan; and no defence against a kernel that is
//! itself at fault. On systems other than Linux there is no sandbox, and the [`SandboxPolicy`] decides.

mod outcome;
mod plan;
mod policy;

pub use outcome::{Around, DiskLimit, Ended, Outcome, SandboxError, Usage};
pub use plan::{Access, Limits, Mount, Network, Plan};
pub use policy::{Finding, NoSandbox, SandboxPolicy, State, Verdict, doctor_text};

#[cfg(target_os = "linux")]
mod broker;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod control;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod stage;

#[cfg(target_os = "linux")]
pub use broker::{ExecBroker, ExecTemplate};
#[cfg(target_os = "linux")]
pub use exec::run as exec;
#[cfg(target_os = "linux")]
pub(crate) use host::interpreter;
#[cfg(target_os = "linux")]
pub use host::{loader_mounts, system_mounts};
#[cfg(target_os = "linux")]
pub use launcher::{Launcher, LauncherConfig};
#[cfg(target_os = "linux")]
pub use stage::{enter, try_one};

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub use unsupported::{
    ExecBroker, ExecTemplate, Launcher, LauncherConfig, enter, exec, loader_mounts, system_mounts, try_one,
};
