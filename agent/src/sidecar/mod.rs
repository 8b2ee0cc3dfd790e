//! The cache for go commands that run beside the agent and not as its tasks: a CI job's own `go build` and `go test`.
//!
//! `socket` is where they come in, and says who may; `runs` gives each the cache as if it were a task: `open_runs` has a
//! place for it, `goroot` says which toolchain it runs, `lineage` which earlier one it is like, and `standing` asks the
//! coordinator what it may use. `views_dir` is where other users see what they are given. What a go command used is told to
//! the next ones ([`Left`]).
//!
//! **A go command never fails or waits long because of this.** Without an agent, a coordinator or a place, it builds as it
//! would with an empty cache. Not here: cmd/go's own protocol and the shim that it starts (`meridian-cache`), and what the
//! user types (`meridian ci-env`, in the command line).

mod goroot;
mod left;
mod lineage;
mod open_runs;
mod runs;
mod socket;
mod standing;
mod views_dir;

pub(crate) use left::Left;
pub(crate) use runs::{Runs, RunsParts};
pub use socket::SidecarError;
pub(crate) use socket::{SidecarSocket, check};
pub(crate) use views_dir::make as make_views_dir;
