//! Where the bench builds: programs, modules, caches and artifacts, all below the target directory.
//!
//! What takes long to make is kept between runs. Every directory's name has the version of what made it, so nothing
//! of another Go is ever found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, ensure};
use meridian_core::digest::Digest;

use crate::{
    bench::{timing::run, world::remove},
    binary,
    home::{Home, go_env},
};

/// The large program: real, without cgo, one that the module proxies serve with all that it needs.
const LARGE: (&str, &str, &str) = ("github.com/prometheus/prometheus", "v0.305.0", "./cmd/prometheus");
const SMALL_FILES: [(&str, &str); 2] =
    [("go.mod", include_str!("programs/small/go.mod")), ("main.go", include_str!("programs/small/main.go"))];

/// Whose caches, modules and artifacts: a machine of its own, as far as one machine has several.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `GOCACHE`.
    pub gocache: PathBuf,
    /// `GOMODCACHE`.
    pub modules: PathBuf,
    /// `GOPROXY`; off where all modules are in place.
    pub proxy: String,
    /// `GOCACHEPROG`; empty for none.
    pub cacheprog: String,
}

/// A program whose source is here.
#[derive(Debug, Clone)]
pub struct Program {
    /// What the bench calls it, unique to its version.
    pub name: String,
    /// Its main module.
    pub directory: PathBuf,
    /// The package that is built.
    pub package: String,
}

/// The directories of the bench.
#[derive(Debug)]
pub struct Bed {
    home: Home,
    root: PathBuf,
    modules: PathBuf,
}

impl Bed {
    /// Opens them, or makes them.
    ///
    /// # Errors
    /// When they cannot be made, or there is no Go.
    pub fn open() -> anyhow::Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
        let kept = workspace.join("target/bench-cache");
        let version = go_env("GOVERSION");
        ensure!(!version.is_empty(), "the bench needs an installed Go in PATH");
        // Built or found fresh before anything is timed.
        let _built = binary::meridian();
        let root = kept.join(version);
        for name in ["home", "out", "scratch"] {
            fs::create_dir_all(root.join(name))?;
        }
        // See `emptied`. Elsewhere than on ext4 there is nothing to ask for.
        let _asked = Command::new("chattr").arg("+T").arg(root.join("scratch")).output();
        Ok(Self { home: Home::with_the_real_proxy(), modules: kept.join("modules"), root })
    }

    /// A path among what is kept.
    #[must_use]
    pub fn kept(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// An empty directory of this name.
    ///
    /// Each has a place of its own on the disk: ext4 without a journal reuses no inode for a minute or more after it was
    /// freed, and looks at each of those whenever a file is made beside them, so that whatever a timed build writes would
    /// pay for what was removed before it.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn emptied(&self, name: &str) -> anyhow::Result<PathBuf> {
        let scratch = self.root.join("scratch");
        let directory = scratch.join(name);
        remove(&directory)?;
        // Where a directory lies follows from its first name.
        let number = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let first_name = scratch.join(format!("{name}.{number}"));
        fs::create_dir(&first_name)?;
        fs::rename(&first_name, &directory)?;
        Ok(directory)
    }

    /// What a filled cache was filled from. Another native build makes other entries, and cmd/go's indexes of modules are
    /// kept by the path of each.
    ///
    /// # Errors
    /// When there was no native build.
    pub fn origin(&self, program: &Program) -> anyhow::Result<String> {
        let native = fs::read_to_string(self.native_digest(program)).context("there was no native build")?;
        Ok(format!("{native} {}", self.modules.display()))
    }

    /// The proxy's directory of all modules that were downloaded so far, as a value of `GOPROXY`.
    #[must_use]
    pub fn modules_as_proxy(&self) -> String {
        format!("file://{}", self.modules.join("cache/download").display())
    }

    /// Surroundings in which all modules are in place.
    #[must_use]
    pub fn surroundings(&self, gocache: PathBuf) -> Surroundings {
        let modules = self.modules.clone();
        Surroundings { gocache, modules, proxy: "off".to_owned(), cacheprog: String::new() }
    }

    /// The same with a program as the build cache. Go wants a directory of its own even then.
    ///
    /// # Errors
    /// When that directory cannot be emptied.
    pub fn surroundings_with(&self, cacheprog: String) -> anyhow::Result<Surroundings> {
        Ok(Surroundings { cacheprog, ..self.surroundings(self.emptied("gocache")?) })
    }

    /// Where the native build of a program keeps its cache.
    #[must_use]
    pub fn native_gocache(&self, program: &Program) -> PathBuf {
        self.kept("native").join(&program.name)
    }

    /// Whether a native build of the program has ended well.
    #[must_use]
    pub fn has_native_cache(&self, program: &Program) -> bool {
        self.native_digest(program).exists() && self.native_gocache(program).exists()
    }

    /// The program of the standard library alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn small(&self) -> anyhow::Result<Program> {
        let directory = self.kept("src/small");
        fs::create_dir_all(&directory)?;
        for (name, text) in SMALL_FILES {
            fs::write(directory.join(name), text)?;
        }
        Ok(Program { name: "small".to_owned(), directory, package: ".".to_owned() })
    }

    /// The large program.
    ///
    /// # Errors
    /// When it or a module that it needs cannot be downloaded.
    pub fn large(&self) -> anyhow::Result<Program> {
        let (module, version, package) = LARGE;
        Ok(Program { name: "large".to_owned(), ..self.at_version(module, version, package)? })
    }

    /// A program of a module at a version, with all modules that it needs.
    ///
    /// # Errors
    /// When something cannot be downloaded.
    pub fn at_version(&self, module: &str, version: &str, package: &str) -> anyhow::Result<Program> {
        let name = format!("{}-{version}", module.replace('/', "_"));
        let directory = self.kept("src").join(&name);
        let program = Program { name, directory, package: package.to_owned() };
        if program.directory.exists() {
            return Ok(program);
        }
        let online = Surroundings { proxy: go_env("GOPROXY"), ..self.surroundings(self.kept("gocache")) };
        let mut download = self.go(&online, &["mod", "download", "-json", &format!("{module}@{version}")]);
        let answer: serde_json::Value = serde_json::from_str(&run(&mut download)?)?;
        let from = answer["Dir"].as_str().context("go mod download names no directory")?;
        let partial = self.kept("scratch/source");
        remove(&partial)?;
        fs::create_dir_all(self.kept("src"))?;
        run(Command::new("cp").arg("-r").arg(from).arg(&partial))?;
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&partial))?;
        let mut needed = self.go(&online, &["list", "-deps", "-f", "{{.ImportPath}}", package]);
        run(needed.current_dir(&partial))?;
        fs::rename(&partial, &program.directory)?;
        Ok(program)
    }

    /// The installed Go in these surroundings and no others.
    #[must_use]
    pub fn go(&self, surroundings: &Surroundings, arguments: &[&str]) -> Command {
        let mut go = self.home.program("go");
        let home = self.kept("home");
        go.args(arguments)
            .env("HOME", &home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("GOPATH", home.join("go"))
            .env("GOCACHE", &surroundings.gocache)
            .env("GOMODCACHE", &surroundings.modules)
            .env("GOPROXY", &surroundings.proxy)
            .env("GOENV", "off")
            // What is downloaded can be removed again.
            .env("GOFLAGS", "-modcacherw")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0");
        if surroundings.proxy.starts_with("file:") || surroundings.proxy == "off" {
            // Every module has its hash in go.sum. Nothing else is asked for, so nobody waits for the network.
            go.env("GOSUMDB", "off");
        }
        if !surroundings.cacheprog.is_empty() {
            go.env("GOCACHEPROG", &surroundings.cacheprog);
        }
        go
    }

    /// The build that is timed: with no file at its output, so that it links.
    ///
    /// # Errors
    /// When an earlier artifact cannot be removed.
    pub fn build(&self, surroundings: &Surroundings, program: &Program) -> anyhow::Result<Command> {
        let out = self.artifact(program);
        if out.exists() {
            fs::remove_file(&out)?;
        }
        let mut go = self.go(surroundings, &["build", "-trimpath", "-buildvcs=false", "-o"]);
        go.arg(out).arg(&program.package).current_dir(&program.directory);
        Ok(go)
    }

    fn artifact(&self, program: &Program) -> PathBuf {
        self.kept("out").join(&program.name)
    }

    /// The artifact of the build that ended last.
    ///
    /// # Errors
    /// When there is none.
    pub fn artifact_digest(&self, program: &Program) -> anyhow::Result<Digest> {
        let path = self.artifact(program);
        let bytes = fs::read(&path).with_context(|| format!("there is no artifact {}", path.display()))?;
        Ok(Digest::of(&bytes))
    }

    /// Keeps the digest of a native build, for others to be compared with.
    ///
    /// # Errors
    /// When there is no artifact or the file cannot be written.
    pub fn keep_native_digest(&self, program: &Program) -> anyhow::Result<()> {
        let digest = self.artifact_digest(program)?.to_string();
        Ok(fs::write(self.native_digest(program), digest)?)
    }

    /// Compares the artifact of the build that ended last with that of a native build.
    ///
    /// # Errors
    /// When they differ, or one is missing.
    pub fn expect_native_artifact(&self, program: &Program) -> anyhow::Result<()> {
        let native = fs::read_to_string(self.native_digest(program)).context("there was no native build")?;
        let digest = self.artifact_digest(program)?.to_string();
        ensure!(digest == native, "the artifact of {} is {digest}, not {native}", program.name);
        Ok(())
    }

    fn native_digest(&self, program: &Program) -> PathBuf {
        self.kept("native").join(format!("{}.digest", program.name))
    }
}
