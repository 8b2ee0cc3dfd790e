//! What the agent tells of itself: what it measured and holds, and what its builds left for the next ones.

use meridian_core::schedule::sketch::HeldSketch;
use meridian_proto::convert::agent::AgentSaid;

use super::{AgentLoop, AttemptInput, MadeManifest};

impl AgentLoop {
    pub(super) fn announce(&mut self, made: MadeManifest) {
        let MadeManifest { task, fence, manifest, sample } = made;
        // That it is all here is known with it: the next build may need it at once.
        self.observe();
        self.say(&AgentSaid::ManifestMade { task, fence, manifest, sample });
    }

    pub(super) fn observe(&mut self) {
        let mut observation = self.worker.observed();
        let sketch = self.worker.sketch();
        if self.told_sketch.as_ref() != Some(&sketch) {
            observation.sketch = Some(HeldSketch::clone(&sketch));
            self.told_sketch = Some(sketch);
        }
        self.say(&AgentSaid::Observed(observation));
    }

    /// Declines offers from now on, or takes them again. Who is being stopped takes none, whatever is said.
    pub(super) fn heed_drain(&mut self, is_drained: bool) {
        if std::mem::replace(&mut self.is_drained, is_drained) != is_drained && !self.is_draining {
            self.step_all(|| if is_drained { AttemptInput::Drain } else { AttemptInput::Resume });
        }
    }
}
