//! A role's tasks as a tree, and its orderly end.
//!
//! A [`TaskGroup`] holds tasks and groups that depend on them. Stopping goes from the leaves: first the dependents,
//! then the group's own tasks, all under one deadline. A task that panics, fails or ends before it was asked to
//! brings the whole tree down, and the outcome names it; a role never limps on without one of its parts.
//!
//! Not here: restarting. A role that fell is started anew by its supervisor, from what is on disk.

use std::{
    any::Any,
    collections::BTreeMap,
    error::Error as StdError,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::AbortHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells a task when to stop.
pub type Shutdown = CancellationToken;

/// Why a role came down, or did not come down cleanly.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The task.
        name: String,
        /// What it said.
        message: String,
    },
    /// A task returned an error.
    #[error("task {name} failed: {source}")]
    Failed {
        /// The task.
        name: String,
        /// Its error.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A task that must run as long as the role ended without being asked to.
    #[error("task {name} ended although nobody asked it to")]
    EndedEarly {
        /// The task.
        name: String,
    },
    /// Tasks did not stop in time and were cut off.
    #[error("tasks did not stop within {seconds} s and were cut off: {}", names.join(", "))]
    Stuck {
        /// The deadline, in seconds.
        seconds: u64,
        /// The tasks.
        names: Vec<String>,
    },
}

/// What all groups of one tree share: the first failure, and the signal that there is one.
#[derive(Default)]
struct Fate {
    first: Mutex<Option<TaskError>>,
    fallen: CancellationToken,
}

impl Fate {
    fn fall(&self, error: TaskError) {
        let mut first = locked(&self.first);
        if first.is_none() {
            *first = Some(error);
        }
        self.fallen.cancel();
    }
}

/// The tasks that have not ended, by the order of their start.
#[derive(Default)]
struct Running {
    started: u64,
    tasks: BTreeMap<u64, (String, AbortHandle)>,
}

#[derive(Default)]
struct Group {
    name: String,
    stop: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    dependents: Mutex<Vec<TaskGroup>>,
    fate: Arc<Fate>,
}

/// A handle to a group of tasks; clones are the same group.
#[derive(Clone)]
pub struct TaskGroup(Arc<Group>);

impl TaskGroup {
    /// The root of a tree. `name` stands before its tasks' names.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with_fate(name.to_owned(), Arc::default())
    }

    fn with_fate(name: String, fate: Arc<Fate>) -> Self {
        Self(Arc::new(Group { name, fate, ..Group::default() }))
    }

    /// A group whose tasks need this one's: they are stopped first.
    #[must_use]
    pub fn dependent(&self, name: &str) -> Self {
        let group = Self::with_fate(format!("{}/{name}", self.0.name), Arc::clone(&self.0.fate));
        if self.0.stop.is_cancelled() {
            group.0.stop.cancel();
        }
        locked(&self.0.dependents).push(group.clone());
        group
    }

    /// The token by which this group's tasks learn that they should stop.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.0.stop.clone()
    }

    /// Starts a task that runs until the group is stopped. If it ends before that, the role comes down.
    pub fn spawn<F, E>(&self, name: &str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        self.start(name, false, async { task.await.map_err(Into::into) });
    }

    /// Starts a task that may end by itself. If it panics or fails, the role comes down.
    pub fn spawn_finite<F, E>(&self, name: &str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        self.start(name, true, async { task.await.map_err(Into::into) });
    }

    fn start(
        &self,
        name: &str,
        may_end: bool,
        task: impl Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send + 'static,
    ) {
        let name = format!("{}/{name}", self.0.name);
        let task = tokio::spawn(task);
        let number = {
            let mut running = locked(&self.0.running);
            running.started += 1;
            let number = running.started;
            running.tasks.insert(number, (name.clone(), task.abort_handle()));
            number
        };
        let group = self.clone();
        self.0.tracker.spawn(async move {
            let outcome = task.await;
            locked(&group.0.running).tasks.remove(&number);
            let error = match outcome {
                Ok(Ok(())) if may_end || group.0.stop.is_cancelled() => return,
                Ok(Ok(())) => TaskError::EndedEarly { name },
                Ok(Err(source)) => TaskError::Failed { name, source },
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => TaskError::Panicked { name, message: panic_message(&*panic) },
                    // Only `stop_by` aborts, and it reports the task itself.
                    Err(_cancelled) => return,
                },
            };
            group.0.fate.fall(error);
        });
    }

    /// Runs the tree until `stop` resolves or a task falls, then stops it, leaves first, within `deadline`.
    ///
    /// # Errors
    /// The first task that fell, while running or while stopping; else the tasks that had to be cut off.
    pub async fn run(self, stop: impl Future<Output = ()>, deadline: Duration) -> Result<(), TaskError> {
        tokio::select! {
            () = self.0.fate.fallen.cancelled() => {}
            () = stop => {}
        }
        let mut stuck = Vec::new();
        self.stop_by(Instant::now() + deadline, &mut stuck).await;
        if let Some(error) = locked(&self.0.fate.first).take() {
            return Err(error);
        }
        if stuck.is_empty() {
            return Ok(());
        }
        Err(TaskError::Stuck { seconds: deadline.as_secs(), names: stuck })
    }

    /// Stops the dependents, then the group itself.
    async fn stop_by(&self, deadline: Instant, stuck: &mut Vec<String>) {
        // Stopping the dependents at once and waiting for them one after the other takes as long as the slowest.
        let dependents = std::mem::take(&mut *locked(&self.0.dependents));
        for group in dependents.iter().filter(|group| locked(&group.0.dependents).is_empty()) {
            group.0.stop.cancel();
        }
        for group in &dependents {
            Box::pin(group.stop_by(deadline, stuck)).await;
        }
        self.0.stop.cancel();
        self.0.tracker.close();
        if tokio::time::timeout_at(deadline, self.0.tracker.wait()).await.is_err() {
            for (name, task) in locked(&self.0.running).tasks.values() {
                stuck.push(name.clone());
                task.abort();
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// These locks are never held while anything can panic or wait; a poisoned one is still whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that ask a process to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes SIGTERM and SIGINT over from their default, which is to kill. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and says its name. Call it again to notice an impatient second.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    type Record = Arc<Mutex<Vec<&'static str>>>;

    /// A task that takes `turns` of the scheduler to stop and then records its name.
    fn recorded(group: &TaskGroup, name: &'static str, turns: u32, record: &Record) {
        let (stop, record) = (group.shutdown(), Arc::clone(record));
        group.spawn(name, async move {
            stop.cancelled().await;
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            locked(&record).push(name);
            Ok::<_, Infallible>(())
        });
    }

    #[tokio::test]
    async fn dependents_stop_before_what_they_depend_on() {
        let record = Record::default();
        let root = TaskGroup::new("role");
        recorded(&root, "journal", 0, &record);
        let middle = root.dependent("loop");
        recorded(&middle, "step", 5, &record);
        let leaf = middle.dependent("rpc");
        recorded(&leaf, "serve", 10, &record);
        root.run(async {}, SOON).await.unwrap();
        assert_eq!(*locked(&record), ["serve", "step", "journal"]);
    }

    #[tokio::test]
    async fn a_task_that_panics_brings_the_role_down_with_its_name() {
        let record = Record::default();
        let root = TaskGroup::new("role");
        recorded(&root, "journal", 0, &record);
        root.dependent("rpc").spawn("serve", async {
            if true {
                panic!("out of cheese");
            }
            Ok::<_, Infallible>(())
        });
        let error = root.run(pending(), SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "task role/rpc/serve panicked: out of cheese");
        assert_eq!(*locked(&record), ["journal"], "the others still stop in order");
    }

    #[tokio::test]
    async fn a_task_that_fails_or_ends_early_brings_the_role_down() {
        let root = TaskGroup::new("role");
        root.spawn_finite("warm-up", async { Ok::<_, Infallible>(()) });
        root.spawn("loop", async { Ok::<_, Infallible>(()) });
        let error = root.run(pending(), SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "task role/loop ended although nobody asked it to");

        let root = TaskGroup::new("role");
        root.spawn_finite("warm-up", async { Err::<(), _>("no fuel") });
        let error = root.run(pending(), SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "task role/warm-up failed: no fuel");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_cut_off_at_the_deadline_and_named() {
        let root = TaskGroup::new("role");
        root.spawn("deaf", async {
            pending::<()>().await;
            Ok::<_, Infallible>(())
        });
        let error = root.run(async {}, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(&error, TaskError::Stuck { names, .. } if names == &["role/deaf"]), "{error}");
    }

    #[tokio::test]
    async fn a_signal_is_told_by_its_name() {
        let mut signals = Signals::listen().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        assert_eq!(signals.next().await, "SIGTERM");
    }
}
