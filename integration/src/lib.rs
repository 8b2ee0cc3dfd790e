//! What proves Meridian from the outside: real processes on loopback, module proxies and repositories that
//! misbehave on purpose, links that are long, narrow and faulty, and the bench.
//!
//! The tests in `tests/` start the `meridian` binary as its users do and look only at what users see: exit
//! codes, output, `dist/` and the fleet's own answers. Everything they need to do so is here. No test sleeps
//! for luck: each wait has a condition and a deadline, and a test that fails shows the logs of its processes.
//!
//! Not here: tests of one crate's inside, which live in that crate.

pub mod bench;
pub mod binary;
pub mod caller;
pub mod client;
pub mod draws;
pub mod evidence;
pub mod fabric;
pub mod fixture;
pub mod fleet;
pub mod forgery;
pub mod home;
pub mod lab;
pub mod namespaces;
pub mod process;
pub mod regions;
pub mod relay;
pub mod scripted;
pub mod sim;
pub mod stock_clients;
pub mod stock_trial;
pub mod wait;
