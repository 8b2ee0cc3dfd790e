//! What a run on an agent ends with, without a compiler.

use meridian_core::{
    build::{Artifact, Receipt, Resolution, Source},
    digest::Digest,
    id::Fence,
    machine::{
        effect::Work,
        input::{Failure, FailureKind, Outcome},
        record::TaskKind,
    },
    quantity::ByteCount,
};

use crate::sim::happening::End;

/// Which client's build it is: the version of the spec says so.
pub(super) fn wish_of(work: &Work) -> u32 {
    work.spec.version.strip_prefix("1.0.").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What a run ends with; a result names its task and lease.
pub(super) fn outcome(work: &Work, fence: Fence, end: End) -> Outcome {
    let (kind, message) = match end {
        End::Good => return result(work, fence),
        End::Compile => (FailureKind::Compile, "./main.go:1:1: expected 'package'"),
        End::Infrastructure => (FailureKind::Infrastructure, "the network had a bad day"),
        End::DiskFull => (FailureKind::DiskFull, "no space left on device"),
        End::OutOfMemory => (FailureKind::OutOfMemory, "it wanted more memory than a build may use"),
        End::TimedOut => (FailureKind::TimedOut, "it ran for an hour"),
        End::Killed => (FailureKind::Lost, "killed"),
    };
    let failure = Failure { kind, message: message.to_owned(), hint: String::new() };
    Outcome::Failed { failure, log: Vec::new() }
}

fn result(work: &Work, fence: Fence) -> Outcome {
    match &work.kind {
        TaskKind::Resolve => Outcome::Resolved(Resolution {
            module: "example.test/m".to_owned(),
            version: "v1.0.0".to_owned(),
            sum: format!("h1:{fence}"),
        }),
        TaskKind::Compile(_) => {
            let digest = Digest::of(format!("{} {fence}", work.task).as_bytes());
            let receipt =
                Receipt { holder: "simulated".to_owned(), digest, size: ByteCount(1), mac: vec![0; 32] };
            let artifact = Artifact {
                name: "m_1.0.0_linux_amd64".to_owned(),
                package: match &work.spec.source {
                    Source::Module { package, .. } => package.clone(),
                    Source::Tree { .. } => ".".to_owned(),
                },
                digest,
                size: ByteCount(1),
                receipts: vec![receipt],
                attestation: None,
            };
            Outcome::Built {
                artifacts: vec![artifact],
                go_version: "go1.27.3".to_owned(),
                log: Vec::new(),
                hit_permille: Some(500),
            }
        }
    }
}
