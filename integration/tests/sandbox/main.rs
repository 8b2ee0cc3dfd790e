//! The sandbox through a real coordinator and real agents: what runs in a compile against the machine, and who may build
//! without one.

mod attacks;
mod hostile;
mod policy;
