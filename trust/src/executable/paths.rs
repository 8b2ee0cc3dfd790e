//! Absolute paths of the machine that built an executable.
//!
//! The names of source files stand in Go's function table, each whole. Elsewhere (debug information of C, values
//! set by `-X`) a path is a run of bytes without a certain end, so there only what begins with the usual homes of
//! builders is looked for.

use std::collections::BTreeSet;

use super::function_table::FunctionTable;

/// Where builders work. A string constant such as `/api/v1` is no path of a builder.
const ROOTS: [&str; 12] = [
    "/home",
    "/root",
    "/Users",
    "/tmp",
    "/private",
    "/var/folders",
    "/builds",
    "/workspace",
    "/github/workspace",
    "/opt/hostedtoolcache",
    "/usr/local/go/src",
    "C:\\Users",
];
/// The longest path that is kept, in bytes.
const PATH_LEN_MAX: usize = 256;
/// The most paths that are kept of one executable.
const PATHS_MAX: usize = 1 << 16;

/// The paths that only one of two executables holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OneSided<'data> {
    /// Absolute names of source files whose namesake on the other side has another directory.
    pub(super) sources: BTreeSet<&'data str>,
    /// Paths elsewhere, below a directory of which the other side has nothing.
    pub(super) strings: BTreeSet<&'data str>,
}

impl<'data> OneSided<'data> {
    /// The most telling path: the program's own source rather than a toolchain's.
    pub(super) fn telling(&self) -> Option<&'data str> {
        let is_own = |path: &&&str| !path.contains("/src/runtime/") && !path.contains("/go/src/");
        let own = self.sources.iter().find(is_own);
        own.or(self.sources.first()).or(self.strings.first()).copied()
    }

    /// All of them in order, without doubles.
    pub(super) fn all(&self) -> impl Iterator<Item = &'data str> {
        self.sources.union(&self.strings).copied()
    }
}

/// An executable's paths.
pub(super) struct Paths<'data> {
    sources: BTreeSet<&'data str>,
    strings: BTreeSet<&'data str>,
}

impl<'data> Paths<'data> {
    /// Finds them in an executable's bytes and in its functions' files.
    pub(super) fn find(data: &'data [u8], functions: Option<&FunctionTable<'data>>) -> Self {
        let sources = functions.map(FunctionTable::files).unwrap_or_default().iter().copied().collect();
        Self { sources, strings: scan(data) }
    }

    /// What is here and not there.
    pub(super) fn without(&self, other: &Self) -> OneSided<'data> {
        let namesakes: BTreeSet<&str> =
            other.sources.difference(&self.sources).map(|path| file_name(path)).collect();
        let moved = |path: &&&str| is_absolute(path) && namesakes.contains(file_name(path));
        let theirs: BTreeSet<&str> = other.strings.iter().map(|path| place(path)).collect();
        OneSided {
            sources: self.sources.difference(&other.sources).filter(moved).copied().collect(),
            strings: self.strings.iter().filter(|path| !theirs.contains(place(path))).copied().collect(),
        }
    }
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
        || matches!(path.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic())
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// The first directory below the root: enough to tell two builders apart, and not touched by what happens to
/// stand behind a path whose end is not known.
fn place(path: &str) -> &str {
    let root = ROOTS.iter().find_map(|root| below(path.as_bytes(), root)).unwrap_or(0);
    let end = path[root..].find(['/', '\\']).map_or(path.len(), |end| root + end);
    &path[..end]
}

/// Where what lies in the directory `root` begins; `None` when the path does not lead into it.
fn below(path: &[u8], root: &str) -> Option<usize> {
    let separator = if root.starts_with('/') { b'/' } else { b'\\' };
    let rest = path.strip_prefix(root.as_bytes())?;
    (rest.first() == Some(&separator)).then_some(root.len() + 1)
}

fn scan(data: &[u8]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for root in ROOTS {
        for at in memchr::memmem::find_iter(data, root) {
            let run = &data[at..data.len().min(at + PATH_LEN_MAX)];
            let Some(start) = below(run, root) else { continue };
            let len = run.iter().position(|byte| !is_path_byte(*byte)).unwrap_or(run.len());
            // A root alone is a constant of many programs; a place below it is somebody's.
            let path = std::str::from_utf8(&run[..len]).unwrap_or_default();
            if place(path).len() > start && place(path).len() < path.len() {
                found.insert(path);
            }
            if found.len() >= PATHS_MAX {
                return found;
            }
        }
    }
    found
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/\\._-+@~=:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<'d>(sources: &[&'d str], data: &'d str) -> Paths<'d> {
        Paths { sources: sources.iter().copied().collect(), strings: scan(data.as_bytes()) }
    }

    #[test]
    fn a_source_in_another_directory_is_one_sided_and_a_new_file_is_not() {
        let left = paths(&["/a/x/main.go", "/a/x/only.go", "fmt/print.go"], "");
        let right = paths(&["/b/x/main.go", "fmt/print.go"], "");
        let one_sided = left.without(&right);
        assert_eq!(one_sided.all().collect::<Vec<_>>(), ["/a/x/main.go"]);
        assert_eq!(right.without(&left).telling(), Some("/b/x/main.go"));
    }

    #[test]
    fn a_trimmed_source_is_the_namesake_of_an_absolute_one() {
        let (left, right) = (paths(&["C:/a/main.go"], ""), paths(&["x.test/a/main.go"], ""));
        assert_eq!(left.without(&right).telling(), Some("C:/a/main.go"));
        assert_eq!(right.without(&left).telling(), None);
    }

    #[test]
    fn a_path_in_data_is_found_whatever_stands_around_it() {
        let left = paths(&[], "abc/home/ada/src/x.o\0/api/v1/users /tmp/ /tmp/x");
        let right = paths(&[], "abc/home/bob/src/x.o\0/api/v2/users");
        assert_eq!(left.without(&right).all().collect::<Vec<_>>(), ["/home/ada/src/x.o"]);
        let behind = paths(&[], "/home/ada/src/x.oand-more");
        assert_eq!(left.without(&behind).telling(), None, "the end of a path in data is not known");
    }

    #[test]
    fn the_programs_own_source_is_the_telling_one() {
        let left = paths(&["/a/go/src/fmt/print.go", "/z/main.go"], "");
        let right = paths(&["/b/go/src/fmt/print.go", "/y/main.go"], "");
        assert_eq!(left.without(&right).telling(), Some("/z/main.go"));
    }
}
