//! Which parts of the machine a plan can take over whole.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::plan::{Access, Mount};

/// Directories that are links into `/usr` on most machines, and directories of their own on the others.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What the dynamic loader and Debian's alternatives need below `/etc`.
const OF_ETC: [&str; 4] = ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"];

/// The users that there are inside.
const PASSWD: &str = "root:x:0:0:root:/nonexistent:/bin/false\n\
    builder:x:1000:1000:builder:/nonexistent:/bin/false\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
/// Their groups.
const GROUP: &str = "root:x:0:\nbuilder:x:1000:\nnogroup:x:65534:\n";
/// The only names of machines.
const HOSTS: &str = "127.0.0.1 localhost meridian\n::1 localhost\n";

/// The programs and libraries of the machine, for builds that call its C compiler. Never its settings or data.
#[must_use]
pub fn system_mounts() -> Vec<Mount> {
    let mut mounts = vec![Mount::same("/usr", Access::Run)];
    mounts.extend(merged());
    let of_etc = OF_ETC.iter().map(Path::new).filter(|path| path.exists());
    mounts.extend(of_etc.map(|path| Mount::same(path, Access::Read)));
    mounts.extend(accounts());
    mounts
}

/// Only what the running program itself needs to be started inside, for builds that need nothing of the
/// machine: `program` and its shared libraries.
///
/// # Errors
/// When `/proc` cannot be read or `program` is not an executable of this machine.
pub fn loader_mounts(program: &Path) -> io::Result<Vec<Mount>> {
    let mut files = BTreeSet::from([program.to_owned()]);
    if let Some(loader) = interpreter(program)? {
        // It is started by the name that stands in the program, which may lead through a link to `/usr`.
        let dir = loader.parent().unwrap_or(Path::new("/")).canonicalize()?;
        files.extend(loader.file_name().map(|name| dir.join(name)));
        files.extend(libraries(&fs::read_to_string("/proc/self/maps")?));
    }
    let mut mounts: Vec<Mount> =
        merged().into_iter().filter(|mount| matches!(mount, Mount::Link { .. })).collect();
    mounts.extend(files.into_iter().map(|file| Mount::same(file, Access::Run)));
    mounts.extend(accounts());
    Ok(mounts)
}

fn merged() -> Vec<Mount> {
    let mut mounts = Vec::new();
    for name in MERGED {
        let path = Path::new(name);
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                if let Ok(to) = fs::read_link(path) {
                    mounts.push(Mount::Link { target: path.to_owned(), to });
                }
            }
            Ok(found) if found.is_dir() => mounts.push(Mount::same(path, Access::Run)),
            _ => {}
        }
    }
    mounts
}

fn accounts() -> Vec<Mount> {
    [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/hosts", HOSTS)]
        .map(|(target, text)| Mount::File { target: target.into(), text: text.into() })
        .to_vec()
}

/// The shared libraries that a process has mapped, from its table of maps.
fn libraries(maps: &str) -> Vec<PathBuf> {
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_library = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.ends_with(".so") || name.contains(".so.")
    };
    mapped.filter(is_library).map(PathBuf::from).collect()
}

/// The loader that a program names (`PT_INTERP` of ELF's program headers), or `None` for a static one. Reads
/// 64-bit little-endian files only, which is what every machine of ours runs.
///
/// # Errors
/// When the file cannot be read or is no such executable.
pub(crate) fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    use std::os::unix::{ffi::OsStringExt as _, fs::FileExt as _};
    const PT_INTERP: u32 = 3;
    const PATH_LEN_MAX: u64 = 4096;
    let file = fs::File::open(program)?;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0)?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit ELF executable"));
    }
    let headers_at = u64_at(&head, 0x20);
    let (size, count) = (u64::from(u16_at(&head, 0x36)), u64::from(u16_at(&head, 0x38)));
    for index in 0..count {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, headers_at.saturating_add(index * size))?;
        if u32_at(&header, 0) != PT_INTERP {
            continue;
        }
        let length = usize::try_from(u64_at(&header, 0x20).min(PATH_LEN_MAX)).unwrap_or_default();
        let mut path = vec![0; length];
        file.read_exact_at(&mut path, u64_at(&header, 0x08))?;
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(length));
        return Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(path))));
    }
    Ok(None)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    if let Some(there) = bytes.get(at..at + N) {
        found.copy_from_slice(there);
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_are_taken_from_the_table_of_maps() {
        let maps = "55d0-55d1 r--p 00000000 fe:00 131 /opt/meridian\n\
            7f1a-7f1b r-xp 00000000 fe:00 132 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
            7f1c-7f1d r-xp 00000000 fe:00 133 /usr/lib/x86_64-linux-gnu/libm.so\n\
            7ffd-7ffe rw-p 00000000 00:00 0 [stack]\n";
        let expected = ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libm.so"];
        assert_eq!(libraries(maps), expected.map(PathBuf::from));
    }

    #[test]
    fn the_loader_of_a_dynamic_program_is_found_and_other_files_are_refused() {
        let own = std::env::current_exe().unwrap();
        if let Some(loader) = interpreter(&own).unwrap() {
            assert!(loader.is_absolute() && loader.exists(), "{}", loader.display());
        }
        assert!(interpreter(Path::new("/etc/passwd")).is_err());
    }
}
