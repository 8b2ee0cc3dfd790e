//! The least things that can happen, as they stand in an event file.
//!
//! A happening names everything that chance decides, so that carrying it out draws nothing. One that does not fit what
//! is (the stream is gone, the process is dead) changes nothing, so that a shortened story can still be told.

use serde::{Deserialize, Serialize};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A coordinator's process starts, reads the journal and claims leadership.
    Start {
        /// On which host.
        host: u8,
    },
    /// The journal takes what the host's first undurable steps decided, and their effects leave.
    Commit {
        /// Which host.
        host: u8,
        /// How many steps.
        steps: u32,
    },
    /// The host's machine is told that time has passed.
    Tick {
        /// Which host.
        host: u8,
    },
    /// The host writes its state out.
    Snapshot {
        /// Which host.
        host: u8,
    },
    /// The coordinator's process dies. With `appends` the append that it had begun is carried out all the same, and the
    /// first `performs` of the effects that waited for it leave.
    Kill {
        /// On which host.
        host: u8,
        /// Whether the append is carried out.
        appends: bool,
        /// How many effects leave.
        performs: u32,
    },
    /// The journal's disk loses its power during the host's next append, after so many writes and syncs. The append
    /// fails, so the host's process discards its state and stops.
    Cut {
        /// Which host appends.
        host: u8,
        /// After how many changes.
        changes: u32,
        /// What is left of what was not synced.
        seed: u64,
    },
    /// The host's wall clock is set.
    Clock {
        /// Which host.
        host: u8,
        /// By how much.
        step_ms: i64,
    },
    /// A client asks for its build, for the first time or again.
    Ask {
        /// Which host.
        host: u8,
        /// Which client.
        wish: u32,
        /// Whether the client hears the answer.
        heard: bool,
    },
    /// A client gives its build up.
    Cancel {
        /// Which host.
        host: u8,
        /// Which client.
        wish: u32,
    },
    /// An agent dials.
    Open {
        /// Which agent.
        agent: u8,
        /// Which host answers.
        host: u8,
    },
    /// The next message of a stream arrives at the coordinator.
    Up {
        /// Which stream.
        link: u32,
    },
    /// The next message of a stream arrives at the agent.
    Down {
        /// Which stream.
        link: u32,
    },
    /// The agent notices that its stream is broken: of what it has sent, the first so many messages still arrive.
    AgentDrops {
        /// Which stream.
        link: u32,
        /// How many arrive.
        arrive: u32,
    },
    /// The coordinator notices that a stream is broken: of what it has sent, the first so many messages still arrive.
    HostDrops {
        /// Which stream.
        link: u32,
        /// How many arrive.
        arrive: u32,
    },
    /// An agent looks at its clock.
    Wake {
        /// Which agent.
        agent: u8,
    },
    /// An agent renews its leases.
    Renew {
        /// Which agent.
        agent: u8,
    },
    /// A run ends.
    Finish {
        /// On which agent.
        agent: u8,
        /// Under which lease.
        fence: u64,
        /// How.
        end: End,
    },
    /// An agent says how it does. Round trip and clock are what the coordinator has measured.
    Observe {
        /// Which agent.
        agent: u8,
        /// Its round trip.
        rtt_us: u32,
        /// Its clock minus the coordinator's.
        clock_off_ms: i32,
    },
    /// An agent's process dies: of what it has sent, the first so many messages still arrive.
    KillAgent {
        /// Which agent.
        agent: u8,
        /// How many arrive.
        arrive: u32,
    },
    /// An agent's process starts.
    StartAgent {
        /// Which agent.
        agent: u8,
    },
    /// An administrator takes an agent out of service, lets it back in, or plans to.
    Upkeep {
        /// Which host is asked.
        host: u8,
        /// Which agent.
        agent: u8,
        /// Which of the administrator's doings it is.
        number: u32,
        /// What.
        care: Care,
    },
    /// An agent's configuration gains or loses a label; its next process has read it.
    Label {
        /// Which agent.
        agent: u8,
        /// Which of the labels that there are.
        label: u8,
        /// Whether it has it from now on.
        has: bool,
    },
    /// An agent takes no new work until its process starts again.
    Drain {
        /// Which agent.
        agent: u8,
    },
    /// The journal is read back and compared with what must be there.
    Compare,
    /// The trouble has been over for long: everything must have ended, and nobody holds anything.
    End,
}

/// What an administrator does about an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Care {
    /// It keeps what it runs and gets nothing new.
    Cordon,
    /// It is emptied besides; after the grace what it runs is moved.
    Drain {
        /// The grace; for ever when not said.
        grace_ms: Option<u64>,
    },
    /// It is back in service.
    Uncordon,
    /// It is out of service for a while, by the clock of the host that is asked.
    Maintain {
        /// From now on until then it is in service.
        from_in_ms: u64,
        /// For how long it is not.
        lasts_ms: u64,
    },
    /// Nothing is planned any more.
    EndMaintenance,
}

impl Care {
    /// Whether it lets the agent back in.
    #[must_use]
    pub const fn lets_in(self) -> bool {
        matches!(self, Self::Uncordon | Self::EndMaintenance)
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With what it was for.
    Good,
    /// The code does not compile.
    Compile,
    /// The network or a tool had a bad day.
    Infrastructure,
    /// The disk is full.
    DiskFull,
    /// It wanted more memory than there was.
    OutOfMemory,
    /// It took too long.
    TimedOut,
    /// It was killed.
    Killed,
}

/// A happening and its moment, in milliseconds of virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}
