//! A full queue: every step stays cheap, and memory stays bounded.

use std::time::Instant;

use meridian_core::{
    id::SessionId,
    machine::{
        effect::{Refusal, Reply},
        input::Input,
    },
};

use crate::fixture::{Fleet, agent, built, in_region, offer, tree};

/// The median time of a step in microseconds. A median, so that a busy machine does not fail the test; the
/// bounds are twenty times what an unoptimised build takes, and a scan of the queue for each task breaks them.
fn median_us(mut run: impl FnMut(), times: usize) -> u128 {
    let mut spans: Vec<_> = (0..times)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_micros()
        })
        .collect();
    spans.sort_unstable();
    spans[times / 2]
}

#[test]
fn ten_thousand_submits_at_once_are_admitted_up_to_the_bound_and_refused_beyond() {
    let mut fleet = Fleet::new();
    let mut admitted = 0;
    for number in 0..10_000 {
        match fleet.submit_as(&format!("k{number}"), tree(1)) {
            Reply::Submitted { .. } => admitted += 1,
            Reply::Refused(Refusal::QueueFull { queued: 4_096, limit: 4_096, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 4_096);
    assert_eq!(fleet.journal.len(), 4_097);
    fleet.check_no_task_is_lost();
}

#[test]
fn a_step_with_4096_queued_tasks_takes_far_less_than_a_millisecond() {
    let mut fleet = Fleet::new();
    for number in 0..4_090 {
        // Every hundredth asks for a region of its own, so that there are many lines.
        let spec = tree(1);
        let spec = if number % 100 == 0 { in_region(spec, &format!("r{number}")) } else { spec };
        fleet.submit(spec);
    }
    for number in 0..50 {
        let agent = agent(&format!("eu/a{number}"));
        fleet.step(Input::Attach { session: SessionId(number), agent, offer: offer(2), held: Vec::new() });
    }
    let queued = fleet.machine.counts().tasks_queued;
    assert_eq!(queued, 3_990);
    let submit = median_us(|| drop(fleet.submit(tree(1))), 100);
    let renew = median_us(|| fleet.step(Input::Renew { session: SessionId(7), held: Vec::new() }), 100);
    let turnover = median_us(
        || {
            for session in 0..2 {
                for (task, fence) in fleet.lease_all(session) {
                    fleet.report(session, &task, fence, built());
                }
            }
        },
        20,
    );
    assert!(submit < 1_000, "a submit takes {submit} µs");
    assert!(renew < 1_000, "a renewal takes {renew} µs");
    assert!(turnover < 40_000, "four leases, reports and placements take {turnover} µs");
    fleet.check_no_task_is_lost();
}
