//! `meridian cache evict`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, Write as _},
};

use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{self, cache_eviction::What, cache_report::Report};
use serde_json::{Value, json};

use super::{
    lineages::{self, Lineage},
    reports::{connect, gather, gather_as_administrator, meant},
};
use crate::{
    args::{CacheEvictArgs, WhoseCacheArgs},
    build::report::asks_for_input,
    command::{context::Context, print},
    fleet::client::Client,
    trouble::Trouble,
};

/// Asks whether it is meant, has it done, and says what went.
///
/// # Errors
/// When it is not meant, a lineage is not known, the fleet refuses, or an agent does not answer.
pub(super) async fn evict(context: &Context, args: &CacheEvictArgs) -> Result<(), Trouble> {
    let client = connect(context, &args.whose).await?;
    let (what, words) = what(&client, args).await?;
    if !args.yes {
        confirm(&format!("Let go of {words} {}?", whose(&args.whose)))?;
    }
    let eviction = Some(v1::CacheEviction { what: Some(what) });
    let request = v1::CacheEvictRequest { agents: meant(&args.whose), eviction };
    let reports = gather_as_administrator("evict", &args.whose, client.caches().evict(request)).await?;
    let evicted = reports.said.iter().filter_map(|(agent, report)| match report {
        Report::Evicted(evicted) => Some((agent.as_str(), evicted)),
        _ => None,
    });
    let as_json = args.whose.fleet.json;
    if as_json {
        let agents: Vec<Value> = evicted.map(|(agent, evicted)| to_json(agent, evicted)).collect();
        print::json(&json!({ "agents": agents, "unanswered": reports.failed_json() }))?;
    } else {
        for (agent, evicted) in evicted {
            print::line(&format!("{agent}: {}", told(evicted)))?;
        }
    }
    reports.check(as_json)
}

/// What is to go, and the words for it.
async fn what(client: &Client, args: &CacheEvictArgs) -> Result<(What, String), Trouble> {
    if let Some(age) = args.what.older_than {
        let unused_ms = u64::try_from(age.as_millis()).map_err(Trouble::usage)?;
        let words = format!("what was not used for {}", meridian_core::quantity::Millis(unused_ms));
        return Ok((What::UnusedMs(unused_ms), words));
    }
    if args.what.all {
        return Ok((What::All(true), "everything that is not in use".to_owned()));
    }
    let request = v1::CacheStatsRequest { agents: meant(&args.whose) };
    let known = lineages::of(&gather("ask for lineages", client.caches().stats(request)).await?);
    let mut chosen = chosen(&known, &args.what.lineage)?;
    let names: Vec<String> = chosen.iter().map(|one| format!("\n  {} {}", one.short(), one.name())).collect();
    chosen.dedup_by(|a, b| a.key == b.key);
    let keys = chosen.iter().map(|lineage| lineage.key.clone().into()).collect();
    let words = format!("what only these used:{}\n", names.concat());
    Ok((What::Lineages(v1::LineageKeys { keys }), words))
}

/// The lineages that are meant, by key, with those that have the key of one of them: what they used goes as well, so whoever
/// is asked must know.
fn chosen<'a>(known: &'a [Lineage], texts: &[String]) -> Result<Vec<&'a Lineage>, Trouble> {
    let mut keys: BTreeSet<&[u8]> = BTreeSet::new();
    for text in texts {
        let mut meant = known.iter().filter(|lineage| lineage.is_meant(text)).peekable();
        if meant.peek().is_none() {
            return Err(Trouble::refused(format_args!("no lineage is known as {text:?}"))
                .hint("`meridian cache stats` lists them"));
        }
        keys.extend(meant.map(|lineage| lineage.key.as_slice()));
    }
    let mut chosen: Vec<&Lineage> =
        known.iter().filter(|lineage| keys.contains(lineage.key.as_slice())).collect();
    chosen.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(chosen)
}

fn whose(args: &WhoseCacheArgs) -> String {
    match (&args.agent, &args.region) {
        (Some(agent), _) => format!("on agent {agent}"),
        (None, Some(region)) => format!("on the agents of {region}"),
        (None, None) => "on all agents".to_owned(),
    }
}

/// Asks on the terminal; only a yes is one.
fn confirm(question: &str) -> Result<(), Trouble> {
    if !asks_for_input() {
        return Err(Trouble::usage("nobody can be asked here whether it is meant").hint("say --yes if it is"));
    }
    let mut err = io::stderr().lock();
    // Where it cannot be shown, nobody answers it.
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Trouble::refused("nothing went"))
}

fn told(evicted: &v1::CacheEvicted) -> String {
    let stays = match evicted.pinned_bodies {
        0 => String::new(),
        pinned => format!("; {} in use stay ({})", bodies(pinned), ByteCount(evicted.pinned_bytes)),
    };
    format!(
        "{} went ({}), with {} of frames and {}; {} went or are not whole any more{stays}",
        bodies(evicted.bodies),
        ByteCount(evicted.bytes),
        ByteCount(evicted.frame_bytes),
        match evicted.entries {
            1 => "1 entry".to_owned(),
            entries => format!("{entries} entries"),
        },
        print::count(evicted.manifests, "manifest"),
    )
}

fn bodies(number: u64) -> String {
    if number == 1 { "1 body".to_owned() } else { format!("{number} bodies") }
}

fn to_json(agent: &str, evicted: &v1::CacheEvicted) -> Value {
    json!({
        "agent": agent,
        "bodies": evicted.bodies,
        "bytes": evicted.bytes,
        "entries": evicted.entries,
        "manifests": evicted.manifests,
        "frame_bytes": evicted.frame_bytes,
        "pinned_bodies": evicted.pinned_bodies,
        "pinned_bytes": evicted.pinned_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_is_told_of_every_lineage_whose_cache_goes() {
        let lineage = |key: u8, project: &str| {
            let name = v1::LineageName { project: project.to_owned(), ..v1::LineageName::default() };
            Lineage { key: vec![key; 32], name: Some(name), ..Lineage::default() }
        };
        let known = [(2, "acme/web"), (1, "acme/web"), (3, "acme/tool"), (1, "acme/api")];
        let known = known.map(|(key, project)| lineage(key, project));
        let told = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let chosen = chosen(&known, &texts).ok()?;
            Some(chosen.iter().map(|one| one.name().trim().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(told(&["acme/api"]).unwrap(), ["acme/web", "acme/api"], "they share a key");
        let all = told(&["acme/tool", "acme/web"]).unwrap();
        assert_eq!(all, ["acme/web", "acme/api", "acme/web", "acme/tool"]);
        assert_eq!(told(&["acme/api", "acme/other"]), None);
    }

    #[test]
    fn what_went_and_what_stays_is_told_in_one_line() {
        let evicted = v1::CacheEvicted { bodies: 2, bytes: 4096, entries: 1, ..v1::CacheEvicted::default() };
        let plain = told(&evicted);
        assert!(
            plain.starts_with("2 bodies went (")
                && plain.ends_with("1 entry; 0 manifests went or are not whole any more"),
            "{plain}"
        );
        let pinned = told(&v1::CacheEvicted { pinned_bodies: 1, pinned_bytes: 10, ..evicted });
        assert!(pinned.contains("; 1 body in use stay"), "{pinned}");
    }
}
