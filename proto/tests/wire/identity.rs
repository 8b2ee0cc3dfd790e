//! What goes out comes in again, and bytes from anywhere never panic.

use std::{collections::BTreeSet, sync::Arc};

use meridian_core::{
    cache::{
        hints::{CacheHints, ManifestHint, ManifestHolder},
        offer::{CacheKey, CacheOffer, WEIGHT_MAX},
        peer_address::PeerAddress,
        scope::{Scope, TaskScopes},
        shards::{REPLICAS_MAX, RegionShards, ShardEpoch, ShardMember, Shards},
        sidecar::{SidecarAsk, SidecarHints, SidecarManifest},
    },
    id::{AgentId, Epoch},
    machine::{
        effect::{Order, Work},
        input::{
            AgentOffer, CacheFigures, CacheTraffic, Observation, PeerFigures, Phase, Progress, ShardFigures,
            Upkeep,
        },
    },
    quantity::{ByteCount, Millis},
    sandbox::Sandbox,
    schedule::sketch::HeldSketch,
    time::Wall,
};
use meridian_proto::{
    convert::{
        agent::AgentSaid,
        coordinator::CoordinatorSaid,
        journal::{decode_event, decode_record, encode_event, encode_record},
    },
    v1,
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use crate::strategies::{
    agent, digest, event, fence, lineage, manifest, number, outcome, record, requester, resolution, sample,
    spec, task, task_kind, traceparent,
};

fn address() -> BoxedStrategy<PeerAddress> {
    ("[a-z0-9.-]{1,9}", 1..=u16::MAX)
        .prop_map(|(host, port)| format!("{host}:{port}").parse().unwrap())
        .boxed()
}

fn cache_key() -> BoxedStrategy<CacheKey> {
    any::<[u8; 32]>().prop_map(CacheKey::new).boxed()
}

fn cache_offer() -> BoxedStrategy<CacheOffer> {
    (option::of(address()), cache_key(), any::<u32>())
        .prop_map(|(address, key, weight)| CacheOffer { address, key, weight })
        .boxed()
}

fn scope() -> BoxedStrategy<Scope> {
    let name = "[a-z0-9][a-z0-9._-]{0,8}";
    let any_team =
        |scope: &'static str| name.prop_map(move |team| format!("{team}/{scope}").parse().unwrap());
    let member = (name, name).prop_map(|(team, name)| format!("{team}/member/{name}").parse().unwrap());
    let sidecar =
        (name, agent()).prop_map(|(team, agent)| Scope::Sidecar { team: team.parse().unwrap(), agent });
    prop_oneof![any_team("trusted"), any_team("unnamed"), member, sidecar].boxed()
}

fn sidecar_manifest() -> BoxedStrategy<SidecarManifest> {
    (task(), scope(), lineage(), manifest(), any::<u64>())
        .prop_map(|(task, scope, lineage, manifest, written)| SidecarManifest {
            project: task.build.project,
            scope,
            lineage,
            manifest,
            written: Wall(written),
        })
        .boxed()
}

fn hints() -> BoxedStrategy<Box<CacheHints>> {
    let holder = (agent(), address(), cache_key()).prop_map(|(agent, address, key)| ManifestHolder {
        agent,
        address,
        key,
    });
    let hint = (manifest(), any::<u32>(), vec(holder, 0..3))
        .prop_map(|(manifest, distance, holders)| ManifestHint { manifest, distance, holders });
    (scope(), vec(scope(), 0..3), option::of(hint), vec(any::<u8>(), 0..9))
        .prop_map(|(writes, reads, manifest, grant)| {
            Box::new(CacheHints { scopes: TaskScopes { writes, reads }, manifest, grant })
        })
        .boxed()
}

fn shards() -> BoxedStrategy<Arc<Shards>> {
    let agents = proptest::collection::btree_map(agent(), (address(), 1..=WEIGHT_MAX), 0..6);
    let revoked = proptest::collection::btree_set(agent(), 0..4);
    (any::<[u64; 2]>(), agents, 1..=REPLICAS_MAX, revoked)
        .prop_map(|([leader, change], agents, replicas, revoked)| {
            let regions: BTreeSet<_> = agents.keys().map(|agent| agent.region.clone()).collect();
            let regions = regions.into_iter().map(|region| {
                let of_region = agents.iter().filter(|(agent, _)| agent.region == region);
                let member = |(agent, (address, weight)): (&AgentId, &(PeerAddress, u32))| ShardMember {
                    agent: agent.clone(),
                    address: address.clone(),
                    weight: *weight,
                };
                let members = of_region.map(member).collect();
                RegionShards::new(region, replicas, members).unwrap()
            });
            let epoch = ShardEpoch { leader: Epoch(leader), change };
            Arc::new(Shards::new(epoch, regions.collect(), revoked).unwrap())
        })
        .boxed()
}

fn progress() -> BoxedStrategy<Progress> {
    let phase = prop_oneof![
        Just(Phase::Preflight),
        Just(Phase::Toolchain),
        Just(Phase::Source),
        Just(Phase::Modules),
        Just(Phase::Compile),
        Just(Phase::Upload),
    ];
    (phase, any::<u64>(), any::<u64>(), ".{0,9}")
        .prop_map(|(phase, done, total, detail)| Progress { phase, done, total, detail })
        .boxed()
}

fn cache_figures() -> BoxedStrategy<CacheFigures> {
    any::<([u64; 7], [u64; 6])>()
        .prop_map(|(store, way)| CacheFigures {
            held: ByteCount(store[0]),
            capacity: ByteCount(store[1]),
            hit_bytes: ByteCount(store[2]),
            put_bytes: ByteCount(store[3]),
            evicted_bodies: store[4],
            evicted_bytes: ByteCount(store[5]),
            damaged_bodies: store[6],
            traffic: CacheTraffic {
                fetched_bodies: way[0],
                fetched_bytes: ByteCount(way[1]),
                fetched_wire_bytes: ByteCount(way[2]),
                refused_bodies: way[3],
                waited_us: way[4],
                served_wire_bytes: ByteCount(way[5]),
            },
        })
        .boxed()
}

fn agent_offer() -> impl Strategy<Value = AgentOffer> {
    let sandbox = ("[a-z]{1,9}", vec("[a-z0-9-]{1,9}", 0..4))
        .prop_map(|(kind, features)| Sandbox::new(&kind, features));
    let machine = ("[a-z]{1,9}/[a-z0-9]{1,9}", any::<u32>(), any::<u32>(), "[ -~]{0,9}");
    let labels = vec("[a-z0-9]{1,9}", 0..3);
    let told = (option::of(any::<u64>()), any::<bool>(), any::<bool>());
    (machine, sandbox, option::of(cache_offer()), labels, told).prop_map(
        |((host, slots, cores, version), sandbox, cache, labels, (memory, heeds_drain, tells_stops))| {
            AgentOffer {
                host,
                slots,
                cores,
                version,
                sandbox,
                cache,
                labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
                memory: memory.map(ByteCount),
                heeds_drain,
                tells_stops,
            }
        },
    )
}

fn observation() -> impl Strategy<Value = AgentSaid> {
    let shard = any::<[u64; 2]>()
        .prop_map(|[held, capacity]| ShardFigures { held: ByteCount(held), capacity: ByteCount(capacity) });
    let figures = (option::of(any::<u64>()), any::<u64>(), any::<u64>());
    let sidecars = vec(sidecar_manifest(), 0..3);
    let told = (option::of(shard), option::of(cache_figures()), sidecars);
    let sketch = option::of(vec(any::<u32>(), 0..9).prop_map(HeldSketch::of));
    let peer = (agent(), any::<u64>(), any::<u64>()).prop_map(|(agent, rtt_us, bytes)| PeerFigures {
        agent,
        rtt_us,
        bytes_per_s: ByteCount(bytes),
    });
    (figures, vec(digest(), 0..4), told, (sketch, vec(peer, 0..3))).prop_map(
        |((free, hits, lookups), residency, (shard, cache, sidecars), (sketch, peers))| {
            AgentSaid::Observed(Observation {
                rtt_us: None,
                clock_offset_us: None,
                disk_free: free.map(ByteCount),
                cache_hits: hits,
                cache_lookups: lookups,
                residency,
                shard,
                sidecars,
                cache,
                sketch,
                peers,
            })
        },
    )
}

fn agent_said() -> BoxedStrategy<AgentSaid> {
    let held = || vec((task(), fence()), 0..3);
    prop_oneof![
        (agent_offer(), held(), any::<u64>()).prop_map(|(offer, held, process)| AgentSaid::Hello {
            offer,
            held,
            process
        }),
        observation(),
        (task(), number()).prop_map(|(task, placement)| AgentSaid::Lease { task, placement }),
        (task(), number(), ".{0,9}").prop_map(|(task, placement, why)| AgentSaid::Decline {
            task,
            placement,
            why
        }),
        held().prop_map(|held| AgentSaid::Renewal { held }),
        (task(), fence(), progress()).prop_map(|(task, fence, progress)| AgentSaid::Progressed {
            task,
            fence,
            progress
        }),
        (task(), fence(), outcome().prop_map(Box::new))
            .prop_map(|(task, fence, outcome)| AgentSaid::Report { task, fence, outcome }),
        (task(), fence(), manifest(), sample()).prop_map(|(task, fence, manifest, sample)| {
            AgentSaid::ManifestMade { task, fence, manifest, sample }
        }),
        Just(AgentSaid::Drain),
        (task(), fence(), ".{0,9}").prop_map(|(task, fence, remaining)| AgentSaid::Stopped {
            task,
            fence,
            remaining
        }),
        any::<bool>().prop_map(|is_drained| AgentSaid::Drained { is_drained }),
        (any::<u64>(), ".{0,9}").prop_map(|(number, why)| {
            let answer = Some(v1::cache_answer::Answer::Failed(why));
            AgentSaid::CacheAnswer(Box::new(v1::CacheAnswer { number, answer }))
        }),
        any::<[u64; 3]>().prop_map(|[number, received_wall_us, sent_wall_us]| AgentSaid::Echo {
            number,
            received_wall_us,
            sent_wall_us,
        }),
    ]
    .boxed()
}

fn coordinator_said() -> BoxedStrategy<CoordinatorSaid> {
    let asked = (option::of(traceparent()), option::of(requester()));
    let work = (task(), task_kind(), spec(), option::of(resolution()), asked).prop_map(
        |(task, kind, spec, resolution, (traceparent, requester))| {
            Box::new(Work { task, kind, spec, resolution, traceparent, requester })
        },
    );
    let order = prop_oneof![
        any::<[u64; 2]>().prop_map(|[lease, renew_every]| Order::Welcome {
            lease: Millis(lease),
            renew_every: Millis(renew_every),
        }),
        (work, number(), option::of(hints())).prop_map(|(work, placement, cache)| Order::Offer {
            work,
            placement,
            cache
        }),
        (task(), number(), fence()).prop_map(|(task, placement, fence)| Order::Grant {
            task,
            placement,
            fence
        }),
        (task(), option::of(fence()), ".{0,9}").prop_map(|(task, fence, why)| Order::Revoke {
            task,
            fence,
            why
        }),
        (task(), fence(), any::<bool>()).prop_map(|(task, fence, accepted)| Order::Settled {
            task,
            fence,
            accepted
        }),
        ".{0,9}".prop_map(|why| Order::Drain { why }),
        Just(Order::Resume),
        shards().prop_map(|shards| Order::Shards { shards }),
    ];
    prop_oneof![
        (any::<u64>(), any::<u64>(), order).prop_map(|(epoch, sequence, order)| CoordinatorSaid::Order {
            epoch: Epoch(epoch),
            sequence,
            order,
        }),
        any::<u64>().prop_map(|number| CoordinatorSaid::Probe { number }),
    ]
    .boxed()
}

fn upkeep() -> BoxedStrategy<Upkeep> {
    let why = || "[ -~]{0,9}";
    let wall = || any::<u64>().prop_map(Wall);
    prop_oneof![
        why().prop_map(|why| Upkeep::Cordon { why }),
        (why(), option::of(any::<u64>().prop_map(Millis)))
            .prop_map(|(why, grace)| Upkeep::Drain { why, grace }),
        Just(Upkeep::Uncordon),
        (wall(), wall(), why()).prop_map(|(from, until, why)| Upkeep::Maintain { from, until, why }),
        option::of(wall()).prop_map(|from| Upkeep::EndMaintenance { from }),
    ]
    .boxed()
}

proptest! {
    #[test]
    fn an_event_survives_the_journal(event in event()) {
        let bytes = encode_event(&event);
        prop_assert_eq!(decode_event(&bytes), Ok(event.clone()));
        prop_assert_eq!(encode_event(&event), bytes);
    }

    #[test]
    fn a_record_survives_the_snapshot(record in record()) {
        let bytes = encode_record(&record);
        prop_assert_eq!(decode_record(&bytes), Ok(record.clone()));
        prop_assert_eq!(encode_record(&record), bytes);
    }

    #[test]
    fn what_an_agent_says_arrives(said in agent_said()) {
        let bytes = v1::AgentMessage::from(&said).encode_to_vec();
        prop_assert_eq!(AgentSaid::try_from(v1::AgentMessage::decode(&bytes[..]).unwrap()), Ok(said));
    }

    #[test]
    fn what_the_coordinator_says_arrives(said in coordinator_said()) {
        let bytes = v1::CoordinatorMessage::from(&said).encode_to_vec();
        prop_assert_eq!(CoordinatorSaid::try_from(v1::CoordinatorMessage::decode(&bytes[..]).unwrap()), Ok(said));
    }

    #[test]
    fn what_is_asked_and_told_of_a_build_beside_an_agent_arrives(
        project in task(), lineage in lineage(), wants_trusted: bool, hints in hints(), written in option::of(any::<u64>())
    ) {
        let ask = SidecarAsk { project: project.build.project, lineage, wants_trusted };
        prop_assert_eq!(SidecarAsk::try_from(v1::SidecarRequest::from(&ask)), Ok(ask));
        let told = SidecarHints { hints: *hints, written: written.map(Wall) };
        prop_assert_eq!(SidecarHints::try_from(v1::SidecarResponse::from(&told)), Ok(told));
    }

    #[test]
    fn what_an_administrator_says_of_an_agent_arrives(upkeep in upkeep()) {
        let (agent, wire) = ("eu/a".to_owned(), Some((&upkeep).into()));
        prop_assert_eq!(Upkeep::try_from(v1::UpkeepRequest { agent, upkeep: wire }), Ok(upkeep));
    }

    #[test]
    fn a_spec_of_any_content_is_checked_or_refused(spec in spec()) {
        if let Err(found) = spec.check() {
            prop_assert!(found.iter().all(|finding| finding.to_string().len() < 4_000));
        }
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_event(&bytes);
        let _ = decode_record(&bytes);
        let _ = v1::AgentMessage::decode(&bytes[..]).map(AgentSaid::try_from);
        let _ = v1::CoordinatorMessage::decode(&bytes[..]).map(CoordinatorSaid::try_from);
    }

    #[test]
    fn a_damaged_event_is_refused_or_is_another_event(event in event(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = encode_event(&event).to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode_event(&bytes) {
            prop_assert_ne!(&other, &event);
            prop_assert_eq!(encode_event(&other), bytes);
        }
    }

    #[test]
    fn a_damaged_record_is_refused_or_is_another_record(record in record(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = encode_record(&record).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode_record(&bytes) {
            prop_assert_ne!(&other, &record);
            prop_assert_eq!(encode_record(&other), bytes);
        }
    }
}
