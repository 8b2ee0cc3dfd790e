//! Fields of a report, changed after everything it names was uploaded.

use meridian_core::{
    attestation::{Attestation, Document},
    build::{Artifact, Receipt, Resolution},
    digest::Digest,
    keyring::KeyId,
    machine::input::Outcome,
    quantity::ByteCount,
};

use super::catalogue::{Change, Forgery};
use crate::draws::Draws;

type OnArtifact = fn(&mut Artifact);
type OnReceipts = fn(&mut Artifact) -> &mut Vec<Receipt>;
type OnDocument = fn(&mut Attestation) -> &mut Document;
type OnOutcome = fn(&mut Outcome);

const ARTIFACT: &[(&str, OnArtifact)] = &[
    ("a longer name", |a| a.name.push('x')),
    ("no name", |a| a.name.clear()),
    ("a name that leads elsewhere", |a| a.name = format!("../{}", a.name)),
    ("the name of another version", |a| a.name = a.name.replace("1.", "2.")),
    ("another package", |a| a.package.push('x')),
    ("no package", |a| a.package.clear()),
    ("the digest of nothing that is held", |a| a.digest = Digest::of(b"other")),
    ("a size that is one more", |a| a.size.0 += 1),
    ("a size of nothing", |a| a.size = ByteCount(0)),
    ("no attestation", |a| a.attestation = None),
    ("the content of its bill", |a| {
        if let Some(Attestation { sbom, .. }) = &a.attestation {
            (a.digest, a.size, a.receipts) = (sbom.digest, sbom.size, sbom.receipts.clone());
        }
    }),
    ("the bill for the provenance", |a| with(a, |t| t.provenance = t.sbom.clone())),
    ("the provenance for the bill", |a| with(a, |t| t.sbom = t.provenance.clone())),
    ("the two documents swapped", |a| with(a, |t| std::mem::swap(&mut t.sbom, &mut t.provenance))),
    ("a key that nobody has", |a| with(a, |t| t.key = KeyId::of(b"other"))),
    ("no signature", |a| with(a, |t| t.signature.clear())),
    ("a signature that is too long", |a| with(a, |t| t.signature.resize(400, 7))),
];

fn with(artifact: &mut Artifact, change: fn(&mut Attestation)) {
    artifact.attestation.as_mut().map(change);
}

const RECEIPTS: [(&str, OnReceipts); 3] = [
    ("artifact", |a| &mut a.receipts),
    ("provenance", |a| &mut document(a, |t| &mut t.provenance).receipts),
    ("SBOM", |a| &mut document(a, |t| &mut t.sbom).receipts),
];

fn document(artifact: &mut Artifact, of: OnDocument) -> &mut Document {
    let nothing = || Document { digest: Digest::of(b""), size: ByteCount(0), receipts: Vec::new() };
    let empty =
        || Attestation { key: KeyId::of(b""), signature: Vec::new(), provenance: nothing(), sbom: nothing() };
    of(artifact.attestation.get_or_insert_with(empty))
}

type Alter<T> = fn(&mut T);

const RECEIPT: &[(&str, Alter<Vec<Receipt>>)] = &[
    ("no receipt", Vec::clear),
    ("a receipt of another holder", |r| r.iter_mut().for_each(|r| r.holder.push('x'))),
    ("a receipt for another content", |r| r.iter_mut().for_each(|r| r.digest = Digest::of(b"other"))),
    ("a receipt for another size", |r| r.iter_mut().for_each(|r| r.size.0 += 1)),
    ("a receipt without its code", |r| r.iter_mut().for_each(|r| r.mac.clear())),
    ("a receipt with half its code", |r| r.iter_mut().for_each(|r| r.mac.truncate(16))),
    ("a second receipt that is made up", |r| {
        if let Some(mut forged) = r.first().cloned() {
            forged.mac.fill(0);
            r.push(forged);
        }
    }),
];

const OUTCOME: &[(&str, OnOutcome)] = &[
    ("another Go", |o| {
        if let Outcome::Built { go_version, .. } = o {
            *go_version = "go1.26.9".to_owned();
        }
    }),
    ("no Go", |o| {
        if let Outcome::Built { go_version, .. } = o {
            go_version.clear();
        }
    }),
    ("no artifact", |o| {
        if let Outcome::Built { artifacts, .. } = o {
            artifacts.clear();
        }
    }),
    ("the artifact twice", |o| {
        if let Outcome::Built { artifacts, .. } = o {
            artifacts.extend_from_within(..);
        }
    }),
    ("a resolution", |o| {
        *o = Outcome::Resolved(Resolution {
            module: "example.test/tool".to_owned(),
            version: "v1.0.0".to_owned(),
            sum: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
        });
    }),
];

/// Bits of a receipt's code that are flipped, of each document.
const MAC_FLIPS: usize = 8;

/// Every field of the report.
pub(super) fn forgeries(draws: &mut Draws) -> Vec<Forgery> {
    let mut found = Vec::new();
    for (what, change) in ARTIFACT {
        found.push(of_artifact(format!("report: {what}"), change));
    }
    for (name, receipts) in RECEIPTS {
        for (what, change) in RECEIPT {
            found.push(of_artifact(format!("report: {what} of the {name}"), move |a| change(receipts(a))));
        }
        for _ in 0..MAC_FLIPS {
            let (place, bit) = (draws.number(), draws.below(8));
            let flip = move |receipt: &mut Receipt| {
                let at = usize::try_from(place % receipt.mac.len().max(1) as u64).unwrap_or(0);
                receipt.mac[at] ^= 1 << bit;
            };
            let change = move |a: &mut Artifact| receipts(a).iter_mut().for_each(flip);
            found.push(of_artifact(format!("report: a bit of the receipt of the {name}"), change));
        }
    }
    for (name, of) in [("provenance", (|t| &mut t.provenance) as OnDocument), ("SBOM", |t| &mut t.sbom)] {
        let other_digest = move |a: &mut Artifact| document(a, of).digest = Digest::of(b"other");
        found.push(of_artifact(format!("report: another digest of the {name}"), other_digest));
        let other_size = move |a: &mut Artifact| document(a, of).size.0 += 1;
        found.push(of_artifact(format!("report: another size of the {name}"), other_size));
    }
    for (what, change) in OUTCOME {
        found.push(Forgery { what: format!("report: {what}"), change: Change::Outcome(Box::new(change)) });
    }
    found
}

fn of_artifact(what: String, change: impl Fn(&mut Artifact) + 'static) -> Forgery {
    Forgery { what, change: Change::Artifact(Box::new(change)) }
}
