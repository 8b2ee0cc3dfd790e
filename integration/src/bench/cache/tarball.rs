//! What continuous integration does today: a compressed archive of `GOCACHE` and `GOMODCACHE`, fetched and unpacked
//! before the build.
//!
//! It is unpacked while it arrives, which is kinder than the usual action, and its name is known beforehand. The
//! modules lie at the same path on every machine, as their index in the build cache is of that path.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::{
    bed::{Bed, Program, Surroundings},
    side::{Serving, Side, filled},
};
use crate::{
    bench::{
        timing::{Timed, run, seconds_within},
        world::remove,
    },
    fixture::file_server::FileServer,
};

/// The level that is usual, and all cores.
const COMPRESSOR: &str = "zstd -3 -T0";
const ARCHIVE: &str = "cache.tar.zst";
/// What is in an archive.
const PARTS: [&str; 2] = ["gocache", "modules"];
const COPY_LEN: usize = 256 << 10;
/// Where a runner is.
const PLACE: &str = "runner";

/// The archive of a build.
#[derive(Debug)]
pub struct Tarball;

/// A runner's two directories, at the same path for all runners.
#[derive(Debug)]
pub struct Runner {
    directory: PathBuf,
}

impl Runner {
    /// A runner that has nothing.
    ///
    /// # Errors
    /// When what an earlier one had cannot be removed.
    pub fn fresh(bed: &Bed) -> anyhow::Result<Self> {
        Self::at(bed, PLACE)
    }

    /// One that has nothing and is not in its place yet, so that several can be filled at once.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub fn apart(bed: &Bed, number: usize) -> anyhow::Result<Self> {
        Self::at(bed, &format!("{PLACE}-{number}"))
    }

    fn at(bed: &Bed, name: &str) -> anyhow::Result<Self> {
        let directory = bed.emptied(name)?;
        for part in PARTS {
            fs::create_dir(directory.join(part))?;
        }
        Ok(Self { directory })
    }

    /// Puts one that was apart in its place, where it is instead of the one before.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub fn in_place(self, bed: &Bed) -> anyhow::Result<Self> {
        let directory = bed.emptied(PLACE)?;
        fs::rename(&self.directory, &directory)?;
        Ok(Self { directory })
    }

    /// Lets it have no modules any more.
    ///
    /// # Errors
    /// When those it has cannot be removed.
    pub fn without_modules(&self) -> anyhow::Result<()> {
        let [_, modules] = PARTS.map(|part| self.directory.join(part));
        remove(&modules)?;
        Ok(fs::create_dir(modules)?)
    }

    /// Where it builds. Modules that it lacks come from a directory of this machine, without any delay.
    #[must_use]
    pub fn surroundings(&self, bed: &Bed) -> Surroundings {
        let [gocache, modules] = PARTS.map(|part| self.directory.join(part));
        Surroundings { gocache, modules, proxy: bed.modules_as_proxy(), cacheprog: String::new() }
    }

    /// Packs what it has.
    ///
    /// # Errors
    /// When that fails.
    pub fn pack(&self, archive: &Path) -> anyhow::Result<()> {
        let mut tar = Command::new("tar");
        tar.arg(format!("--use-compress-program={COMPRESSOR}")).arg("-cf").arg(archive);
        run(tar.arg("-C").arg(&self.directory).args(PARTS)).map(drop)
    }

    /// Fetches an archive and unpacks it as it arrives.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn restore(&self, from: SocketAddr, name: &str) -> anyhow::Result<()> {
        let mut archive = fetch(from, name)?;
        let mut tar = Command::new("tar");
        tar.arg("--use-compress-program=zstd").args(["-xf", "-", "-C"]).arg(&self.directory);
        let mut unpacking = tar.stdin(Stdio::piped()).spawn().context("tar cannot be started")?;
        let copied = copy(&mut archive, &mut unpacking.stdin.take().context("a pipe")?);
        let status = unpacking.wait()?;
        copied.context("the archive did not arrive")?;
        ensure!(status.success(), "tar ended with {status}");
        Ok(())
    }
}

impl Side for Tarball {
    fn name(&self) -> &'static str {
        "tarball"
    }

    fn serve(&self, bed: &Bed, program: &Program) -> anyhow::Result<Serving> {
        let directory = filled(bed, self.name(), program, |directory| {
            let runner = Runner::fresh(bed)?;
            let surroundings = runner.surroundings(bed);
            remove(&surroundings.gocache)?;
            run(Command::new("cp").arg("-r").arg(bed.native_gocache(program)).arg(&surroundings.gocache))?;
            // Fetches the modules, and adds their index at the runners' path.
            run(&mut bed.build(&surroundings, program)?)?;
            runner.pack(&directory.join(ARCHIVE))
        })?;
        Ok(Serving::files(FileServer::start(directory)))
    }

    fn build_cold(
        &self,
        bed: &Bed,
        program: &Program,
        via: SocketAddr,
        at_most: Duration,
    ) -> anyhow::Result<Timed> {
        let runner = Runner::fresh(bed)?;
        let started = Instant::now();
        runner.restore(via, ARCHIVE)?;
        let restored = started.elapsed();
        let build = bed.build(&runner.surroundings(bed), program)?;
        let built = seconds_within(build, at_most.saturating_sub(restored))?;
        Ok(Timed { seconds: restored.as_secs_f64() + built.seconds, ..built })
    }
}

/// What a file server answers to a request for a file, after its head.
///
/// # Errors
/// When it has none.
fn fetch(from: SocketAddr, name: &str) -> anyhow::Result<impl io::Read> {
    let mut stream = TcpStream::connect(from)?;
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n")?;
    let (len, answer) = head(BufReader::with_capacity(COPY_LEN, stream))?;
    Ok(answer.take(len.context("an answer says how long it is")?))
}

/// Reads the head of a good answer: the length of the body, and the rest.
fn head(mut answer: BufReader<TcpStream>) -> anyhow::Result<(Option<u64>, BufReader<TcpStream>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 {
            bail!("the file server hung up");
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let first = lines.first().map(String::as_str).unwrap_or_default();
    ensure!(first.split(' ').nth(1) == Some("200"), "the file server answered {first:?}");
    let len = lines.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Ok((len, answer))
}

fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut piece = vec![0; COPY_LEN];
    loop {
        let len = from.read(&mut piece)?;
        if len == 0 {
            return to.flush();
        }
        to.write_all(&piece[..len])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{Relay, Shape};

    #[test]
    fn a_runners_directories_come_to_another_one_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to, served] = ["from", "to", "served"].map(|name| dir.path().join(name));
        for part in PARTS {
            fs::create_dir_all(from.join(part)).unwrap();
            fs::create_dir_all(to.join(part)).unwrap();
            fs::write(from.join(part).join("file"), part.repeat(100_000)).unwrap();
        }
        fs::create_dir(&served).unwrap();
        let server = FileServer::start(served.clone());
        let relay = Relay::start(server.address(), Shape::with_round_trip(Duration::from_millis(20)));
        let archive = served.join("one");
        Runner { directory: from }.pack(&archive).unwrap();
        let runner = Runner { directory: to.clone() };
        runner.restore(relay.address(), "one").unwrap();
        for part in PARTS {
            assert_eq!(fs::read_to_string(to.join(part).join("file")).unwrap(), part.repeat(100_000));
        }
        let len = fs::metadata(&archive).unwrap().len();
        let traffic = relay.traffic();
        assert!(traffic.down_bytes > len, "{traffic:?} for {len} bytes");
        assert!(runner.restore(relay.address(), "two").unwrap_err().to_string().contains("404"));
        fs::write(served.join("bad"), &fs::read(&archive).unwrap()[..100]).unwrap();
        assert!(runner.restore(relay.address(), "bad").is_err());
    }
}
