//! What the coordinator says of the cache that agents share, kept for the runs.
//!
//! All of it is soft: hints of a task that are gone make a build slower and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use meridian_core::{cache::hints::CacheHints, id::TaskId, machine::effect::Order};

/// What is known of the cache beyond this agent.
#[derive(Debug, Default)]
pub(super) struct CacheView {
    hints: BTreeMap<TaskId, Arc<CacheHints>>,
}

impl CacheView {
    /// Takes out of an order what it says of the cache. The hints of the newest offer of a task count.
    pub(super) fn learn(&mut self, order: &mut Order) {
        match order {
            Order::Offer { work, cache, .. } => match cache.take() {
                Some(hints) => {
                    self.hints.insert(work.task.clone(), Arc::from(hints));
                }
                None => self.forget(&work.task),
            },
            Order::Welcome { .. }
            | Order::Shards { .. }
            | Order::Grant { .. }
            | Order::Revoke { .. }
            | Order::Settled { .. }
            | Order::Drain { .. }
            | Order::Resume => {}
        }
    }

    /// What a task was offered with.
    pub(super) fn hints(&self, task: &TaskId) -> Option<Arc<CacheHints>> {
        self.hints.get(task).cloned()
    }

    /// Lets the hints of a task go.
    pub(super) fn forget(&mut self, task: &TaskId) {
        self.hints.remove(task);
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::{
        build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
        cache::scope::{Scope, TaskScopes},
        id::PlacementNumber,
        machine::{effect::Work, record::TaskKind},
    };

    use super::*;

    fn offer(team: Option<&str>) -> Order {
        let spec = BuildSpec {
            source: Source::Module { package: "example.com/x".to_owned(), query: "latest".to_owned() },
            packages: vec![".".to_owned()],
            platforms: Vec::new(),
            toolchain: Toolchain::Default,
            flags: BuildFlags::default(),
            name: None,
            version: String::new(),
            wishes: Wishes::default(),
            from_scratch: false,
            rebuild: None,
        };
        let (resolution, traceparent, requester) = (None, None, None);
        let task = "acme/web/1/0".parse().unwrap();
        let work = Box::new(Work { task, kind: TaskKind::Resolve, spec, resolution, traceparent, requester });
        let cache = team.map(|team| {
            let writes = Scope::Trusted(team.parse().unwrap());
            let scopes = TaskScopes { reads: vec![writes.clone()], writes };
            Box::new(CacheHints { scopes, manifest: None, grant: vec![1] })
        });
        Order::Offer { work, placement: PlacementNumber(1), cache }
    }

    #[test]
    fn the_hints_of_the_newest_offer_are_kept_until_the_task_is_forgotten() {
        let task: TaskId = "acme/web/1/0".parse().unwrap();
        let mut view = CacheView::default();
        let learn = |view: &mut CacheView, team| {
            let mut order = offer(team);
            view.learn(&mut order);
            assert!(matches!(order, Order::Offer { cache: None, .. }), "they are taken out");
            view.hints(&task).map(|hints| hints.scopes.writes.to_string())
        };
        assert_eq!(learn(&mut view, Some("acme")).as_deref(), Some("acme/trusted"));
        assert_eq!(learn(&mut view, Some("web")).as_deref(), Some("web/trusted"));
        assert_eq!(learn(&mut view, None), None);
        learn(&mut view, Some("acme"));
        view.forget(&"acme/web/1/0".parse().unwrap());
        assert!(view.hints.is_empty());
    }
}
