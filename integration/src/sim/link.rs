//! A stream between an agent and a coordinator: two queues in order, without repeats, until it breaks.

use std::collections::VecDeque;

use meridian_core::{
    id::{Epoch, SessionId},
    machine::{effect::Order, input::Input},
};

/// What goes up.
#[derive(Debug, Clone)]
pub enum Up {
    /// The first words, or any later ones. The session is filled in where they arrive.
    Said(Box<Input>),
    /// The stream has ended; the last of all.
    End,
}

/// What goes down.
#[derive(Debug, Clone)]
pub enum Down {
    /// The coordinator has accepted the stream.
    Opened,
    /// An order.
    Order(Epoch, Box<Order>),
    /// The stream has ended; the last of all.
    End,
}

/// One stream. It lives on for a while after it broke, with what still arrives.
#[derive(Debug)]
pub struct Link {
    /// Whose it is.
    pub agent: u8,
    /// Which process of the agent dialled.
    pub agent_process: u32,
    /// Which host answered.
    pub host: u8,
    /// Which process of the host.
    pub host_process: u32,
    /// The number that the coordinator gave it, once it has heard of it.
    pub session: Option<SessionId>,
    /// Whether the agent still has it.
    pub agent_has: bool,
    /// Whether the coordinator still has it, or will.
    pub host_has: bool,
    /// On their way to the coordinator.
    pub up: VecDeque<Up>,
    /// On their way to the agent.
    pub down: VecDeque<Down>,
}

impl Link {
    /// Whether nothing can come of it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        (!self.host_has || self.up.is_empty() && !self.agent_has)
            && (!self.agent_has || self.down.is_empty() && !self.host_has)
    }
}
