//! Arbitrary values of what the scheduler is asked and says.

use meridian_core::{
    build::{ConcurrencyGroup, Wishes},
    cache::lineage::LineageKey,
    id::JournalIndex,
    machine::record::{Candidate, Placement, Verdict},
    quantity::ByteCount,
    schedule::{
        cost::Terms,
        priority::Priority,
        run_times::{Learned, RunSums},
        sketch::Sample,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{NAME, agent, digest, number};

pub(super) fn wishes() -> BoxedStrategy<Wishes> {
    let group = (NAME, any::<bool>())
        .prop_map(|(name, cancels)| ConcurrencyGroup { name: name.parse().unwrap(), cancels });
    let where_to = (option::of(NAME), option::of(agent()), vec(NAME, 0..3), vec(NAME, 0..3));
    let when = (select(&Priority::ALL[..]), option::of(any::<u32>()), option::of(group));
    (where_to, when)
        .prop_map(|((region, agent, regions, labels), (priority, at_once, group))| Wishes {
            region: region.map(|name| name.parse().unwrap()),
            agent,
            regions: regions.iter().map(|name| name.parse().unwrap()).collect(),
            labels: labels.iter().map(|name| name.parse().unwrap()).collect(),
            priority,
            at_once,
            group,
        })
        .boxed()
}

pub(crate) fn sample() -> BoxedStrategy<Sample> {
    vec((any::<u32>(), any::<u64>()), 0..4)
        .prop_map(|drawn| Sample::of(drawn.into_iter().map(|(number, size)| (number, ByteCount(size)))))
        .boxed()
}

pub(super) fn learned() -> BoxedStrategy<Learned> {
    let sums = any::<[u64; 5]>().prop_map(|[weight, hits, hits_squared, run_ms, hits_by_run]| RunSums {
        weight,
        hits,
        hits_squared,
        run_ms,
        hits_by_run,
    });
    let heard = || any::<u64>().prop_map(JournalIndex);
    prop_oneof![
        (digest(), sums, heard()).prop_map(|(key, sums, heard)| Learned::Lineage {
            key: LineageKey(key),
            sums,
            heard
        }),
        (agent(), any::<u64>(), heard()).prop_map(|(agent, slowness_permille, heard)| Learned::Agent {
            agent,
            slowness_permille,
            heard
        }),
    ]
    .boxed()
}

pub(super) fn placement() -> BoxedStrategy<Placement> {
    let terms = any::<[u64; 5]>().prop_map(|[wait_us, rounds_us, transfer_us, run_us, deliver_us]| Terms {
        wait_us,
        rounds_us,
        transfer_us,
        run_us,
        deliver_us,
    });
    let load = (any::<u32>(), any::<u32>(), option::of(any::<u32>()));
    let eligible = (any::<u64>(), option::of(any::<u64>()), load, option::of(terms)).prop_map(
        |(cost_us, rtt_us, (busy, slots, hit_rate_permille), terms)| Verdict::Eligible {
            cost_us,
            rtt_us,
            busy,
            slots,
            hit_rate_permille,
            terms,
        },
    );
    let verdict = prop_oneof![eligible, ".{0,9}".prop_map(|why| Verdict::Refused { why })];
    let candidate = (agent(), verdict).prop_map(|(agent, verdict)| Candidate { agent, verdict });
    let egress = (NAME, any::<u64>()).prop_map(|(region, bytes)| (region.parse().unwrap(), ByteCount(bytes)));
    let others = (vec((".{0,9}", any::<u32>()), 0..3), option::of(egress));
    (number(), agent(), ".{0,9}", vec(candidate, 0..3), others)
        .prop_map(|(number, agent, because, candidates, (refused, egress))| Placement {
            number,
            agent,
            because,
            candidates,
            refused,
            egress,
        })
        .boxed()
}
