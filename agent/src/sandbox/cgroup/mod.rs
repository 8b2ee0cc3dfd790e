//! Control groups: bounds on the memory and the processes of a whole sandbox, and their counters.
//!
//! Both versions of the kernel's interface are known. `layout` finds where this process may make groups, and
//! `group` makes, reads and removes them. Where nothing may be written, there are none, and the sandbox bounds
//! each process instead.
//!
//! Groups lie below the agent's own, so that whatever bounds the agent bounds its builds too, and in a directory
//! named after the agent's state directory, so that an agent that was killed finds what it left behind.

mod group;
mod layout;

pub(super) use group::{Group, Groups};
pub(super) use layout::find;
