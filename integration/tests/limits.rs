//! Limits: too much at once is refused by type, and memory stays bounded.

use meridian_integration::{bench::memory::anonymous_mib, caller::Caller, fleet::Fleet};
use tonic::Code;

const SUBMITS: usize = 10_000;

#[test]
fn ten_thousand_submits_at_once_are_admitted_or_refused_and_memory_stays_bounded() {
    let mut fleet = Fleet::start();
    let client = fleet.member("flood");
    let before = anonymous_mib(fleet.coordinator().id()).expect("the coordinator runs");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answers = runtime.block_on(async {
        let caller = Caller::of(&client).expect("a connection");
        let submits: Vec<_> = (0..SUBMITS)
            .map(|number| {
                let caller = caller.clone();
                tokio::spawn(async move { caller.submit("acme/flood", &format!("key-{number}")).await })
            })
            .collect();
        let mut answers = Vec::new();
        for submit in submits {
            answers.push(submit.await.expect("a submit ends"));
        }
        answers
    });
    let admitted: Vec<_> = answers.iter().flatten().collect();
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(refused.message().contains("try again"), "{refused:?}");
    }
    assert!(!admitted.is_empty() && admitted.len() < SUBMITS, "{} were admitted", admitted.len());
    let after = anonymous_mib(fleet.coordinator().id()).expect("the coordinator still runs");
    assert!(after - before < 200.0, "grew from {before:.0} to {after:.0} MiB");

    // What was admitted is there; and one that was turned away gets in once there is room.
    assert!(fleet.get("/readyz").starts_with("HTTP/1.1 200"));
    runtime.block_on(async {
        let caller = Caller::of(&client).expect("a connection");
        for build in admitted.iter().take(10) {
            caller.cancel(build).await.expect("an admitted build can be given up");
        }
        caller.submit("acme/flood", "afterwards").await.expect("there is room again");
    });
}
