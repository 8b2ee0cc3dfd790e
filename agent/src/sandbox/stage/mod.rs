//! The stages: the code of `meridian sandbox-enter`, which is single-threaded and speaks only to the launcher.
//!
//! [`enter`] is the outer stage. It joins the control groups, makes the namespaces, forks process 1 of the new
//! process namespace, and waits for it. `init` is that process: it lays out the root (`root`), gives every
//! right away (`privileges`, `landlock`, `seccomp`), starts the program and reaps.
//!
//! Not here: any decision. What is mounted, bounded and run stands in the order.

mod error;
mod init;
mod landlock;
mod namespaces;
mod outer;
mod privileges;
mod root;
mod seccomp;
mod system;
mod trial;

pub use outer::enter;
pub(super) use system::{end_by, hold_back, next_signal};
pub(super) use trial::Trial;
pub use trial::try_one;
