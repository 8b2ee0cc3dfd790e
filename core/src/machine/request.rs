//! The digest by which a repeated submit is told from a different request under the same key.
//!
//! Every field is hashed with its length before it, so no two requests run together. Receipts are left out:
//! they prove that the source is held and are not part of what is asked. The encoding is written into the
//! journal, so it may only be extended in ways that leave the digest of an old request as it was.

use crate::{
    build::{
        BuildFlags, BuildSpec, ConcurrencyGroup, GitOrigin, Rebuild, Resolution, Source, Toolchain, Wishes,
    },
    digest::{Digest, DigestHasher},
    golang::platform::Platform,
    schedule::priority::Priority,
};

/// The digest of what is asked.
#[must_use]
pub fn request_digest(spec: &BuildSpec) -> Digest {
    let BuildSpec {
        source,
        packages,
        platforms,
        toolchain,
        flags,
        name,
        version,
        wishes,
        from_scratch,
        rebuild,
    } = spec;
    let mut hash = Fields(DigestHasher::new());
    hash.source(source);
    hash.list(packages);
    hash.count(platforms.len());
    platforms.iter().for_each(|platform| hash.platform(platform));
    hash.toolchain(toolchain);
    let BuildFlags { cgo, tags, ldflags, stamps } = flags;
    hash.count(usize::from(*cgo));
    hash.list(tags);
    hash.list(ldflags);
    hash.pairs(stamps);
    hash.option(name.as_deref());
    hash.text(version);
    let Wishes { region, agent, .. } = wishes;
    hash.option(region.as_ref().map(|region| region.as_str()));
    hash.option(agent.as_ref().map(ToString::to_string).as_deref());
    // What came later is hashed only where it is set, with a word before it, so that it is no older request's.
    if *from_scratch {
        hash.text("from scratch");
    }
    if let Some(rebuild) = rebuild {
        hash.rebuild(rebuild);
    }
    hash.later_wishes(wishes);
    hash.0.finish()
}

/// The digest of what is made on each platform: equal for two requests of which one makes what the other does.
#[must_use]
pub(super) fn content_digest(spec: &BuildSpec, resolution: Option<&Resolution>) -> Digest {
    let mut hash = Fields(DigestHasher::new());
    hash.text("content").source(&spec.source);
    if let Some(Resolution { module, version, sum }) = resolution {
        hash.text(module).text(version).text(sum);
    }
    hash.list(&spec.packages);
    hash.toolchain(&spec.toolchain);
    let BuildFlags { cgo, tags, ldflags, stamps } = &spec.flags;
    hash.count(usize::from(*cgo));
    hash.list(tags);
    hash.list(ldflags);
    hash.pairs(stamps);
    hash.text(&spec.version);
    hash.0.finish()
}

/// The digest of a platform.
#[must_use]
pub(super) fn of_platform(platform: &Platform) -> Digest {
    let mut hash = Fields(DigestHasher::new());
    hash.platform(platform);
    hash.0.finish()
}

struct Fields(DigestHasher);

impl Fields {
    fn count(&mut self, count: usize) -> &mut Self {
        self.0.update(&(count as u64).to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.update(text.as_bytes());
        self
    }

    fn option(&mut self, text: Option<&str>) {
        self.count(usize::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn list(&mut self, texts: &[String]) {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        self.count(pairs.len());
        for (name, value) in pairs {
            self.text(name).text(value);
        }
    }

    fn platform(&mut self, Platform { os, arch, level }: &Platform) {
        self.text(os).text(arch).text(level);
    }

    fn rebuild(&mut self, Rebuild { of, resolution, builders }: &Rebuild) {
        self.text("rebuild").text(&of.to_string()).count(usize::from(resolution.is_some()));
        if let Some(Resolution { module, version, sum }) = resolution {
            self.text(module).text(version).text(sum);
        }
        self.count(builders.len());
        for (platform, agent) in builders {
            self.platform(platform);
            self.text(&agent.to_string());
        }
    }

    fn later_wishes(&mut self, wishes: &Wishes) {
        let Wishes { region: _, agent: _, regions, labels, priority, at_once, group } = wishes;
        if !regions.is_empty() {
            self.text("regions").count(regions.len());
            for region in regions {
                self.text(region.as_str());
            }
        }
        if !labels.is_empty() {
            self.text("labels").count(labels.len());
            for label in labels {
                self.text(label.as_str());
            }
        }
        if *priority != Priority::default() {
            self.text("priority").text(priority.as_str());
        }
        if let Some(at_once) = at_once {
            self.text("at once").count(usize::try_from(*at_once).unwrap_or(usize::MAX));
        }
        if let Some(ConcurrencyGroup { name, cancels }) = group {
            self.text("group").text(name.as_str()).count(usize::from(*cancels));
        }
    }

    fn source(&mut self, source: &Source) -> &mut Self {
        match source {
            Source::Module { package, query } => {
                self.text("module").text(package).text(query);
            }
            Source::Tree { root, work_dir, workspace, origin, receipts: _ } => {
                self.text("tree");
                self.0.update(root.as_bytes());
                self.text(work_dir).count(usize::from(*workspace)).count(usize::from(origin.is_some()));
                if let Some(GitOrigin { url, commit }) = origin {
                    self.text(url).text(commit);
                }
            }
        }
        self
    }

    fn toolchain(&mut self, toolchain: &Toolchain) {
        match toolchain {
            Toolchain::Default => {
                self.text("default");
            }
            Toolchain::Version { version, pins } => {
                self.text("version").text(version);
                self.pairs(pins);
            }
            Toolchain::Local => {
                self.text("local");
            }
        }
    }
}
