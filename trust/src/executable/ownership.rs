//! Which function, variable or data the differing bytes belong to.
//!
//! While everything lies where it lay, a byte's owner is whoever covers its address. Once a function has grown,
//! everything behind it moves and every call over it changes, so that the first differing byte is mostly somebody
//! else's; then the names are compared instead: who has another size, or is only in one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    cause::Cause,
    compare::{Region, View},
    divergence::brief,
    function_table::{Function, FunctionTable},
    layout::{Format, Section},
    symbol::covering,
};

/// How many owners are looked at, and how many of one kind are named.
const OWNERS_MAX: usize = 64;
const NAMED_MAX: usize = 4;
/// How far around a difference a time stamp is looked for, in bytes.
const TIME_LEN_MAX: usize = 40;

/// What lies at a differing byte.
enum Owner<'v> {
    Function(Function<'v>),
    /// A section of instructions, where no function is known.
    Code(&'v str),
    /// A symbol, or a section where no symbol is known.
    Data(&'v str),
}

/// The causes that the differing bytes show; none when nobody is seen to own them.
pub(super) fn causes(left: &View<'_>, right: &View<'_>) -> Vec<Cause> {
    let found = if is_same_layout(left, right) { by_address(left, right) } else { by_name(left, right) };
    if found.is_empty() { source_lines(left, right).into_iter().collect() } else { found }
}

fn is_same_layout(left: &View<'_>, right: &View<'_>) -> bool {
    fn mapped<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v str, u64, u64, u64)> {
        let sections = view.executable.sections().iter();
        let sections = sections.filter(|section| section.address != 0 && !section.is_debug());
        sections.map(|section| (section.name.as_str(), section.address, section.memory_size, section.size))
    }
    mapped(left).eq(mapped(right))
}

/// The place of the next byte that differs.
pub(super) fn next_difference(left: &[u8], right: &[u8], from: usize) -> Option<usize> {
    const STRIDE: usize = 4096;
    let len = left.len().min(right.len());
    let mut at = from;
    while at < len {
        let end = len.min(at + STRIDE);
        let (ours, theirs) = (&left[at..end], &right[at..end]);
        if ours != theirs {
            return ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs).map(|found| at + found);
        }
        at = end;
    }
    None
}

fn by_address(left: &View<'_>, right: &View<'_>) -> Vec<Cause> {
    let mut found = Found::default();
    let table = left.functions.as_ref().map(FunctionTable::range);
    let mut owners = 0;
    for region in left.regions.iter().filter(|region| region.address != 0 && !is_bookkeeping(&region.name)) {
        let Some(other) = right.region(region) else { continue };
        let (ours, theirs) = (left.bytes(region), right.bytes(other));
        let mut from = 0;
        while let Some(at) = next_difference(ours, theirs, from) {
            let place = region.range.start + at;
            if let Some(hole) = left.holes.iter().find(|hole| hole.contains(&place)) {
                from = hole.end - region.range.start;
                continue;
            }
            let address = region.address + at as u64;
            if let Some(table) = table.as_ref().filter(|table| table.contains(&address)) {
                from = usize::try_from(table.end - region.address).unwrap_or(usize::MAX);
                continue;
            }
            owners += 1;
            if owners > OWNERS_MAX {
                return found.causes(left.main_module());
            }
            let (owner, end) = owner(left, region, address);
            if let Owner::Data(_) = owner
                && let (Some(ours), Some(theirs)) = (time_at(ours, at), time_at(theirs, at))
                && ours != theirs
            {
                found.times.push(Cause::TimeStamp { left: brief(ours), right: brief(theirs) });
            }
            found.add(&owner);
            let end = usize::try_from(end - region.address).unwrap_or(usize::MAX);
            from = end.max(at + 1);
        }
    }
    found.causes(left.main_module())
}

/// Who covers an address, and where it ends.
fn owner<'v>(view: &'v View<'_>, region: &'v Region, address: u64) -> (Owner<'v>, u64) {
    if let Some(function) = view.functions.as_ref().and_then(|table| table.at(address)) {
        return (Owner::Function(*function), function.address + function.size);
    }
    let region_end = region.address + region.range.len() as u64;
    match covering(&view.symbols, address) {
        Some(symbol) if region.is_code => {
            let (name, address, size) = (symbol.name, symbol.address, symbol.size);
            let function = Function { name, address, size, file: None, start_line: None };
            (Owner::Function(function), address.saturating_add(size))
        }
        Some(symbol) => (Owner::Data(symbol.name), symbol.address.saturating_add(symbol.size)),
        None if region.is_code => (Owner::Code(&region.name), region_end),
        None => (Owner::Data(&region.name), region_end),
    }
}

/// Sections that follow from the others, and so say nothing about the cause.
fn is_bookkeeping(section: &str) -> bool {
    let name = section.rsplit(',').next().unwrap_or_default().trim_start_matches(['.', '_']);
    matches!(name, "gopclntab" | "go_buildinfo" | "go.buildinfo" | "note.go.buildid" | "note.gnu.build-id")
        || matches!(name, "go:buildid" | "producers" | "file header")
}

/// Symbols of the same kind.
fn is_bookkeeping_symbol(name: &str) -> bool {
    ["runtime.pclntab", "runtime.findfunctab", "runtime.firstmoduledata", "runtime.modinfo", "go:buildid"]
        .iter()
        .chain(&["go:buildinfo", "runtime.functab", "go:func.*", "runtime.textsectionmap"])
        .any(|prefix| name.starts_with(prefix))
}

/// What was found, by kind: each named once.
#[derive(Default)]
struct Found<'v> {
    times: Vec<Cause>,
    variables: BTreeSet<&'v str>,
    functions: Vec<Function<'v>>,
    code: Vec<&'v str>,
    data: Vec<&'v str>,
}

impl<'v> Found<'v> {
    fn add(&mut self, owner: &Owner<'v>) {
        match owner {
            Owner::Function(function) => self.functions.push(*function),
            Owner::Code(section) => self.code.push(section),
            Owner::Data(name) if is_bookkeeping_symbol(name) => {}
            Owner::Data(name) => match variable_of(name) {
                Some(variable) => drop(self.variables.insert(variable)),
                None => self.data.push(name),
            },
        }
    }

    /// Times, then what the linker was told, then code; data only where nothing else is seen.
    fn causes(mut self, main_module: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        self.times.dedup();
        causes.extend(self.times.into_iter().take(1));
        let variable = |name: &&str| Cause::Variable { name: brief(name) };
        causes.extend(self.variables.iter().take(NAMED_MAX).map(variable));
        // Generated files first: they are the usual reason, and what they feed differs with them.
        let rank = |function: &Function<'_>| {
            (origin(function.name, main_module), !function.file.is_some_and(is_generated))
        };
        self.functions.sort_by_key(rank);
        // With one Go version, the standard library's code differs only in the addresses of what has moved.
        if self.functions.first().is_some_and(|first| origin(first.name, main_module) < Origin::Standard) {
            self.functions.retain(|function| origin(function.name, main_module) < Origin::Standard);
        }
        causes.extend(self.functions.iter().take(NAMED_MAX).map(function_cause));
        if causes.is_empty() {
            let mut code = self.code.into_iter();
            causes.extend(code.next().map(|place| Cause::Code { place: brief(place) }));
        }
        if causes.is_empty() {
            let mut data = self.data.into_iter();
            causes.extend(data.next().map(|place| Cause::Data { place: brief(place) }));
        }
        causes
    }
}

/// Whose code a function is; in this order it is worth naming.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// The main module's.
    Own,
    /// A dependency's.
    Dependency,
    /// The standard library's or the runtime's.
    Standard,
}

fn origin(function: &str, main_module: &str) -> Origin {
    let is_below = |path: &str| {
        let rest = function.strip_prefix(path).unwrap_or("x");
        !path.is_empty() && rest.starts_with(['.', '/'])
    };
    if is_below("main") || is_below(main_module) {
        return Origin::Own;
    }
    // A module's path begins with a host, the standard library's packages do not.
    match function.split_once('/') {
        Some((host, _)) if host.contains('.') => Origin::Dependency,
        _ => Origin::Standard,
    }
}

fn function_cause(function: &Function<'_>) -> Cause {
    Cause::Function {
        name: brief(function.name),
        file: function.file.map(brief),
        is_generated: function.file.is_some_and(is_generated),
    }
}

/// The variable whose value the linker was told: it puts the text into a symbol of its own.
fn variable_of(symbol: &str) -> Option<&str> {
    let variable = symbol.strip_suffix(".str")?;
    (!variable.starts_with("runtime.") && variable.contains('.')).then_some(variable)
}

/// Whether a file's name is one that generators give.
pub(super) fn is_generated(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    // The compiler's own wrappers stand in `<autogenerated>`, which is no file.
    if name.starts_with('<') {
        return false;
    }
    let endings = [".pb.go", ".gw.go", "_gen.go", ".gen.go", "_string.go", "_enumer.go", "_templ.go"];
    let parts = ["generated", "bindata", "autogen"];
    endings.iter().any(|ending| name.ends_with(ending))
        || parts.iter().any(|part| name.contains(part))
        || matches!(name, "gen.go" | "_cgo_gotypes.go")
}

fn by_name(left: &View<'_>, right: &View<'_>) -> Vec<Cause> {
    let mut found = Found::default();
    let (ours, theirs) = (functions(left), functions(right));
    found.functions = other_sizes(&ours, &theirs).into_iter().map(|(function, _)| function).collect();
    let (ours, theirs) = (data_symbols(left), data_symbols(right));
    for (name, _) in other_sizes(&ours, &theirs) {
        found.add(&Owner::Data(name));
    }
    // What a package declares tells more than the tables that the linker makes of it.
    found.data.sort_by_key(|name| (name.starts_with(['$']) || name.contains(':'), *name));
    let mut causes = found.causes(left.main_module());
    if causes.is_empty() && keeps_constants(left, right) {
        // A function that grew into its own padding moves no other: only what is written about it has another size.
        causes = by_address(left, right);
    }
    if causes.is_empty() { moved_section(left, right).into_iter().collect() } else { causes }
}

/// Whether instructions and constants lie where they lay. Where a constant moved, so did what instructions say of
/// it, and no function is to blame.
fn keeps_constants(left: &View<'_>, right: &View<'_>) -> bool {
    fn fixed<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v str, u64, usize)> {
        let is_fixed = |name: &str| name.ends_with("rodata");
        let regions = view.regions.iter().filter(move |region| region.is_code || is_fixed(&region.name));
        regions.map(|region| (region.name.as_str(), region.address, region.range.len()))
    }
    fixed(left).eq(fixed(right))
}

/// Items by name; of several with one name, how many and their size together.
type Sizes<'v, T> = BTreeMap<&'v str, (T, usize, u64)>;

fn functions<'v>(view: &'v View<'_>) -> Sizes<'v, Function<'v>> {
    let mut sizes = Sizes::new();
    let mut add = |function: Function<'v>| {
        let entry = sizes.entry(function.name).or_insert((function, 0, 0));
        entry.1 += 1;
        entry.2 += function.size;
    };
    match &view.functions {
        Some(table) => table.functions().iter().for_each(|function| add(*function)),
        None if view.executable.format() == Format::Wasm => view.symbols.iter().for_each(|symbol| {
            let (name, address, size) = (symbol.name, symbol.address, symbol.size);
            add(Function { name, address, size, file: None, start_line: None });
        }),
        None => {}
    }
    sizes
}

fn data_symbols<'v>(view: &'v View<'_>) -> Sizes<'v, &'v str> {
    let code: Vec<&Section> = view.executable.sections().iter().filter(|section| section.is_code).collect();
    let is_code = |address: u64| {
        code.iter()
            .any(|section| address.checked_sub(section.address).is_some_and(|at| at < section.memory_size))
    };
    let mut sizes = Sizes::new();
    for symbol in view.symbols.iter().filter(|symbol| !is_code(symbol.address)) {
        let entry = sizes.entry(symbol.name).or_insert((symbol.name, 0, 0));
        entry.1 += 1;
        entry.2 += symbol.size;
    }
    sizes
}

/// The items of which number or size differ, or that one side lacks, by name.
fn other_sizes<T: Copy>(left: &Sizes<'_, T>, right: &Sizes<'_, T>) -> Vec<(T, u64)> {
    let size = |sizes: &Sizes<'_, T>, name: &str| sizes.get(name).map(|(_, count, size)| (*count, *size));
    let names: BTreeSet<&str> = left.keys().chain(right.keys()).copied().collect();
    let other = names.into_iter().filter(|name| size(left, name) != size(right, name));
    let items =
        other.filter_map(|name| left.get(name).or(right.get(name)).map(|(item, _, size)| (*item, *size)));
    items.collect()
}

/// The first section that differs: all that a stripped file shows of a longer constant.
///
/// Instructions count only when they have another size, since they point at what has moved.
fn moved_section(left: &View<'_>, right: &View<'_>) -> Option<Cause> {
    let is_moved = |region: &&Region| {
        let (ours, theirs) = (left.bytes(region), right.region(region).map(|other| right.bytes(other)));
        if region.is_code {
            theirs.is_none_or(|theirs| ours.len() != theirs.len())
        } else {
            Some(ours) != theirs
        }
    };
    // What is not mapped, such as headers between sections, only follows from the rest.
    let is_telling =
        |region: &&Region| region.address != 0 && !is_bookkeeping(&region.name) && !region.is_debug;
    let moved = left.regions.iter().filter(is_telling).find(is_moved)?;
    let place = brief(&moved.name);
    Some(if moved.is_code { Cause::Code { place } } else { Cause::Data { place } })
}

/// When nothing else differs than the lines: the file that they stand in.
fn source_lines(left: &View<'_>, right: &View<'_>) -> Option<Cause> {
    let (ours, theirs) = (left.functions.as_ref()?, right.functions.as_ref()?);
    let file = ours.first_on_other_lines(theirs)?.file?;
    Some(Cause::SourceLines { file: brief(file) })
}

/// The date (`2026-11-25…`) or the Unix time in seconds that covers a place.
fn time_at(bytes: &[u8], at: usize) -> Option<&str> {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"-:.+TZ ".contains(&byte);
    let start = bytes[..at].iter().rev().take(TIME_LEN_MAX).take_while(|byte| is_part(**byte)).count();
    let len = bytes[at..].iter().take(TIME_LEN_MAX).take_while(|byte| is_part(**byte)).count();
    let run = std::str::from_utf8(&bytes[at - start..at + len]).ok()?;
    // Strings of Go touch each other, so digits of a neighbour may stand around the stamp.
    let candidates = (0..run.len().min(start + 1)).filter_map(|from| run.get(from..));
    let date = |text: &&str| {
        let bytes = text.as_bytes();
        bytes.len() >= 10
            && bytes.starts_with(b"20")
            && bytes[..10].iter().enumerate().all(|(index, byte)| match index {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    let seconds =
        |text: &str| text.len() == 10 && text.starts_with('1') && text.bytes().all(|b| b.is_ascii_digit());
    candidates
        .clone()
        .find(date)
        .map(|text| text[..text.len().min(25)].trim_end())
        .or(seconds(run).then_some(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_difference_is_found_in_any_stride() {
        let left = vec![0u8; 10_000];
        for place in [0, 1, 4095, 4096, 9_999] {
            let mut right = left.clone();
            right[place] = 1;
            assert_eq!(next_difference(&left, &right, 0), Some(place));
            assert_eq!(next_difference(&left, &right, place + 1), None);
        }
        assert_eq!(next_difference(&left, &left[..5000], 0), None);
    }

    #[test]
    fn a_time_stamp_is_recognized_at_any_of_its_bytes() {
        let bytes = b"abc2026-11-25T15:54:16Zdef";
        for at in 3..23 {
            assert_eq!(time_at(bytes, at), Some("2026-11-25T15:54:16Z"), "{at}");
        }
        assert_eq!(time_at(bytes, 1), None);
        assert_eq!(time_at(b"x1764086056y", 5), Some("1764086056"));
        assert_eq!(time_at(b"x12345y", 3), None);
        assert_eq!(time_at(b"7722026-11-25", 9), Some("2026-11-25"));
    }

    #[test]
    fn a_function_is_known_by_its_packages_path() {
        let rank = |function| match origin(function, "x.test/app") {
            Origin::Own => 0,
            Origin::Dependency => 1,
            Origin::Standard => 2,
        };
        for (function, want) in [
            ("main.main", 0),
            ("x.test/app.init", 0),
            ("x.test/app/greet.(*T).Hello", 0),
            ("x.test/apple.F", 1),
            ("golang.org/x/text.F", 1),
            ("net/http.(*Client).Do", 2),
            ("runtime.main", 2),
            ("mainly.F", 2),
        ] {
            assert_eq!(rank(function), want, "{function}");
        }
    }

    #[test]
    fn names_of_generated_files_are_known() {
        for file in ["a/x.pb.go", "/b/zz_generated.deepcopy.go", "kind_string.go", "gen.go", "wire_gen.go"] {
            assert!(is_generated(file), "{file}");
        }
        for file in ["main.go", "generator.go", "strings.go", "regen.go", "<autogenerated>"] {
            assert!(!is_generated(file), "{file}");
        }
    }
}
