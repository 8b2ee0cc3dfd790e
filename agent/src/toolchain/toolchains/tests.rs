use std::{collections::BTreeMap, fs::File, io::Write as _};

use meridian_core::id::Fence;
use tokio_util::sync::CancellationToken;
use zip::write::SimpleFileOptions;

use super::*;

/// A proxy in a directory that has one toolchain for this host, and the toolchain's hash.
struct Origin {
    dir: tempfile::TempDir,
    pin: String,
}

impl Origin {
    fn new(version: &str) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("proxy/golang.org/toolchain/@v");
        std::fs::create_dir_all(&place).unwrap();
        let module_version = format!("v0.0.1-go{version}.{}", host_platform().replace('/', "-"));
        let zip = File::create(place.join(format!("{module_version}.zip"))).unwrap();
        let mut writer = zip::ZipWriter::new(zip);
        let mut files = Vec::new();
        for (name, content) in [("bin/go", "#!/bin/sh\n"), ("VERSION", version)] {
            let name = format!("{MODULE}@{module_version}/{name}");
            writer.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
            files.push((name, Digest::of(content.as_bytes())));
        }
        writer.finish().unwrap();
        let pin = H1::of(files.iter().map(|(name, digest)| (name.as_str(), *digest))).unwrap().to_string();
        Self { dir, pin }
    }

    fn toolchains(&self) -> Toolchains {
        let go = GoEnvironment {
            proxy: format!("file://{}/proxy", self.dir.path().display()).parse().unwrap(),
            proxy_origin: "test".into(),
            settings: BTreeMap::new(),
            network: BTreeMap::new(),
            home: None,
            installed: None,
        };
        Toolchains::open(self.place(), Arc::new(go)).unwrap()
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("toolchains")
    }

    fn wanted(&self, version: &str) -> Toolchain {
        Toolchain::Version { version: version.into(), pins: vec![(host_platform(), self.pin.clone())] }
    }
}

async fn ensure(toolchains: &Toolchains, wanted: &Toolchain) -> Result<Arc<ToolchainRef>, ToolchainError> {
    let cancel = CancellationToken::new();
    toolchains.ensure(wanted, Run { progress: &|_| {}, log: &|_| {}, fence: Fence(0), cancel: &cancel }).await
}

#[tokio::test]
async fn a_pinned_toolchain_is_fetched_once_and_found_again_after_a_restart() {
    let origin = Origin::new("1.99.1");
    let toolchains = origin.toolchains();
    let wanted = origin.wanted("1.99.1");
    let (one, two) = tokio::join!(ensure(&toolchains, &wanted), ensure(&toolchains, &wanted));
    let one = one.unwrap();
    assert!(Arc::ptr_eq(&one, &two.unwrap()));
    assert_eq!(one.version(), "go1.99.1");
    assert!(one.go().is_file());
    std::fs::remove_dir_all(origin.dir.path().join("proxy")).unwrap();
    std::fs::create_dir(origin.place().join("half-done")).unwrap();
    let again = ensure(&origin.toolchains(), &wanted).await.unwrap();
    assert_eq!(again.goroot(), one.goroot());
    assert_eq!(std::fs::read_dir(origin.place()).unwrap().count(), 1);
}

#[tokio::test]
async fn whoever_waits_for_a_download_sees_how_far_it_is() {
    let origin = Origin::new("1.99.1");
    let toolchains = origin.toolchains();
    let cancel = CancellationToken::new();
    let quiet = Run { progress: &|_| {}, log: &|_| {}, fence: Fence(0), cancel: &cancel };
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let hear = |progress: Progress| heard.send((progress.done, progress.total)).unwrap();
    let hearer = Run { progress: &hear, ..quiet };
    let first = toolchains.flight("key".into(), "1.99.1", quiet).await.unwrap();
    let waiting = toolchains.flight("key".into(), "1.99.1", hearer);
    let downloading = async {
        loop {
            toolchains.tell("1.99.0", 1, 2, quiet);
            toolchains.tell("1.99.1", 30, 70, quiet);
            tokio::task::yield_now().await;
            if let Ok(figures) = hearing.try_recv() {
                drop(first);
                return figures;
            }
        }
    };
    let (second, figures) = tokio::join!(waiting, downloading);
    assert!(second.is_ok());
    assert_eq!(figures, (30, 70));
}

#[tokio::test]
async fn a_toolchain_of_another_content_is_refused_and_leaves_nothing() {
    let mut origin = Origin::new("1.99.1");
    origin.pin = default_pin("linux/amd64").unwrap().to_owned();
    let error = ensure(&origin.toolchains(), &origin.wanted("1.99.1")).await.unwrap_err();
    let ToolchainError::Unpack { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, UnpackError::Hash { .. }), "{error}");
    assert_eq!(std::fs::read_dir(origin.place()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_version_without_a_pin_is_never_taken_from_files_unchecked() {
    let origin = Origin::new("1.99.1");
    let wanted = Toolchain::Version { version: "1.99.1".into(), pins: Vec::new() };
    let error = ensure(&origin.toolchains(), &wanted).await.unwrap_err();
    assert!(matches!(error, ToolchainError::Unchecked { .. }), "{error}");
}

#[tokio::test]
async fn a_version_that_is_a_path_is_refused() {
    let origin = Origin::new("1.99.1");
    for version in ["../../etc", "1.2/3", "", "1..2"] {
        let wanted = Toolchain::Version { version: version.into(), pins: Vec::new() };
        let error = ensure(&origin.toolchains(), &wanted).await.unwrap_err();
        assert!(matches!(error, ToolchainError::Request(_)), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_toolchain_in_use_is_never_removed() {
    let origin = Origin::new("1.99.1");
    let toolchains = origin.toolchains();
    let held = ensure(&toolchains, &origin.wanted("1.99.1")).await.unwrap();
    for number in 0..IDLE_MAX + 2 {
        let other = origin.place().join(format!("idle-{number}"));
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join(MARKER), "").unwrap();
    }
    std::fs::File::open(held.goroot().parent().unwrap())
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    toolchains.remove_idle();
    assert!(held.go().is_file());
    assert_eq!(std::fs::read_dir(origin.place()).unwrap().count(), IDLE_MAX + 1);
}

#[tokio::test]
async fn no_installed_go_is_said_plainly() {
    let origin = Origin::new("1.99.1");
    let error = ensure(&origin.toolchains(), &Toolchain::Local).await.unwrap_err();
    assert!(error.to_string().contains("no Go is installed"), "{error}");
}
