//! The cheap handle by which services reach the loop.
//!
//! The queue behind it is bounded. A request that finds it full is refused at once with a typed error, so
//! that a flood costs its sender a retry and not the coordinator its memory; an agent's messages wait a
//! little instead, because losing one costs a lease.

use std::time::Duration;

use meridian_core::{
    id::{AgentId, Fence, RequestId, SessionId, TaskId},
    machine::{
        Machine,
        effect::Reply,
        input::{AgentOffer, Input},
    },
};
use meridian_proto::v1;
use meridian_store::journal::{CommitProgress, JournalError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::step_loop::Command;

/// How long any caller waits for the loop, the disk included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why the loop did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// The queue is full.
    #[error("the coordinator has more requests than it can take; try again in a second")]
    Busy,
    /// The loop has ended.
    #[error("the coordinator is stopping")]
    Stopped,
    /// The loop has ended because its journal found no space.
    #[error(
        "the coordinator has no space left for its journal and stops: free some on its disk and start it again"
    )]
    JournalFull,
    /// No answer came in time.
    #[error("the coordinator did not answer within 20 s; its disk may be stuck")]
    TimedOut,
}

/// Reaches the loop.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    /// Says why when the loop has ended.
    progress: watch::Receiver<CommitProgress>,
}

impl Handle {
    /// A handle on the queue's other end.
    pub(crate) const fn new(
        commands: mpsc::Sender<Command>,
        progress: watch::Receiver<CommitProgress>,
    ) -> Self {
        Self { commands, progress }
    }

    /// Steps with an input and waits until its reply is durable.
    pub(crate) async fn request(
        &self,
        input: impl FnOnce(RequestId) -> Input + Send + 'static,
    ) -> Result<Reply, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.offer(Command::Request { input: Box::new(input), reply })?;
        self.wait(answer).await
    }

    /// Steps with an input that nobody waits on.
    pub(crate) async fn input(&self, input: Input) -> Result<(), CommandError> {
        self.push(Command::Input(input)).await
    }

    /// Opens an agent's session.
    pub(crate) async fn attach(
        &self,
        agent: AgentId,
        offer: AgentOffer,
        held: Vec<(TaskId, Fence)>,
        orders: mpsc::Sender<v1::CoordinatorMessage>,
    ) -> Result<SessionId, CommandError> {
        let (session, answer) = oneshot::channel();
        self.push(Command::Attach { agent, offer, held, orders, session }).await?;
        self.wait(answer).await
    }

    /// Asks about the state; the answer comes once everything it rests on is durable.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Read(Box::new(move |machine| {
            let value = question(machine);
            Box::new(move || {
                // Whoever asked may have gone.
                let _ = sender.send(value);
            })
        })))?;
        self.wait(answer).await
    }

    fn offer(&self, command: Command) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => self.ended(),
        })
    }

    async fn push(&self, command: Command) -> Result<(), CommandError> {
        match timeout(PATIENCE, self.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(CommandError::TimedOut),
        }
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, CommandError> {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(CommandError::TimedOut),
        }
    }

    /// Why there is no loop any more. The journal's failure is published before the loop ends of it.
    fn ended(&self) -> CommandError {
        match self.progress.borrow().failure.as_deref() {
            Some(JournalError::DiskFull { .. }) => CommandError::JournalFull,
            _ => CommandError::Stopped,
        }
    }
}
