//! What goes out comes in again, and bytes from anywhere never panic.

use meridian_core::{
    id::Epoch,
    machine::{
        effect::{Order, Work},
        input::{AgentOffer, Observation, Phase, Progress},
    },
    quantity::{ByteCount, Millis},
    sandbox::Sandbox,
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
    event, fence, number, outcome, record, requester, resolution, spec, task, task_kind, traceparent,
};

fn agent_said() -> BoxedStrategy<AgentSaid> {
    let held = || vec((task(), fence()), 0..3);
    let sandbox = ("[a-z]{1,9}", vec("[a-z0-9-]{1,9}", 0..4))
        .prop_map(|(kind, features)| Sandbox::new(&kind, features));
    let offer = ("[a-z]{1,9}/[a-z0-9]{1,9}", any::<u32>(), any::<u32>(), "[ -~]{0,9}", sandbox).prop_map(
        |(host, slots, cores, version, sandbox)| AgentOffer { host, slots, cores, version, sandbox },
    );
    let observation =
        (option::of(any::<u64>()), any::<u64>(), any::<u64>()).prop_map(|(free, hits, lookups)| {
            AgentSaid::Observed(Observation {
                rtt_us: None,
                clock_offset_us: None,
                disk_free: free.map(ByteCount),
                cache_hits: hits,
                cache_lookups: lookups,
            })
        });
    let phase = prop_oneof![
        Just(Phase::Preflight),
        Just(Phase::Toolchain),
        Just(Phase::Source),
        Just(Phase::Modules),
        Just(Phase::Compile),
        Just(Phase::Upload),
    ];
    let progress = (phase, any::<u64>(), any::<u64>(), ".{0,9}")
        .prop_map(|(phase, done, total, detail)| Progress { phase, done, total, detail });
    prop_oneof![
        (offer, held()).prop_map(|(offer, held)| AgentSaid::Hello { offer, held }),
        observation,
        (task(), number()).prop_map(|(task, placement)| AgentSaid::Lease { task, placement }),
        (task(), number(), ".{0,9}").prop_map(|(task, placement, why)| AgentSaid::Decline {
            task,
            placement,
            why
        }),
        held().prop_map(|held| AgentSaid::Renewal { held }),
        (task(), fence(), progress).prop_map(|(task, fence, progress)| AgentSaid::Progressed {
            task,
            fence,
            progress
        }),
        (task(), fence(), outcome().prop_map(Box::new))
            .prop_map(|(task, fence, outcome)| AgentSaid::Report { task, fence, outcome }),
        Just(AgentSaid::Drain),
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
        (work, number()).prop_map(|(work, placement)| Order::Offer { work, placement }),
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
