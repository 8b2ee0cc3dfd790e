//! What a build is asked to be, and what an attempt made of it.

use bytes::Bytes;
use meridian_core::{
    build::{
        Artifact, BuildFlags, BuildSpec, ConcurrencyGroup, GitOrigin, Rebuild, Receipt, Resolution, Source,
        Toolchain, Wishes,
    },
    golang::platform::Platform,
    id::AgentId,
    machine::{
        input::{Failure, FailureKind, Outcome},
        record::TaskKind,
    },
    quantity::ByteCount,
    schedule::priority::Priority,
};

use super::field::{
    ConvertError, digest, digest_bytes, digests, digests_bytes, list, message, messages, optional, required,
    text, texts, unknown,
};
use crate::v1;

impl From<&Platform> for v1::Platform {
    fn from(platform: &Platform) -> Self {
        let Platform { os, arch, level } = platform.clone();
        Self { os, arch, level }
    }
}

impl TryFrom<v1::Platform> for Platform {
    type Error = ConvertError;

    fn try_from(wire: v1::Platform) -> Result<Self, ConvertError> {
        let v1::Platform { os, arch, level } = wire;
        for (name, part, is_needed) in [("os", &os, true), ("arch", &arch, true), ("level", &level, false)] {
            let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b',');
            if part.len() > 64 || (is_needed && part.is_empty()) || !part.bytes().all(is_allowed) {
                return Err(ConvertError::new(name, "is not a part of a platform"));
            }
        }
        Ok(Self { os, arch, level })
    }
}

impl From<&BuildSpec> for v1::BuildSpec {
    fn from(spec: &BuildSpec) -> Self {
        Self {
            source: Some((&spec.source).into()),
            packages: spec.packages.clone(),
            platforms: messages(&spec.platforms),
            toolchain: Some((&spec.toolchain).into()),
            flags: Some((&spec.flags).into()),
            name: spec.name.clone(),
            version: spec.version.clone(),
            wishes: Some((&spec.wishes).into()),
            from_scratch: spec.from_scratch,
            rebuild: spec.rebuild.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::BuildSpec> for BuildSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::BuildSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            source: message(wire.source, "source")?,
            packages: wire.packages,
            platforms: list(wire.platforms, "platforms")?,
            toolchain: message(wire.toolchain, "toolchain")?,
            flags: message(wire.flags, "flags")?,
            name: wire.name,
            version: wire.version,
            wishes: message(wire.wishes, "wishes")?,
            from_scratch: wire.from_scratch,
            rebuild: optional(wire.rebuild, "rebuild")?,
        })
    }
}

impl From<&Rebuild> for v1::Rebuild {
    fn from(rebuild: &Rebuild) -> Self {
        let builder = |(platform, agent): &(Platform, AgentId)| v1::rebuild::Builder {
            platform: Some(platform.into()),
            agent: agent.to_string(),
        };
        Self {
            of: rebuild.of.to_string(),
            resolution: rebuild.resolution.as_ref().map(Into::into),
            builders: rebuild.builders.iter().map(builder).collect(),
        }
    }
}

impl TryFrom<v1::Rebuild> for Rebuild {
    type Error = ConvertError;

    fn try_from(wire: v1::Rebuild) -> Result<Self, ConvertError> {
        let builder = |(index, builder): (usize, v1::rebuild::Builder)| -> Result<_, ConvertError> {
            let read = || Ok((message(builder.platform, "platform")?, text(&builder.agent, "agent")?));
            read().map_err(|error: ConvertError| error.within(format_args!("builders[{index}]")))
        };
        Ok(Self {
            of: text(&wire.of, "of")?,
            resolution: optional(wire.resolution, "resolution")?,
            builders: wire.builders.into_iter().enumerate().map(builder).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Source> for v1::build_spec::Source {
    fn from(source: &Source) -> Self {
        match source {
            Source::Module { package, query } => {
                Self::Module(v1::ModuleSource { package: package.clone(), query: query.clone() })
            }
            Source::Tree { root, work_dir, workspace, origin, receipts } => Self::Tree(v1::TreeSource {
                root: digest_bytes(root),
                work_dir: work_dir.clone(),
                workspace: *workspace,
                origin: origin.as_ref().map(Into::into),
                receipts: messages(receipts),
            }),
        }
    }
}

impl TryFrom<v1::build_spec::Source> for Source {
    type Error = ConvertError;

    fn try_from(wire: v1::build_spec::Source) -> Result<Self, ConvertError> {
        Ok(match wire {
            v1::build_spec::Source::Module(v1::ModuleSource { package, query }) => {
                Self::Module { package, query }
            }
            v1::build_spec::Source::Tree(tree) => Self::Tree {
                root: digest(&tree.root, "root")?,
                work_dir: tree.work_dir,
                workspace: tree.workspace,
                origin: optional(tree.origin, "origin")?,
                receipts: list(tree.receipts, "receipts")?,
            },
        })
    }
}

impl From<&GitOrigin> for v1::GitOrigin {
    fn from(origin: &GitOrigin) -> Self {
        Self { url: origin.url.clone(), commit: origin.commit.clone() }
    }
}

impl TryFrom<v1::GitOrigin> for GitOrigin {
    type Error = ConvertError;

    fn try_from(wire: v1::GitOrigin) -> Result<Self, ConvertError> {
        Ok(Self { url: wire.url, commit: wire.commit })
    }
}

impl From<&Toolchain> for v1::Toolchain {
    fn from(toolchain: &Toolchain) -> Self {
        use v1::toolchain::{Choice, Default, Local, Version};
        let choice = match toolchain {
            Toolchain::Default => Choice::Default(Default {}),
            Toolchain::Local => Choice::Local(Local {}),
            Toolchain::Version { version, pins } => {
                Choice::Version(Version { version: version.clone(), pins: pins.iter().cloned().collect() })
            }
        };
        Self { choice: Some(choice) }
    }
}

impl TryFrom<v1::Toolchain> for Toolchain {
    type Error = ConvertError;

    fn try_from(wire: v1::Toolchain) -> Result<Self, ConvertError> {
        use v1::toolchain::Choice;
        Ok(match required(wire.choice, "choice")? {
            Choice::Default(_) => Self::Default,
            Choice::Local(_) => Self::Local,
            Choice::Version(version) => {
                Self::Version { version: version.version, pins: version.pins.into_iter().collect() }
            }
        })
    }
}

impl From<&BuildFlags> for v1::BuildFlags {
    fn from(flags: &BuildFlags) -> Self {
        let stamp = |(name, value): &(String, String)| v1::build_flags::Stamp {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            cgo: flags.cgo,
            tags: flags.tags.clone(),
            ldflags: flags.ldflags.clone(),
            stamps: flags.stamps.iter().map(stamp).collect(),
        }
    }
}

impl TryFrom<v1::BuildFlags> for BuildFlags {
    type Error = ConvertError;

    fn try_from(wire: v1::BuildFlags) -> Result<Self, ConvertError> {
        let stamps = wire.stamps.into_iter().map(|stamp| (stamp.name, stamp.value)).collect();
        Ok(Self { cgo: wire.cgo, tags: wire.tags, ldflags: wire.ldflags, stamps })
    }
}

impl From<&Wishes> for v1::Wishes {
    fn from(wishes: &Wishes) -> Self {
        Self {
            region: wishes.region.as_ref().map(ToString::to_string),
            agent: wishes.agent.as_ref().map(ToString::to_string),
            regions: wishes.regions.iter().map(ToString::to_string).collect(),
            labels: wishes.labels.iter().map(ToString::to_string).collect(),
            priority: v1::Priority::from(wishes.priority).into(),
            at_once: wishes.at_once,
            group: wishes
                .group
                .as_ref()
                .map(|group| v1::ConcurrencyGroup { name: group.name.to_string(), cancels: group.cancels }),
        }
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

fn priority(value: i32) -> Result<Priority, ConvertError> {
    Ok(match v1::Priority::try_from(value) {
        Ok(v1::Priority::Low) => Priority::Low,
        Ok(v1::Priority::Normal) => Priority::Normal,
        Ok(v1::Priority::High) => Priority::High,
        Err(_) => return Err(unknown("priority", value)),
    })
}

impl TryFrom<v1::ConcurrencyGroup> for ConcurrencyGroup {
    type Error = ConvertError;

    fn try_from(wire: v1::ConcurrencyGroup) -> Result<Self, ConvertError> {
        Ok(Self { name: text(&wire.name, "name")?, cancels: wire.cancels })
    }
}

impl TryFrom<v1::Wishes> for Wishes {
    type Error = ConvertError;

    fn try_from(wire: v1::Wishes) -> Result<Self, ConvertError> {
        Ok(Self {
            region: wire.region.map(|region| text(&region, "region")).transpose()?,
            agent: wire.agent.map(|agent| text(&agent, "agent")).transpose()?,
            regions: texts(&wire.regions, "regions")?,
            labels: texts(&wire.labels, "labels")?,
            priority: priority(wire.priority)?,
            at_once: wire.at_once,
            group: optional(wire.group, "group")?,
        })
    }
}

impl From<&Receipt> for v1::Receipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            holder: receipt.holder.clone(),
            digest: digest_bytes(&receipt.digest),
            size: receipt.size.0,
            mac: Bytes::copy_from_slice(&receipt.mac),
        }
    }
}

impl TryFrom<v1::Receipt> for Receipt {
    type Error = ConvertError;

    fn try_from(wire: v1::Receipt) -> Result<Self, ConvertError> {
        Ok(Self {
            digest: digest(&wire.digest, "digest")?,
            holder: wire.holder,
            size: ByteCount(wire.size),
            mac: wire.mac.into(),
        })
    }
}

impl From<&Resolution> for v1::Resolution {
    fn from(resolution: &Resolution) -> Self {
        let Resolution { module, version, sum } = resolution.clone();
        Self { module, version, sum }
    }
}

impl TryFrom<v1::Resolution> for Resolution {
    type Error = ConvertError;

    fn try_from(wire: v1::Resolution) -> Result<Self, ConvertError> {
        let v1::Resolution { module, version, sum } = wire;
        Ok(Self { module, version, sum })
    }
}

impl From<&Artifact> for v1::Artifact {
    fn from(artifact: &Artifact) -> Self {
        Self {
            name: artifact.name.clone(),
            package: artifact.package.clone(),
            digest: digest_bytes(&artifact.digest),
            size: artifact.size.0,
            receipts: messages(&artifact.receipts),
            attestation: artifact.attestation.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Artifact> for Artifact {
    type Error = ConvertError;

    fn try_from(wire: v1::Artifact) -> Result<Self, ConvertError> {
        Ok(Self {
            digest: digest(&wire.digest, "digest")?,
            name: wire.name,
            package: wire.package,
            size: ByteCount(wire.size),
            receipts: list(wire.receipts, "receipts")?,
            attestation: optional(wire.attestation, "attestation")?,
        })
    }
}

impl From<FailureKind> for v1::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Compile => Self::Compile,
            FailureKind::Modules => Self::Modules,
            FailureKind::Request => Self::Request,
            FailureKind::DiskFull => Self::DiskFull,
            FailureKind::Lost => Self::Lost,
            FailureKind::OutOfMemory => Self::OutOfMemory,
            FailureKind::TimedOut => Self::TimedOut,
            FailureKind::Moved => Self::Moved,
            FailureKind::Infrastructure => Self::Infrastructure,
        }
    }
}

fn failure_kind(value: i32) -> Result<FailureKind, ConvertError> {
    Ok(match v1::FailureKind::try_from(value) {
        Ok(v1::FailureKind::Compile) => FailureKind::Compile,
        Ok(v1::FailureKind::Modules) => FailureKind::Modules,
        Ok(v1::FailureKind::Request) => FailureKind::Request,
        Ok(v1::FailureKind::DiskFull) => FailureKind::DiskFull,
        Ok(v1::FailureKind::Lost) => FailureKind::Lost,
        Ok(v1::FailureKind::OutOfMemory) => FailureKind::OutOfMemory,
        Ok(v1::FailureKind::TimedOut) => FailureKind::TimedOut,
        Ok(v1::FailureKind::Moved) => FailureKind::Moved,
        Ok(v1::FailureKind::Infrastructure) => FailureKind::Infrastructure,
        Ok(v1::FailureKind::Unspecified) | Err(_) => return Err(unknown("kind", value)),
    })
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: v1::FailureKind::from(failure.kind).into(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = ConvertError;

    fn try_from(wire: v1::Failure) -> Result<Self, ConvertError> {
        Ok(Self { kind: failure_kind(wire.kind)?, message: wire.message, hint: wire.hint })
    }
}

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use v1::outcome as wire;
        let outcome = match outcome {
            Outcome::Resolved(resolution) => wire::Outcome::Resolved(resolution.into()),
            Outcome::Built { artifacts, go_version, log, hit_permille } => {
                wire::Outcome::Built(wire::Built {
                    artifacts: messages(artifacts),
                    go_version: go_version.clone(),
                    log: digests_bytes(log),
                    hit_permille: *hit_permille,
                })
            }
            Outcome::Failed { failure, log } => {
                wire::Outcome::Failed(wire::Failed { failure: Some(failure.into()), log: digests_bytes(log) })
            }
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(wire: v1::Outcome) -> Result<Self, ConvertError> {
        use v1::outcome::Outcome as Wire;
        Ok(match required(wire.outcome, "outcome")? {
            Wire::Resolved(resolution) => {
                Self::Resolved(resolution.try_into().map_err(|error: ConvertError| error.within("resolved"))?)
            }
            Wire::Built(built) => Self::Built {
                artifacts: list(built.artifacts, "built.artifacts")?,
                go_version: built.go_version,
                log: digests(&built.log, "built.log")?,
                hit_permille: built.hit_permille,
            },
            Wire::Failed(failed) => Self::Failed {
                failure: message(failed.failure, "failed.failure")?,
                log: digests(&failed.log, "failed.log")?,
            },
        })
    }
}

impl From<&TaskKind> for v1::TaskKind {
    fn from(kind: &TaskKind) -> Self {
        use v1::task_kind::{Kind, Resolve};
        let kind = match kind {
            TaskKind::Resolve => Kind::Resolve(Resolve {}),
            TaskKind::Compile(platform) => Kind::Compile(platform.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::TaskKind> for TaskKind {
    type Error = ConvertError;

    fn try_from(wire: v1::TaskKind) -> Result<Self, ConvertError> {
        use v1::task_kind::Kind;
        Ok(match required(wire.kind, "kind")? {
            Kind::Resolve(_) => Self::Resolve,
            Kind::Compile(platform) => {
                Self::Compile(platform.try_into().map_err(|error: ConvertError| error.within("compile"))?)
            }
        })
    }
}
