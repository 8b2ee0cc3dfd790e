//! `meridian cache verify`.

use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{self, cache_report::Report};
use serde_json::{Value, json};

use super::reports::{connect, gather_as_administrator, meant};
use crate::{
    args::CacheVerifyArgs,
    command::{context::Context, print},
    trouble::Trouble,
};

/// Has everything read again, and says what was damaged.
///
/// # Errors
/// When anything was, the fleet refuses, or an agent does not answer.
pub(super) async fn verify(context: &Context, args: &CacheVerifyArgs) -> Result<(), Trouble> {
    let client = connect(context, &args.whose).await?;
    let request = v1::CacheVerifyRequest { agents: meant(&args.whose) };
    let reports =
        gather_as_administrator("verify the caches", &args.whose, client.caches().verify(request)).await?;
    let verified: Vec<(&str, &v1::CacheVerified)> = reports
        .said
        .iter()
        .filter_map(|(agent, report)| match report {
            Report::Verified(verified) => Some((agent.as_str(), verified)),
            _ => None,
        })
        .collect();
    let as_json = args.whose.fleet.json;
    if as_json {
        let agents: Vec<Value> = verified.iter().map(|(agent, verified)| to_json(agent, verified)).collect();
        print::json(&json!({ "agents": agents, "unanswered": reports.failed_json() }))?;
    } else {
        for (agent, verified) in &verified {
            print::line(&format!("{agent}: {}", told(verified)))?;
        }
    }
    reports.check(as_json)?;
    match trouble(&verified) {
        None => Ok(()),
        Some(trouble) => Err(if as_json { trouble.said() } else { trouble }),
    }
}

fn trouble(verified: &[(&str, &v1::CacheVerified)]) -> Option<Trouble> {
    let those = |is_meant: fn(&v1::CacheVerified) -> bool| {
        let meant = verified.iter().filter(|(_, verified)| is_meant(verified));
        meant.map(|(agent, _)| *agent).collect::<Vec<_>>().join(", ")
    };
    let kinds = [
        (
            "damage was found and dropped",
            those(|one| damage(one) > one.missing_bodies),
            "it is built or fetched again when it is needed; where it comes back, look at that machine's disk and memory",
        ),
        (
            "bodies were missing and are forgotten",
            those(|one| one.missing_bodies > 0),
            "what was missing is built or fetched again when it is needed; nobody but the agent should remove files of its state directory",
        ),
        (
            "not all could be read",
            those(|one| one.unreadable > 0),
            "what could not be read stays; the agent's log says which it is and why: verify again when that is mended",
        ),
    ];
    // An agent may have more than one, and each is mended elsewhere.
    let found: Vec<_> = kinds.iter().filter(|(_, agents, _)| !agents.is_empty()).collect();
    if found.is_empty() {
        return None;
    }
    let words: Vec<_> = found.iter().map(|(what, agents, _)| format!("{what} on {agents}")).collect();
    let hints: Vec<_> = found.iter().map(|(_, _, hint)| *hint).collect();
    Some(Trouble::broken(words.join("; ")).hint(hints.join("; ")))
}

const fn damage(verified: &v1::CacheVerified) -> u64 {
    verified.damaged_bodies
        + verified.missing_bodies
        + verified.damaged_entries
        + verified.damaged_manifests
        + verified.damaged_frames
}

fn told(verified: &v1::CacheVerified) -> String {
    let kinds = [
        ("bodies", verified.bodies, verified.damaged_bodies),
        ("index records", verified.entries, verified.damaged_entries),
        ("manifests", verified.manifests, verified.damaged_manifests),
        ("frames", verified.frames, verified.damaged_frames),
    ];
    let kind = |(name, all, damaged): (&str, u64, u64)| match damaged {
        0 => format!("{all} {name}"),
        damaged => format!("{all} {name}, {damaged} of them DAMAGED"),
    };
    let missing = match verified.missing_bodies {
        0 => String::new(),
        missing => format!(", {missing} more bodies MISSING"),
    };
    let word = match (damage(verified), verified.unreadable) {
        (0, 0) => "all good".to_owned(),
        (0, unreadable) => format!("{unreadable} could NOT BE READ and stay"),
        (damage, 0) if damage == verified.missing_bodies => "what was missing is forgotten".to_owned(),
        (_, 0) => "what was damaged is dropped".to_owned(),
        (damage, unreadable) if damage == verified.missing_bodies => {
            format!("what was missing is forgotten, and {unreadable} could NOT BE READ and stay")
        }
        (_, unreadable) => {
            format!("what was damaged is dropped, and {unreadable} could NOT BE READ and stay")
        }
    };
    format!("{}{missing} ({}): {word}", kinds.map(kind).join(", "), ByteCount(verified.bytes))
}

fn to_json(agent: &str, verified: &v1::CacheVerified) -> Value {
    json!({
        "agent": agent,
        "bodies": verified.bodies,
        "bytes": verified.bytes,
        "damaged_bodies": verified.damaged_bodies,
        "missing_bodies": verified.missing_bodies,
        // Each time an entry was written, superseded ones as well: not what `stats` and `evict` count.
        "index_records": verified.entries,
        "damaged_index_records": verified.damaged_entries,
        "manifests": verified.manifests,
        "damaged_manifests": verified.damaged_manifests,
        "frames": verified.frames,
        "damaged_frames": verified.damaged_frames,
        "unreadable": verified.unreadable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_of_every_kind_is_told_and_counts() {
        let good = v1::CacheVerified { bodies: 7, bytes: 4096, entries: 9, ..v1::CacheVerified::default() };
        assert!(damage(&good) == 0 && told(&good).ends_with("all good"), "{}", told(&good));
        for damaged in [
            v1::CacheVerified { damaged_bodies: 1, ..good },
            v1::CacheVerified { damaged_entries: 1, ..good },
            v1::CacheVerified { damaged_manifests: 1, ..good },
            v1::CacheVerified { damaged_frames: 1, ..good },
        ] {
            let told = told(&damaged);
            assert!(damage(&damaged) == 1 && told.contains("1 of them DAMAGED"), "{told}");
            assert!(trouble(&[("eu/a1", &damaged)]).is_some());
        }
        assert!(trouble(&[("eu/a1", &good)]).is_none());
        assert!(
            told(&good).contains(", 9 index records, "),
            "no entries: those are counted once each elsewhere"
        );
        assert_eq!(to_json("eu/a1", &good)["index_records"], 9);
        let missing = v1::CacheVerified { missing_bodies: 2, ..good };
        let words = told(&missing);
        assert!(
            words.contains("2 more bodies MISSING") && words.ends_with("missing is forgotten"),
            "{words}"
        );
        assert!(trouble(&[("eu/a1", &missing)]).is_some() && damage(&missing) == 2);
        let unread = v1::CacheVerified { unreadable: 2, ..good };
        assert!(told(&unread).ends_with("2 could NOT BE READ and stay") && damage(&unread) == 0);
        assert!(trouble(&[("eu/a1", &good), ("eu/a2", &unread)]).is_some());
    }

    #[test]
    fn what_is_missing_and_what_could_not_be_read_are_told_beside_damage_and_without() {
        let good = v1::CacheVerified { bodies: 7, ..v1::CacheVerified::default() };
        let both = v1::CacheVerified { missing_bodies: 2, unreadable: 1, ..good };
        let words = told(&both);
        assert!(words.ends_with("missing is forgotten, and 1 could NOT BE READ and stay"), "{words}");
        let damaged = v1::CacheVerified { damaged_bodies: 1, unreadable: 1, ..good };
        let words = told(&damaged);
        assert!(words.ends_with("damaged is dropped, and 1 could NOT BE READ and stay"), "{words}");
        let missing = v1::CacheVerified { missing_bodies: 1, ..good };
        let trouble = trouble(&[("eu/a1", &damaged), ("eu/a2", &missing), ("eu/a3", &good)]).unwrap();
        assert_eq!(
            trouble.message,
            "damage was found and dropped on eu/a1; bodies were missing and are forgotten on eu/a2; not all could be read on eu/a1"
        );
        let hint = trouble.hint.unwrap();
        assert!(hint.contains("disk and memory") && hint.contains("nobody but the agent"), "{hint}");
    }
}
