//! Compares two executables that should have been the same.

use std::{collections::BTreeMap, ops::Range};

use meridian_core::quantity::ByteCount;

use super::{
    build_id::Integrity,
    build_info::BuildInfo,
    cause::{Cause, Side},
    divergence::{
        CAUSES_MAX, Divergence, FIELDS_MAX, FieldDifference, PATHS_MAX, PathDifference, SECTIONS_MAX,
        SectionDifference, brief,
    },
    fields::{self, Field},
    function_table::FunctionTable,
    layout::ExecutableError,
    ownership::{self, next_difference},
    paths::{OneSided, Paths},
    reader::Executable,
    symbol::{Symbol, covering},
};

/// A part of the file: a section, or what lies between two.
pub(super) struct Region {
    pub(super) name: String,
    /// The how manieth of its name.
    occurrence: usize,
    pub(super) range: Range<usize>,
    /// Where it is mapped; 0 when it is not.
    pub(super) address: u64,
    pub(super) is_code: bool,
    pub(super) is_debug: bool,
}

/// Everything that a comparison asks of one executable.
pub(super) struct View<'data> {
    pub(super) executable: Executable<'data>,
    pub(super) symbols: Vec<Symbol<'data>>,
    pub(super) functions: Option<FunctionTable<'data>>,
    /// In the file's order, and together the whole file.
    pub(super) regions: Vec<Region>,
    /// The build id and what is made from it: they differ whenever anything does.
    pub(super) holes: Vec<Range<usize>>,
    build_info: Option<BuildInfo>,
    integrity: Integrity,
}

/// Says what differs between two executables and why; `None` when they are the same bytes.
///
/// The report is bounded and depends on nothing but the bytes. Bytes that are no executable are compared too.
#[must_use]
pub fn compare(left: &[u8], right: &[u8]) -> Option<Divergence> {
    if left == right {
        return None;
    }
    Some(match (View::open(left), View::open(right)) {
        (Ok(left), Ok(right)) => compare_views(&left, &right),
        (left_view, right_view) => {
            let errors = [(Side::Left, left_view.err()), (Side::Right, right_view.err())];
            unreadable(left, right, errors)
        }
    })
}

fn unreadable(left: &[u8], right: &[u8], errors: [(Side, Option<ExecutableError>); 2]) -> Divergence {
    let mut causes: Vec<Cause> = truncation(left, right).into_iter().collect();
    for (side, error) in errors {
        causes.extend(error.map(|error| Cause::Unreadable { side, why: brief(&error.to_string()) }));
    }
    let whole = |data: &[u8]| Some(ByteCount(data.len() as u64));
    let (differing, first_offset) = count_differences(left, right);
    let section = SectionDifference {
        name: "the whole file".to_owned(),
        left: whole(left),
        right: whole(right),
        differing,
        first_offset,
        first_address: None,
        symbol: None,
    };
    Divergence {
        causes,
        sections: vec![section],
        build_info: Vec::new(),
        paths: PathDifference::default(),
        omitted: 0,
    }
}

fn truncation(left: &[u8], right: &[u8]) -> Option<Cause> {
    let (side, short, long) =
        if left.len() < right.len() { (Side::Left, left, right) } else { (Side::Right, right, left) };
    let missing = ByteCount((long.len() - short.len()) as u64);
    (missing.0 > 0 && long.starts_with(short)).then_some(Cause::Truncated { side, missing })
}

fn compare_views(left: &View<'_>, right: &View<'_>) -> Divergence {
    let mut build_info = match (&left.build_info, &right.build_info) {
        (Some(left), Some(right)) => fields::differences(left, right),
        _ => Vec::new(),
    };
    let ours = Paths::find(left.data(), left.functions.as_ref());
    let theirs = Paths::find(right.data(), right.functions.as_ref());
    let (ours, theirs) = (ours.without(&theirs), theirs.without(&ours));
    let mut causes = causes(left, right, &build_info, [&ours, &theirs]);
    causes.truncate(CAUSES_MAX);
    let mut sections = section_differences(left, right);
    let list = |paths: &OneSided<'_>| paths.all().take(PATHS_MAX).map(brief).collect();
    let paths = PathDifference { left: list(&ours), right: list(&theirs) };
    let omitted = sections.len().saturating_sub(SECTIONS_MAX)
        + build_info.len().saturating_sub(FIELDS_MAX)
        + ours.all().count().saturating_sub(PATHS_MAX)
        + theirs.all().count().saturating_sub(PATHS_MAX);
    sections.truncate(SECTIONS_MAX);
    build_info.truncate(FIELDS_MAX);
    Divergence { causes, sections, build_info, paths, omitted }
}

fn causes(
    left: &View<'_>,
    right: &View<'_>,
    build_info: &[FieldDifference],
    [ours, theirs]: [&OneSided<'_>; 2],
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (our_target, their_target) = (left.target(), right.target());
    if our_target != their_target {
        return vec![Cause::Target { left: our_target, right: their_target }];
    }
    let altered = [(Side::Left, left.integrity), (Side::Right, right.integrity)];
    let is_whole = altered.iter().any(|(_, integrity)| *integrity == Integrity::Intact);
    let altered = altered.into_iter().filter(|(_, integrity)| *integrity == Integrity::Altered);
    causes.extend(truncation(left.data(), right.data()).filter(|_| !is_whole));
    causes.extend(altered.map(|(side, _)| Cause::Altered { side }));
    causes.extend(build_info.iter().map(cause_of_field));
    causes.extend(host_compiler(left, right));
    for (side, paths) in [(Side::Left, ours), (Side::Right, theirs)] {
        causes.extend(paths.telling().map(|path| Cause::AbsolutePath { path: brief(path), side }));
    }
    if causes.iter().any(Cause::is_root) {
        return causes;
    }
    causes.extend(stripped(left, right));
    if causes.is_empty() && equal_outside(left, right) {
        return vec![Cause::BuildId];
    }
    causes.extend(header_time(left, right));
    causes.extend(ownership::causes(left, right));
    if causes.is_empty() {
        causes.push(Cause::Unexplained);
    }
    causes
}

fn cause_of_field(difference: &FieldDifference) -> Cause {
    let (left, right) = (difference.left.clone(), difference.right.clone());
    let word = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    match &difference.field {
        Field::GoVersion => Cause::GoVersion { left: word(left), right: word(right) },
        Field::Path | Field::MainModule => Cause::MainModule { left: word(left), right: word(right) },
        Field::Dependency(path) | Field::DependencySum(path) => {
            Cause::Dependency { path: path.clone(), left, right }
        }
        Field::Setting(key) => Cause::Setting { key: key.clone(), left, right },
    }
}

/// The C compilers and linkers that took part, when they are others. GNU's and LLVM's name themselves in `.comment`.
fn host_compiler(left: &View<'_>, right: &View<'_>) -> Option<Cause> {
    let names = |view: &View<'_>| {
        let region = view.regions.iter().find(|region| region.name == ".comment")?;
        let mut names: Vec<String> = view
            .bytes(region)
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| brief(&String::from_utf8_lossy(name)))
            .collect();
        names.sort();
        names.dedup();
        Some(brief(&names.join(", ")))
    };
    let (left, right) = (names(left), names(right));
    let word = |names: Option<String>| names.unwrap_or_else(|| "none".to_owned());
    (left != right).then(|| Cause::HostCompiler { left: word(left), right: word(right) })
}

/// Which side lacks what only debuggers need.
fn stripped(left: &View<'_>, right: &View<'_>) -> Option<Cause> {
    let count = |view: &View<'_>| view.regions.iter().filter(|region| region.is_debug).count();
    match count(left).cmp(&count(right)) {
        std::cmp::Ordering::Less => Some(Cause::Stripped { side: Side::Left }),
        std::cmp::Ordering::Greater => Some(Cause::Stripped { side: Side::Right }),
        std::cmp::Ordering::Equal => None,
    }
}

/// The header's time stamp, when it differs.
fn header_time(left: &View<'_>, right: &View<'_>) -> Option<Cause> {
    let stamp = |view: &View<'_>| {
        let bytes = view.data().get(view.time_stamp()?)?;
        Some(format!("{} in the header", u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    let (left, right) = (stamp(left)?, stamp(right)?);
    (left != right).then_some(Cause::TimeStamp { left, right })
}

/// Whether both are the same apart from their build ids.
fn equal_outside(left: &View<'_>, right: &View<'_>) -> bool {
    let (ours, theirs) = (left.data(), right.data());
    let mut holes: Vec<_> = left.holes.iter().chain(&right.holes).cloned().collect();
    holes.sort_unstable_by_key(|hole| (hole.start, hole.end));
    let mut from = 0;
    for hole in holes {
        let start = hole.start.clamp(from, ours.len());
        if ours.len() != theirs.len() || ours[from..start] != theirs[from..start] {
            return false;
        }
        from = hole.end.clamp(start, ours.len());
    }
    ours.get(from..) == theirs.get(from..)
}

fn section_differences(left: &View<'_>, right: &View<'_>) -> Vec<SectionDifference> {
    let size = |region: &Region| Some(ByteCount(region.range.len() as u64));
    let one_sided = |region: &Region, left, right| SectionDifference {
        name: region.name.clone(),
        left,
        right,
        differing: ByteCount(region.range.len() as u64),
        first_offset: None,
        first_address: None,
        symbol: None,
    };
    let mut found = Vec::new();
    for region in &left.regions {
        let Some(other) = right.region(region) else {
            found.push(one_sided(region, size(region), None));
            continue;
        };
        let (ours, theirs) = (left.bytes(region), right.bytes(other));
        if ours == theirs {
            continue;
        }
        let (differing, first_offset) = count_differences(ours, theirs);
        let address = |at: u64| (region.address != 0).then(|| region.address.saturating_add(at));
        let first_address = first_offset.and_then(address);
        found.push(SectionDifference {
            name: region.name.clone(),
            left: size(region),
            right: size(other),
            differing,
            first_offset,
            first_address,
            symbol: first_address.and_then(|address| left.name_at(address)).map(brief),
        });
    }
    let only_right = right.regions.iter().filter(|region| left.region(region).is_none());
    found.extend(only_right.map(|region| one_sided(region, None, size(region))));
    found
}

/// How many bytes differ, and the first of them.
fn count_differences(left: &[u8], right: &[u8]) -> (ByteCount, Option<u64>) {
    let common = left.iter().zip(right).filter(|(left, right)| left != right).count();
    let differing = common + left.len().abs_diff(right.len());
    let first = next_difference(left, right, 0).unwrap_or(left.len().min(right.len()));
    (ByteCount(differing as u64), (differing > 0).then_some(first as u64))
}

impl<'data> View<'data> {
    fn open(data: &'data [u8]) -> Result<Self, ExecutableError> {
        let executable = Executable::parse(data)?;
        let layout = executable.layout();
        let mut holes = executable.build_id().map(|id| id.places(data)).unwrap_or_default();
        let range = |range: &Range<u64>| {
            Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?.min(data.len()))
        };
        holes.extend(layout.host_build_id.as_ref().and_then(range));
        holes.extend(layout.code_signature.as_ref().and_then(range));
        Ok(Self {
            symbols: executable.symbols(),
            functions: executable.functions(),
            regions: regions(&executable),
            build_info: executable.build_info().ok(),
            integrity: executable.integrity(),
            holes,
            executable,
        })
    }

    fn data(&self) -> &'data [u8] {
        self.executable.data()
    }

    pub(super) fn bytes(&self, region: &Region) -> &'data [u8] {
        self.data().get(region.range.clone()).unwrap_or_default()
    }

    /// The region of the same name as another file's.
    pub(super) fn region(&self, other: &Region) -> Option<&Region> {
        let mut regions = self.regions.iter();
        regions.find(|region| region.name == other.name && region.occurrence == other.occurrence)
    }

    /// The main module's path; empty when it is not known.
    pub(super) fn main_module(&self) -> &str {
        self.build_info.as_ref().and_then(|info| info.main.as_ref()).map_or("", |module| &module.path)
    }

    /// Container, operating system and architecture.
    fn target(&self) -> String {
        let system = self.build_info.as_ref().and_then(|info| info.setting("GOOS")).unwrap_or("unknown");
        let architecture = self.executable.architecture().unwrap_or("unknown");
        format!("{} {}/{architecture}", self.executable.format(), brief(system))
    }

    fn time_stamp(&self) -> Option<Range<usize>> {
        let range = self.executable.layout().time_stamp.as_ref()?;
        Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }

    /// The function or symbol that covers an address.
    fn name_at(&self, address: u64) -> Option<&str> {
        let function = self.functions.as_ref().and_then(|table| table.at(address));
        let symbol = || covering(&self.symbols, address).map(|symbol| symbol.name);
        function.map(|function| function.name).or_else(symbol)
    }
}

/// The sections in the file's order, and what lies before, between and behind them.
fn regions(executable: &Executable<'_>) -> Vec<Region> {
    let mut sections: Vec<_> = executable
        .sections()
        .iter()
        .filter(|section| section.size > 0)
        .filter_map(|section| Some((section.range()?, section)))
        .collect();
    sections.sort_by_key(|(range, _)| (range.start, range.end));
    let gap = |name: String, range: Range<usize>| Region {
        name,
        occurrence: 0,
        range,
        address: 0,
        is_code: false,
        is_debug: false,
    };
    let mut regions = Vec::new();
    let mut at = 0;
    let mut gap_name = "file header".to_owned();
    for (range, section) in sections {
        if range.start > at {
            regions.push(gap(gap_name, at..range.start));
        }
        at = at.max(range.end);
        gap_name = format!("after {}", section.name);
        regions.push(Region {
            name: section.name.clone(),
            occurrence: 0,
            range,
            address: section.address,
            is_code: section.is_code,
            is_debug: section.is_debug(),
        });
    }
    if executable.data().len() > at {
        regions.push(gap(gap_name, at..executable.data().len()));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for region in &mut regions {
        let count = seen.entry(region.name.clone()).or_default();
        region.occurrence = *count;
        *count += 1;
    }
    regions
}
