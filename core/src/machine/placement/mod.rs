//! Where each queued task goes, when, and because of what.
//!
//! The numbers and the order are `crate::schedule`'s; here is what they are asked of: the tasks of this fleet, what each
//! demands ([`demand`]), what holds it back whoever is free ([`gates`]), for how
//! long it avoids who failed it ([`patience`]), what its inputs are ([`needs`]) and how they get to
//! an agent ([`ways`]), how far those are who asked ([`clients`]), and what of them a region may not send ([`budgets`]). One look through the queue is [`place`], and what it says of a placement [`because`]; what a waiting task is told is [`reasons`].
//!
//! All of it is observed: a new leader derives it from the durable state and from what agents say when they attach.

pub(super) mod because;
pub(super) mod budgets;
pub(super) mod choose;
pub(super) mod clients;
pub(super) mod demand;
pub(super) mod gates;
pub(super) mod held;
pub(super) mod needs;
pub(super) mod patience;
mod place;
pub mod reasons;
pub(super) mod shortlists;
pub(super) mod ways;
