//! The coordinator's shell without its sockets: batches of inputs, one append for each, effects after it.

use std::sync::Arc;

use meridian_core::{
    id::{Epoch, JournalIndex, RequestId},
    machine::{
        CachePolicy, Durable, Limits, Machine,
        effect::{Action, Effect},
        event::Event,
        input::Input,
    },
    quantity::{ByteCount, Millis},
    time::Now,
};
use meridian_proto::convert::journal::{decode_event, decode_record, encode_event, encode_record};
use meridian_store::journal::{Journal as _, JournalError, LossyDisk, SegmentConfig, SegmentJournal};

use crate::simulation::{ledger::Ledger, signer};

/// A request whose answer nobody waits for.
const NOBODY: RequestId = RequestId(u64::MAX);

/// A coordinator that leads.
pub struct Coordinator {
    machine: Machine,
    journal: SegmentJournal,
    since_snapshot: u64,
}

/// Why a coordinator is gone. Nothing that it had decided and not made durable has left it.
#[derive(Debug)]
pub struct Dead;

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "coordinator at {}", self.machine.durable().last_index())
    }
}

/// Limits under which a task survives any number of crashes, and old builds are forgotten now and then.
fn limits() -> Limits {
    Limits {
        builds_kept: 100,
        cache: CachePolicy { manifests_max: 3, ..CachePolicy::default() },
        attempts_max: 1_000,
        losses_max: 1_000,
        placements_max: 10_000,
        lease: Millis::seconds(3),
        renew_every: Millis::seconds(1),
        offer: Millis::seconds(1),
        retry_first: Millis(50),
        retry_longest: Millis(500),
        ..Limits::default()
    }
}

impl Coordinator {
    /// Recovers what the disk holds, checks it against the ledger, and claims leadership.
    ///
    /// # Errors
    /// [`Dead`] when the power fails meanwhile.
    ///
    /// # Panics
    /// When the disk holds what no crash can leave behind: damage in what was durable.
    pub fn recover(disk: &LossyDisk, now: Now, ledger: &mut Ledger) -> Result<(Self, Vec<Effect>), Dead> {
        let config = SegmentConfig { segment_size: ByteCount::kib(256) };
        let journal = alive(SegmentJournal::open_on(Arc::new(disk.clone()), config))?;
        let (from, records) = alive(journal.latest_snapshot())?.unwrap_or_default();
        let records = records.iter().map(|record| decode_record(record).expect("a snapshot reads back"));
        let mut durable = if from == JournalIndex(0) {
            Durable::default()
        } else {
            Durable::from_records(records).expect("a snapshot is a state")
        };
        let mut read = Vec::new();
        loop {
            let next = JournalIndex(durable.last_index().0 + 1);
            let found = alive(journal.read(next, 64 << 10))?;
            if found.is_empty() {
                break;
            }
            for (index, bytes) in found {
                let event = decode_event(&bytes).expect("an event reads back");
                durable.apply(index, &event).expect("the journal is a history");
                read.push((index, event));
            }
        }
        ledger.check_recovery(&durable, &read);
        let epoch = Epoch(durable.epoch().0 + 1);
        let mut coordinator = Self { machine: Machine::new(durable, limits()), journal, since_snapshot: 0 };
        let effects = coordinator.turn(now, vec![Input::Lead { epoch }], ledger)?;
        Ok((coordinator, effects))
    }

    /// Decides on a batch, makes it durable by one append, and only then lets its effects out.
    ///
    /// # Errors
    /// [`Dead`] when the append fails: the caller throws this coordinator away.
    pub fn turn(&mut self, now: Now, inputs: Vec<Input>, ledger: &mut Ledger) -> Result<Vec<Effect>, Dead> {
        let expected = JournalIndex(self.machine.durable().last_index().0 + 1);
        let (mut events, mut effects): (Vec<(JournalIndex, Event)>, Vec<Effect>) = Default::default();
        for input in inputs {
            for input in self.as_told(input) {
                let step = self.machine.step(now, input);
                events.extend(step.events);
                // Nobody waits for the certificate of an agent that has just attached.
                let is_heard = |effect: &Effect| !matches!(&effect.action, Action::Reply { request, .. } if *request == NOBODY);
                effects.extend(step.effects.into_iter().filter(is_heard));
            }
        }
        if !events.is_empty() {
            let records: Vec<_> = events.iter().map(|(_, event)| encode_event(event)).collect();
            alive(self.journal.append(expected, &records))?;
            self.since_snapshot += records.len() as u64;
        }
        for (index, event) in &events {
            ledger.take(*index, event);
        }
        Ok(effects)
    }

    /// What the machine is told when an input arrives: an agent that attaches has its signer's key certified first, and a
    /// result has been looked at.
    fn as_told(&self, mut input: Input) -> Vec<Input> {
        match &mut input {
            Input::Attach { agent, .. } => {
                let certify = Input::CertifyKey { request: NOBODY, claim: signer::claim(agent) };
                vec![certify, input]
            }
            Input::Report { task, fence, outcome, evidence, .. } => {
                let order = self.machine.durable().signing_order(task, *fence);
                *evidence = Ok(signer::sign(order.as_ref(), outcome));
                vec![input]
            }
            _ => vec![input],
        }
    }

    /// Takes a snapshot when enough has happened since the last.
    ///
    /// # Errors
    /// [`Dead`] when the power fails meanwhile.
    pub fn keep_snapshot(&mut self, every: u64) -> Result<(), Dead> {
        if self.since_snapshot < every {
            return Ok(());
        }
        self.since_snapshot = 0;
        let at = self.machine.durable().last_index();
        let records: Vec<_> = self.machine.durable().records().iter().map(encode_record).collect();
        alive(self.journal.save_snapshot(at, &records, JournalIndex(at.0 + 1)))
    }

    /// The machine, for reads after a turn.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }
}

/// A disk that is off kills the coordinator; a disk that lies fails the simulation.
fn alive<T>(result: Result<T, JournalError>) -> Result<T, Dead> {
    match result {
        Ok(value) => Ok(value),
        Err(JournalError::Damaged(damage)) => panic!("a crash left damage behind: {damage}"),
        Err(_) => Err(Dead),
    }
}
