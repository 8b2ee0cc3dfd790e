//! What is expected of a task on an agent, and which task goes where: the numbers behind every placement.
//!
//! A build should go where it is finished first. What that depends on is measured: how far an agent is and how busy, what
//! of a build's inputs it holds, how fast it and the ways to it are, how far it is from who asked, how long such builds took and what they gained from
//! hits. This room turns measurements into expectations and expectations into a choice that can be explained term by term.
//!
//! **Whole numbers everywhere**, so that two CPUs that see the same measurements choose the same. What has never been
//! measured has a prior, which stands in [`priors`] and nowhere else.
//!
//! Not here: who asks for what and which leases exist (`machine`, whose `placement` asks here), and how anything is
//! measured (the agent).

pub mod choice;
pub mod cost;
pub mod delivery;
pub mod half_life;
pub mod peak_ewma;
pub mod priority;
pub mod priors;
pub mod queue;
pub mod roster;
pub mod run_times;
pub mod shares;
pub mod sketch;
