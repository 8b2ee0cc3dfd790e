//! What a signer may sign: read from the state, never kept in it.

use crate::{
    attestation::{OrderedSource, SigningOrder},
    build::{BuildSpec, Resolution, Source},
    id::{AgentId, Fence, PlacementNumber, TaskId},
    machine::{
        durable::Durable,
        effect::Work,
        lease::last_placement,
        record::{TaskKind, TaskState, TaskStep},
        request::request_digest,
    },
    time::Wall,
};

impl Durable {
    /// All that an agent needs to carry a task out; `None` when the task is forgotten.
    #[must_use]
    pub fn work(&self, task: &TaskId) -> Option<Work> {
        let (build, record) = (self.build(&task.build)?, self.task(task)?);
        Some(Work {
            task: task.clone(),
            kind: record.kind.clone(),
            spec: build.spec.clone(),
            resolution: build.resolution.clone(),
            traceparent: build.traceparent.clone(),
            requester: build.requester.clone(),
        })
    }

    /// When the lease under `fence` was granted; `None` when the task never had it.
    #[must_use]
    pub fn leased_at(&self, task: &TaskId, fence: Fence) -> Option<Wall> {
        self.task(task)?.history.iter().rev().find_map(|step| match step {
            TaskStep::Leased { at, fence: leased, .. } if *leased == fence => Some(*at),
            _ => None,
        })
    }

    /// The order for the compile task that is leased under `fence`; `None` when there is no such lease.
    #[must_use]
    pub fn signing_order(&self, task: &TaskId, fence: Fence) -> Option<SigningOrder> {
        let TaskState::Leased { agent, fence: held } = &self.task(task)?.state else { return None };
        if *held != fence {
            return None;
        }
        let placement = last_placement(self.task(task)?)?;
        SigningOrder::of(&self.work(task)?, agent.clone(), fence, placement)
    }
}

impl SigningOrder {
    /// The order that goes with a lease; `None` for work that makes no artifact.
    #[must_use]
    pub fn of(work: &Work, agent: AgentId, fence: Fence, placement: PlacementNumber) -> Option<Self> {
        let TaskKind::Compile(platform) = &work.kind else { return None };
        let spec = &work.spec;
        Some(Self {
            task: work.task.clone(),
            fence,
            agent,
            placement,
            request: request_digest(spec),
            source: ordered_source(spec, work.resolution.as_ref())?,
            packages: spec.packages.clone(),
            platform: platform.clone(),
            toolchain: spec.toolchain.clone(),
            flags: spec.flags.clone(),
            name: spec.name.clone(),
            version: spec.version.clone(),
            from_scratch: spec.from_scratch,
            requester: work.requester.clone(),
        })
    }
}

/// A module source means something only once it is resolved.
fn ordered_source(spec: &BuildSpec, resolution: Option<&Resolution>) -> Option<OrderedSource> {
    Some(match &spec.source {
        Source::Module { package, query } => {
            let found = resolution?.clone();
            OrderedSource::Module {
                package: package.clone(),
                query: query.clone(),
                module: found.module,
                version: found.version,
                sum: found.sum,
            }
        }
        Source::Tree { root, work_dir, workspace, origin, receipts: _ } => OrderedSource::Tree {
            root: *root,
            work_dir: work_dir.clone(),
            workspace: *workspace,
            origin: origin.clone(),
        },
    })
}
