//! `meridian journal`: looks into a coordinator's journal, and changes nothing.
//!
//! What is told comes from the journal alone: no fleet is asked, so it works where none is left. The words for events
//! and records stand in one place each: [`words`] and [`records`].

mod check;
mod diff;
mod export;
mod inspect;
mod items;
mod place;
mod records;
mod replay;
mod run;
mod show;
#[cfg(test)]
mod story_tests;
mod summary;
mod verify;
mod words;

pub use run::run;
