//! The samples that came with the scheduler.

use meridian_core::{
    build::{BuildSpec, ConcurrencyGroup, Wishes},
    id::{AgentId, BuildId, Fence, JournalIndex},
    machine::{
        event::EventKind,
        input::Outcome,
        record::{EgressRecord, ManifestRecord, Placement, Record, Verdict},
    },
    quantity::ByteCount,
    schedule::{
        cost::Terms,
        priority::Priority,
        run_times::{Learned, RunSums},
        sketch::Sample,
    },
};

use super::{artifact, lineage, log, manifest_made, module_spec, placement, submitted, task};

/// A placement that says what its costs consist of.
fn placement_in_terms(deliver_us: u64) -> Placement {
    let terms = Terms { wait_us: 0, rounds_us: 40_000, transfer_us: 800_000, run_us: 9_000_000, deliver_us };
    let mut placement = placement();
    placement.candidates.truncate(1);
    if let Verdict::Eligible { terms: shown, .. } = &mut placement.candidates[0].verdict {
        *shown = Some(terms);
    }
    placement.refused = vec![("draining".to_owned(), 1), ("region eu-central wanted".to_owned(), 4)];
    placement.egress = Some(("sa-east".parse().unwrap(), ByteCount(7_340_032)));
    placement
}

fn task_agent() -> AgentId {
    "eu-central/a1".parse().unwrap()
}

fn sample() -> Sample {
    Sample::of([(1, ByteCount(4_096)), (77, ByteCount(0)), (1 << 31, ByteCount(1 << 40))])
}

/// What came with the scheduler.
pub(super) fn events() -> Vec<(&'static str, EventKind)> {
    let fence = Fence(9);
    let wishes = Wishes {
        regions: ["eu-central", "sa-east"].map(|region| region.parse().unwrap()).into(),
        labels: ["hsm", "macos"].map(|label| label.parse().unwrap()).into(),
        priority: Priority::High,
        at_once: Some(2),
        group: Some(ConcurrencyGroup { name: "deploy".parse().unwrap(), cancels: true }),
        ..Wishes::default()
    };
    let built = Outcome::Built {
        artifacts: vec![artifact()],
        go_version: "go1.27.3".to_owned(),
        log: log(),
        hit_permille: Some(874),
    };
    let placed =
        |deliver_us| EventKind::TaskPlaced { task: task(), placement: placement_in_terms(deliver_us) };
    let (build, later) = ("acme/web/17".parse::<BuildId>().unwrap(), "acme/web/18".parse().ok());
    let by = "spiffe://acme/team/acme/member/ana".parse().ok();
    vec![
        ("build_submitted_wishes", submitted(BuildSpec { wishes, ..module_spec() })),
        ("task_placed_in_terms", placed(0)),
        ("task_placed_delivered", placed(430_000)),
        ("task_succeeded_hits", EventKind::TaskSucceeded { task: task(), fence, outcome: Box::new(built) }),
        (
            "build_cancelled_superseded",
            EventKind::BuildCancelled { build: build.clone(), superseded_by: later, by: None },
        ),
        ("build_cancelled_by", EventKind::BuildCancelled { build, superseded_by: None, by }),
        ("manifest_made_sampled", manifest_made(sample())),
    ]
}

/// What is learned, as it stands in a snapshot.
pub(super) fn records(made: ManifestRecord) -> Vec<(&'static str, Record)> {
    let sums = RunSums { weight: 3_072, hits: 900_000, hits_squared: 4, run_ms: 61_000_000, hits_by_run: 5 };
    let heard = JournalIndex(900);
    let lineage = Learned::Lineage { key: lineage().exact, sums, heard };
    let slow = Learned::Agent { agent: task_agent(), slowness_permille: 2_400, heard };
    let egress = EgressRecord { region: "sa-east".parse().unwrap(), day: 20_000, bytes: ByteCount(1 << 33) };
    vec![
        ("learned_lineage", Record::Learned(lineage)),
        ("learned_agent", Record::Learned(slow)),
        ("egress", Record::Egress(egress)),
        ("manifest_sampled", Record::Manifest(ManifestRecord { sample: sample(), ..made })),
    ]
}
