//! Bytes of a claim, changed after it was signed: in each region of each part.

use super::catalogue::{Change, Forgery};
use crate::{draws::Draws, scripted::Claim};

/// The parts of a claim.
const PARTS: [(&str, Part); 4] = [
    ("artifact", |claim| &mut claim.executable),
    ("signature", |claim| &mut claim.signature),
    ("provenance", |claim| &mut claim.provenance),
    ("SBOM", |claim| &mut claim.sbom),
];
/// Each part is cut into as many regions, and each of those is altered as often.
const REGIONS: u64 = 8;
const FLIPS: u64 = 8;

type Part = fn(&mut Claim) -> &mut Vec<u8>;

/// One bit flipped in each region of each part, and each part cut, extended, emptied and zeroed.
pub(super) fn forgeries(draws: &mut Draws) -> Vec<Forgery> {
    let mut found = Vec::new();
    for (name, part) in PARTS {
        for region in 0..REGIONS {
            for _ in 0..FLIPS {
                let (place, bit) = (draws.number(), draws.below(8));
                let flip = move |claim: &mut Claim| flip(part(claim), region, place, bit);
                found.push(forgery(format!("{name}: a bit of region {region}"), flip));
            }
        }
        for (how, change) in WHOLE {
            let change = move |claim: &mut Claim| change(part(claim));
            found.push(forgery(format!("{name}: {how}"), change));
        }
    }
    found
}

fn forgery(what: String, change: impl Fn(&mut Claim) + 'static) -> Forgery {
    Forgery {
        what,
        change: Change::Claim(Box::new(move |claim, _, _| {
            change(claim);
            Ok(())
        })),
    }
}

type Alter = fn(&mut Vec<u8>);

const WHOLE: [(&str, Alter); 6] = [
    ("without its last byte", |bytes| bytes.truncate(bytes.len().saturating_sub(1))),
    ("without its first byte", |bytes| *bytes = bytes.split_off(1)),
    ("a byte longer", |bytes| bytes.push(b'\n')),
    ("a byte before it", |bytes| bytes.insert(0, b' ')),
    ("its first half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("zeroes", |bytes| bytes.fill(0)),
];

fn flip(bytes: &mut [u8], region: u64, place: u64, bit: u64) {
    let len = bytes.len() as u64;
    let (from, to) = (len * region / REGIONS, len * (region + 1) / REGIONS);
    let at = usize::try_from(from + place % (to - from).max(1)).unwrap_or(0);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}
