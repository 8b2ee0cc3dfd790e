//! What the coordinator says on an agent's stream.

use std::sync::Arc;

use meridian_core::{
    cache::{hints::CacheHints, shards::Shards},
    id::{Epoch, Fence, PlacementNumber},
    machine::effect::{Order, Work},
    quantity::Millis,
};

use super::field::{ConvertError, message, optional, requester, required, text, trace, trace_text};
use crate::v1;

/// What the coordinator said, checked for its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorSaid {
    /// An order, with the numbers that let an agent refuse what an older leader says.
    Order {
        /// The leader's term.
        epoch: Epoch,
        /// Counts the term's effects from 1.
        sequence: u64,
        /// What to do.
        order: Order,
    },
    /// A probe, to be answered at once with an echo. It is not fenced: an answer harms nobody.
    Probe {
        /// To match the echo.
        number: u64,
    },
    /// A question about the agent's cache. It is not fenced: what it asks for harms no build.
    CacheQuestion(Box<v1::CacheQuestion>),
}

impl From<&CoordinatorSaid> for v1::CoordinatorMessage {
    fn from(said: &CoordinatorSaid) -> Self {
        use v1::coordinator_message::Message;
        match said {
            CoordinatorSaid::Order { epoch, sequence, order } => {
                Self { epoch: epoch.0, sequence: *sequence, message: Some(order.into()) }
            }
            CoordinatorSaid::Probe { number } => {
                Self { epoch: 0, sequence: 0, message: Some(Message::Probe(v1::Probe { number: *number })) }
            }
            CoordinatorSaid::CacheQuestion(question) => {
                let message = Message::CacheQuestion(question.as_ref().clone());
                Self { epoch: 0, sequence: 0, message: Some(message) }
            }
        }
    }
}

impl From<&Order> for v1::coordinator_message::Message {
    fn from(order: &Order) -> Self {
        match order {
            Order::Welcome { lease, renew_every } => {
                Self::Welcome(v1::Welcome { lease_ms: lease.0, renew_every_ms: renew_every.0 })
            }
            Order::Offer { work, placement, cache } => Self::Offer(v1::Offer {
                work: Some(work.as_ref().into()),
                placement: placement.0,
                cache: cache.as_deref().map(Into::into),
            }),
            Order::Grant { task, placement, fence } => {
                Self::Grant(v1::Grant { task: task.to_string(), placement: placement.0, fence: fence.0 })
            }
            Order::Revoke { task, fence, why } => Self::Revoke(v1::Revoke {
                task: task.to_string(),
                fence: fence.map(|fence| fence.0),
                why: why.clone(),
            }),
            Order::Settled { task, fence, accepted } => {
                Self::Settled(v1::Settled { task: task.to_string(), fence: fence.0, accepted: *accepted })
            }
            Order::Drain { why } => Self::Drain(v1::DrainOrder { why: why.clone() }),
            Order::Resume => Self::Resume(v1::Resume {}),
            Order::Shards { shards } => Self::Shards(shards.as_ref().into()),
        }
    }
}

impl TryFrom<v1::CoordinatorMessage> for CoordinatorSaid {
    type Error = ConvertError;

    fn try_from(wire: v1::CoordinatorMessage) -> Result<Self, ConvertError> {
        use v1::coordinator_message::Message;
        let order = match required(wire.message, "message")? {
            Message::Probe(v1::Probe { number }) => return Ok(Self::Probe { number }),
            Message::CacheQuestion(question) => return Ok(Self::CacheQuestion(Box::new(question))),
            Message::Welcome(welcome) => Order::Welcome {
                lease: Millis(welcome.lease_ms),
                renew_every: Millis(welcome.renew_every_ms),
            },
            Message::Offer(offer) => Order::Offer {
                work: Box::new(message(offer.work, "offer.work")?),
                placement: PlacementNumber(offer.placement),
                cache: readable(offer.cache),
            },
            Message::Grant(grant) => Order::Grant {
                task: text(&grant.task, "grant.task")?,
                placement: PlacementNumber(grant.placement),
                fence: Fence(grant.fence),
            },
            Message::Revoke(revoke) => Order::Revoke {
                task: text(&revoke.task, "revoke.task")?,
                fence: revoke.fence.map(Fence),
                why: revoke.why,
            },
            Message::Settled(settled) => Order::Settled {
                task: text(&settled.task, "settled.task")?,
                fence: Fence(settled.fence),
                accepted: settled.accepted,
            },
            Message::Drain(drain) => Order::Drain { why: drain.why },
            Message::Resume(v1::Resume {}) => Order::Resume,
            Message::Shards(shards) => {
                let shards = Shards::try_from(shards).map_err(|error| error.within("shards"))?;
                Order::Shards { shards: Arc::new(shards) }
            }
        };
        Ok(Self::Order { epoch: Epoch(wire.epoch), sequence: wire.sequence, order })
    }
}

/// Hints that this version cannot read, such as of a scope that came later, are no reason to refuse the work.
fn readable(hints: Option<v1::CacheHints>) -> Option<Box<CacheHints>> {
    hints.and_then(|hints| hints.try_into().ok()).map(Box::new)
}

impl From<&Work> for v1::Work {
    fn from(work: &Work) -> Self {
        Self {
            task: work.task.to_string(),
            kind: Some((&work.kind).into()),
            spec: Some((&work.spec).into()),
            resolution: work.resolution.as_ref().map(Into::into),
            traceparent: trace_text(work.traceparent.as_ref()),
            requester: work.requester.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<v1::Work> for Work {
    type Error = ConvertError;

    fn try_from(wire: v1::Work) -> Result<Self, ConvertError> {
        Ok(Self {
            task: text(&wire.task, "task")?,
            kind: message(wire.kind, "kind")?,
            spec: message(wire.spec, "spec")?,
            resolution: optional(wire.resolution, "resolution")?,
            traceparent: trace(&wire.traceparent, "traceparent")?,
            requester: requester(wire.requester.as_deref(), "requester")?,
        })
    }
}
