//! Whatever happened: what an export of it is replayed to, is what was lived through.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Parser as _;
use meridian_core::{
    build::{Artifact, BuildFlags, BuildSpec, Receipt, Resolution, Source, Toolchain, Wishes},
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, ProjectId, TaskId},
    machine::{
        Durable,
        event::{Event, EventKind},
        input::{Failure, FailureKind, Outcome},
        record::{
            BuildState, Candidate, Placement, Record, TaskKind, TaskRecord, TaskState, TokenGrant, Verdict,
        },
    },
    quantity::ByteCount,
    time::Wall,
};
use meridian_proto::convert::journal::{encode_event, encode_record};
use meridian_store::journal::{Journal as _, JournalFiles, SegmentConfig, SegmentJournal};
use proptest::prelude::*;

use super::{
    check::compare_replays,
    export::{Range, export, write_file},
    place::Place,
    replay::rebuild,
    run::run,
};
use crate::{
    args::{Cli, Command, journal::ExportArgs},
    exit_code::ExitCode,
};

const START_MS: u64 = 1_800_000_000_000;

/// A draw: which kind of event, about what, and whether the coordinator takes a snapshot after it.
type Draw = (u8, u8, u8);

fn project(pick: u8) -> ProjectId {
    ["acme/web", "acme/api"][usize::from(pick % 2)].parse().unwrap()
}

fn agent(pick: u8) -> AgentId {
    ["eu/a", "eu/b", "us/c"][usize::from(pick % 3)].parse().unwrap()
}

fn spec(pick: u8) -> BuildSpec {
    let platforms = ["linux/amd64", "linux/arm64"].map(|text| Platform::parse(text).unwrap());
    let source = if pick.is_multiple_of(3) {
        Source::Module { package: "example.com/tool".to_owned(), query: "latest".to_owned() }
    } else {
        let (root, work_dir, receipts) = (Digest::of(&[pick]), String::new(), Vec::new());
        Source::Tree { root, work_dir, workspace: false, origin: None, receipts }
    };
    BuildSpec {
        source,
        packages: vec![".".to_owned()],
        platforms: platforms[..1 + usize::from(pick % 2)].to_vec(),
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}

fn failure(pick: u8) -> Failure {
    let kind = [FailureKind::Compile, FailureKind::Lost, FailureKind::Infrastructure][usize::from(pick % 3)];
    Failure { kind, message: format!("trouble {pick}\nand more"), hint: String::new() }
}

fn built() -> Outcome {
    let (digest, size) = (Digest::of(b"binary"), ByteCount(6));
    let receipts = vec![Receipt { holder: "coordinator".to_owned(), digest, size, mac: vec![1] }];
    let (name, package) = ("tool_linux_amd64".to_owned(), ".".to_owned());
    let artifact = Artifact { name, package, digest, size, receipts, attestation: None };
    Outcome::Built {
        artifacts: vec![artifact],
        go_version: "go1.27.3".to_owned(),
        log: Vec::new(),
        hit_permille: Some(700),
    }
}

/// What can happen next of the drawn kind; `None` where it cannot.
struct Chance<'d> {
    durable: &'d Durable,
    pick: u8,
}

impl Chance<'_> {
    fn task(&self, is_right: impl Fn(&TaskState) -> bool) -> Option<&TaskRecord> {
        let all = self.durable.builds().flat_map(|build| &build.tasks);
        let tasks: Vec<_> = all.filter(|task| is_right(&task.state)).collect();
        tasks.get(usize::from(self.pick) % tasks.len().max(1)).copied()
    }

    fn build(&self, is_running: bool) -> Option<BuildId> {
        let builds: Vec<_> = self
            .durable
            .builds()
            .filter(|build| (build.state == BuildState::Running) == is_running)
            .collect();
        builds.get(usize::from(self.pick) % builds.len().max(1)).map(|build| build.id.clone())
    }

    fn submitted(&self) -> EventKind {
        let project = project(self.pick);
        let last = self.durable.records().into_iter().find_map(|record| match record {
            Record::Project(known) if known.id == project => Some(known.last_build),
            _ => None,
        });
        let index = self.durable.last_index();
        EventKind::BuildSubmitted {
            build: BuildId { project, number: last.unwrap_or(0) + 1 },
            key: IdempotencyKey::new(&format!("key-{index}")).unwrap(),
            request_digest: Digest::of(&[self.pick]),
            spec: Box::new(spec(self.pick)),
            traceparent: None,
            requester: Some("spiffe://acme/team/acme/member/ci".parse().unwrap()),
        }
    }

    fn placed(&self) -> Option<EventKind> {
        let task = self.task(|state| matches!(state, TaskState::Queued))?.id.clone();
        let chosen = agent(self.pick);
        let verdict = Verdict::Refused { why: "draining".to_owned() };
        let candidates = vec![Candidate { agent: agent(self.pick.wrapping_add(1)), verdict }];
        let number = PlacementNumber(self.durable.counters().placement.0 + 1);
        let placement = Placement {
            number,
            agent: chosen,
            because: "it is near".to_owned(),
            candidates,
            refused: Vec::new(),
            egress: None,
        };
        Some(EventKind::TaskPlaced { task, placement })
    }

    fn ended(&self, task: &TaskRecord, fence: Fence) -> EventKind {
        let id = task.id.clone();
        match &task.kind {
            TaskKind::Resolve => {
                let [module, version, sum] = ["example.com/tool", "v1.2.3", "h1:abc"].map(str::to_owned);
                EventKind::SourceResolved { task: id, fence, resolution: Resolution { module, version, sum } }
            }
            TaskKind::Compile(_) => EventKind::TaskSucceeded { task: id, fence, outcome: Box::new(built()) },
        }
    }

    fn of_lease(&self, kind: u8) -> Option<EventKind> {
        let task = self.task(|state| matches!(state, TaskState::Leased { .. }))?;
        let fence = task.state.fence()?;
        Some(match kind {
            0 => EventKind::AttemptFailed {
                task: task.id.clone(),
                fence,
                failure: failure(self.pick),
                memory: None,
                log: Vec::new(),
            },
            1 => EventKind::TaskFailed {
                task: task.id.clone(),
                failure: failure(self.pick),
                log: vec![Digest::of(b"log")],
            },
            _ => self.ended(task, fence),
        })
    }

    fn of_placement(&self, is_lease: bool) -> Option<EventKind> {
        let record = self.task(|state| matches!(state, TaskState::Placed { .. }))?;
        let TaskState::Placed { agent, placement } = &record.state else { return None };
        let task: TaskId = record.id.clone();
        Some(if is_lease {
            let fence = Fence(self.durable.counters().fence.0 + 1);
            EventKind::LeaseGranted { task, agent: agent.clone(), fence }
        } else {
            EventKind::PlacementWithdrawn { task, placement: *placement, why: "not taken up".to_owned() }
        })
    }

    fn event(&self, kind: u8) -> Option<EventKind> {
        let hash = Digest::of(&[self.pick % 4]);
        match kind % 20 {
            0 => Some(EventKind::EpochBegan { epoch: Epoch(self.durable.epoch().0 + 1) }),
            1..=4 => Some(self.submitted()),
            5..=7 => self.placed(),
            8..=10 => self.of_placement(true),
            11 => self.of_placement(false),
            12 => self.of_lease(0),
            13 => self.of_lease(1),
            14 | 15 => self.of_lease(2),
            16 => self.build(true).map(|build| EventKind::BuildCancelled {
                build,
                superseded_by: None,
                by: None,
            }),
            17 => self.build(false).map(|build| EventKind::BuildForgotten { build }),
            18 => {
                let expires = Wall(START_MS + 60_000);
                Some(EventKind::TokenCreated { hash, grant: TokenGrant::Agent(agent(self.pick)), expires })
            }
            _ => Some(EventKind::TokenRedeemed { hash }),
        }
    }
}

/// A coordinator that was lived through: its journal, and its state after each event.
struct Life {
    home: tempfile::TempDir,
    journal: SegmentJournal,
    /// The state after each event, from that after none on.
    lived: Vec<Durable>,
}

impl Life {
    fn begin() -> Self {
        let home = tempfile::tempdir().unwrap();
        // Small segments, so that there are several and some are let go.
        let config = SegmentConfig { segment_size: ByteCount::kib(8) };
        let journal = SegmentJournal::open(&home.path().join("journal"), config).unwrap();
        Self { home, journal, lived: vec![Durable::default()] }
    }

    fn of(draws: &[Draw]) -> Self {
        let mut life = Self::begin();
        for (kind, pick, snapshot) in draws {
            let chance = Chance { durable: life.now(), pick: *pick };
            if let Some(kind) = chance.event(*kind) {
                life.take(kind);
            }
            if *snapshot < 25 {
                life.snapshot(life.now().records().iter().map(encode_record).collect());
            }
        }
        life
    }

    fn now(&self) -> &Durable {
        self.lived.last().unwrap()
    }

    fn last(&self) -> JournalIndex {
        self.now().last_index()
    }

    /// Takes an event in, where it applies.
    fn take(&mut self, kind: EventKind) {
        let index = JournalIndex(self.last().0 + 1);
        let event = Event { at: Wall(START_MS + index.0 * 1_000), kind };
        let mut next = self.now().clone();
        if next.apply(index, &event).is_ok() {
            self.journal.append(index, &[encode_event(&event)]).unwrap();
            self.lived.push(next);
        }
    }

    fn snapshot(&mut self, records: Vec<Bytes>) {
        let at = self.last();
        if at.0 > 0 {
            self.journal.save_snapshot(at, &records, JournalIndex(at.0.saturating_sub(20))).unwrap();
        }
    }

    fn place(&self) -> Place {
        Place::directory(Some(self.home.path())).unwrap()
    }

    /// Exports to a file of this name.
    fn export(&self, name: &str, from: Option<u64>, to: u64) -> PathBuf {
        let out = self.home.path().join(name);
        let range = Range { from: from.map(JournalIndex), to: JournalIndex(to) };
        write_file(&self.place(), range, &out).unwrap();
        out
    }

    /// Every state from `base` to `to` that is rebuilt is the one that was lived through.
    fn check(&self, place: &Place, base: u64, to: u64) {
        for at in base..=to {
            let replayed = rebuild(place, Some(JournalIndex(at))).unwrap();
            assert_eq!(&replayed.durable, &self.lived[usize::try_from(at).unwrap()], "after event {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_an_export_is_replayed_to_is_what_was_lived_through(
        draws in prop::collection::vec(any::<Draw>(), 1..160),
        cut in 0..100u64,
    ) {
        let life = Life::of(&draws);
        let (place, last) = (life.place(), life.last().0);
        let checked = compare_replays(&place, None).unwrap();
        prop_assert_eq!(checked.end.0, last);
        life.check(&place, checked.base.0, last);

        let whole = Place::Export(life.export("whole", None, last));
        life.check(&whole, checked.base.0, last);
        let again = compare_replays(&whole, None).unwrap();
        prop_assert_eq!(&again, &checked, "an export holds the same snapshots");

        // A piece that begins anywhere after the oldest state and ends anywhere after that.
        if last > checked.base.0 {
            let from = checked.base.0 + 1 + cut % (last - checked.base.0);
            let to = from + (last - from) / 2;
            let piece = Place::Export(life.export("piece", Some(from), to));
            life.check(&piece, from - 1, to);
            prop_assert_eq!(compare_replays(&piece, None).unwrap().end.0, to);
        }
    }
}

/// Forty builds that were submitted, with a snapshot after the twentieth.
fn forty() -> Life {
    let mut life = Life::begin();
    for number in 0..40u8 {
        life.take(Chance { durable: life.now(), pick: number }.submitted());
        if number == 19 {
            life.snapshot(life.now().records().iter().map(encode_record).collect());
        }
    }
    life
}

fn trouble_of(place: &Place, at: u64) -> (ExitCode, String) {
    let trouble = rebuild(place, Some(JournalIndex(at))).unwrap_err();
    (trouble.exit, trouble.to_string())
}

#[test]
fn a_snapshot_that_a_replay_does_not_give_is_named_with_its_first_difference() {
    let mut life = forty();
    let mut records = life.now().records();
    let Record::Counters(counters) = &mut records[0] else { panic!("counters come first") };
    counters.fence = Fence(7);
    life.snapshot(records.iter().map(encode_record).collect());
    let trouble = compare_replays(&life.place(), None).unwrap_err();
    assert_eq!(trouble.exit, ExitCode::Broken);
    for told in ["after event 40", "counters", "fence is 7, not 0"] {
        assert!(trouble.message.contains(told), "{trouble}");
    }
    let export = Place::Export(life.export("incident", None, 40));
    assert!(compare_replays(&export, None).unwrap_err().message.contains("fence is 7, not 0"));
    assert!(compare_replays(&export, Some(JournalIndex(39))).is_ok(), "before it all is well");
}

#[test]
fn an_event_of_a_newer_release_ends_a_replay_there_and_not_before() {
    let mut life = forty();
    // A time, and a kind of event that does not exist yet.
    life.journal.append(JournalIndex(41), &[Bytes::from_static(&[8, 1, 0xa2, 0x06, 0])]).unwrap();
    let export = Place::Export(life.export("incident", None, 41));
    for place in [life.place(), export] {
        life.check(&place, 38, 40);
        let (exit, text) = trouble_of(&place, 41);
        assert_eq!(exit, ExitCode::Broken);
        for told in ["event 41 of ", "newer version", "--at 40"] {
            assert!(text.contains(told), "{text}");
        }
    }
}

#[test]
fn a_moment_that_is_not_there_is_said_to_be_so() {
    let life = forty();
    let (exit, text) = trouble_of(&life.place(), 41);
    assert!(exit == ExitCode::Usage && text.contains("it ends at 40"), "{text}");
    let piece = Place::Export(life.export("piece", Some(30), 35));
    life.check(&piece, 20, 35);
    let (exit, text) = trouble_of(&piece, 36);
    assert!(exit == ExitCode::Usage && text.contains("it ends at 35"), "{text}");
    let (exit, text) = trouble_of(&piece, 19);
    assert!(exit == ExitCode::Usage && text.contains("begins with the state after event 20"), "{text}");
    assert_eq!(rebuild(&life.place(), Some(JournalIndex(0))).unwrap().durable, Durable::default());
}

/// The last segment and how much of it was written.
fn last_segment(life: &Life) -> (PathBuf, Vec<u8>, usize) {
    let files = std::fs::read_dir(life.home.path().join("journal")).unwrap();
    let segment = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("segment".as_ref()))
        .max()
        .unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (segment, bytes, used)
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_lies_before_damage_can_be_exported_and_replayed_and_the_damage_is_named() {
    const DAMAGED: u64 = 25;
    let life = forty();
    let files = JournalFiles::list(&life.home.path().join("journal")).unwrap();
    let position = files.segments().iter().rposition(|first| first.0 <= DAMAGED).unwrap();
    let content = files.segment(position).unwrap().unwrap();
    let record = content.records.iter().find(|record| record.index.0 == DAMAGED).unwrap();
    let segment = life.home.path().join("journal").join(&content.file);
    let mut damaged = std::fs::read(&segment).unwrap();
    damaged[usize::try_from(record.offset).unwrap() + 30] ^= 1;
    write(&segment, &damaged);
    let (exit, text) = trouble_of(&life.place(), 40);
    assert_eq!(exit, ExitCode::Broken);
    for told in [&content.file, &format!("at byte {}", record.offset), "record 25", "--at"] {
        assert!(text.contains(told), "{text}");
    }
    life.check(&life.place(), 0, DAMAGED - 1);
    let export = Place::Export(life.export("before", None, DAMAGED - 1));
    life.check(&export, 0, DAMAGED - 1);
    assert_eq!(std::fs::read(&segment).unwrap(), damaged, "nothing is repaired");
}

#[test]
fn a_torn_end_costs_the_torn_record_alone() {
    let life = forty();
    let (segment, mut bytes, used) = last_segment(&life);
    bytes[used - 3..].fill(0);
    write(&segment, &bytes);
    life.check(&life.place(), 0, 39);
    assert_eq!(rebuild(&life.place(), None).unwrap().durable, life.lived[39]);
    assert!(trouble_of(&life.place(), 40).1.contains("it ends at 39"));
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing is cut away");
}

#[test]
fn an_export_is_never_written_over_another_file() {
    let life = forty();
    let out = life.export("once", None, 40);
    let before = std::fs::read(&out).unwrap();
    let range = Range { from: None, to: JournalIndex(10) };
    write_file(&life.place(), range, &out).unwrap_err();
    assert_eq!(std::fs::read(&out).unwrap(), before);
    let left: Vec<_> =
        std::fs::read_dir(life.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing half written is left behind: {left:?}");
}

#[test]
fn what_cannot_be_exported_is_said_as_it_is() {
    let life = forty();
    let dir = Some(life.home.path().to_owned());
    let told = |from: u64, to: u64, out: PathBuf| {
        let (from, to) = (Some(JournalIndex(from)), Some(JournalIndex(to)));
        let args = ExportArgs { dir: dir.clone(), from, to, build: None, out, json: false };
        let trouble = export(&args).unwrap_err();
        assert_eq!(trouble.exit, ExitCode::Usage, "{trouble}");
        trouble.to_string()
    };
    let out = life.home.path().join("out.mjx");
    let reversed = told(10, 5, out.clone());
    assert!(
        reversed.contains("no event from 10 on and up to 5") && !reversed.contains("ends at"),
        "{reversed}"
    );
    let nowhere = told(1, 5, "/nonexistent/out.mjx".into());
    assert!(nowhere.contains("there is no directory /nonexistent") && !nowhere.contains("free"), "{nowhere}");
    assert!(!out.exists());
}

#[test]
fn a_look_that_finds_nothing_says_so() {
    let life = forty();
    let inspected = |arguments: &[&str]| {
        let dir = life.home.path().display().to_string();
        let words = [&["meridian", "journal", "inspect", "--dir", &dir], arguments].concat();
        let Command::Journal(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another") };
        run(&args.command).map_err(|trouble| (trouble.exit, trouble.message))
    };
    let (exit, told) = inspected(&["--from", "5", "--to", "3"]).unwrap_err();
    assert!(exit == ExitCode::Usage && told.contains("from 5 on and up to 3"), "{told}");
    let (exit, told) = inspected(&["--build", "acme/none/7"]).unwrap_err();
    assert!(exit == ExitCode::Refused && told.contains("no event about build acme/none/7"), "{told}");
    assert_eq!(inspected(&["--build", "acme/web/1"]), Ok(()));
    assert_eq!(inspected(&["--from", "999999"]), Ok(()), "that is said beside the summary");
}
