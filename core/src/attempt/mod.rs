//! One task on one agent, from the offer to the settled report, as a machine of its own.
//!
//! ```text
//!              Offered            SlotFree              Granted              Finished             Settled
//!   (new) ───────────▶ offered ───────────▶ leasing ───────────▶ running ───────────▶ reporting ───────────▶ (gone)
//!                         │                    │                   │  │                    │
//!                         │ Revoked, Drain,    │ Revoked,          │  │ Revoked, Settled,  │ Revoked, orphaned
//!                         │ StreamLost         │ StreamLost        │  │ newer Offered,     ▼
//!                         ▼                    ▼                   │  │ orphaned, Abandon (gone)
//!                       (gone)               (gone)                │  ▼
//!                                                                  │ stopping ── Finished ──▶ (gone), offered or reporting
//!                                                                  ▼
//!                                                        StreamLost, StreamOpened: goes on
//! ```
//!
//! The agent's shell drives it like the coordinator's machine: one input at a time, with `now`, and it
//! carries the effects out. Three rules are kept here, whatever the shell and the network do:
//!
//! - **One run at a time, and one run a fence.** `Run` follows a grant of the placement that was asked for;
//!   after a `Kill` nothing runs again before the shell has said that the old run ended.
//! - **A report carries the fence under which it was run**, and is repeated until it is settled or void.
//! - **A lost stream changes nothing for `orphan_limit`**: the build goes on, because the coordinator is
//!   probably being restarted. Only what was not yet granted is dropped; the coordinator offers it again.
//!
//! Not here: slots (the shell has them, and says `SlotFree`), renewals (the shell sends one list of all
//! [`Attempt::held`] leases every `renew_every`), and the steps of a build.

mod effect;
mod input;
mod limits;
mod state;

pub use effect::AttemptEffect;
pub use input::AttemptInput;
pub use limits::AttemptLimits;
pub use state::{Attempt, AttemptState};
