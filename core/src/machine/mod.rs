//! The coordinator's machine: everything it decides, as one function of state, `now` and an input.
//!
//! `Machine::step(now, input)` decides, applies the events it decided on, and returns them with the effects
//! that may leave the process once those events are durable. `Durable` changes only by `apply(event)`;
//! `Observed` is what agents re-report when they attach, and is never journalled.

pub mod effect;
pub mod event;
pub mod input;
pub mod record;
