//! One trace from the command line through the coordinator to each step of the agent.

use std::{collections::BTreeSet, time::Duration};

use meridian_integration::{
    fixture::{collector::Collector, program::Program},
    fleet::{Fleet, TEAM},
    home::Home,
    wait::wait_for,
};

#[test]
fn a_build_is_one_trace_over_three_processes() {
    let collector = Collector::start();
    let home = || {
        let mut home = Home::with_proxy("off");
        home.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        // Spans leave at once: a test has no time for batches.
        home.set("OTEL_BSP_SCHEDULE_DELAY", "100");
        home
    };
    let mut fleet = Fleet::start_in(home(), &[]);
    fleet.join_agent("eu/a", 1, home());
    let client = fleet.member_in(home(), TEAM, "alice");
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&directory).expect("a directory can be written");
    let source = directory.display().to_string();
    client.build(&[&source, "--version", "1", "--project", "acme/p"]).expect_success();

    let wanted: BTreeSet<_> = ["meridian", "meridian-agent", "meridian-coordinator"].into();
    let trace = wait_for("one trace with spans of all three processes", Duration::from_secs(30), || {
        collector.traces().into_values().find(|spans| {
            let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
            services.is_superset(&wanted)
        })
    });
    // Every parent that is named is there: the trace hangs together.
    let trace = wait_for("the whole trace", Duration::from_secs(30), || {
        let spans = collector.traces().remove(&trace[0].trace)?;
        let ids: BTreeSet<_> = spans.iter().map(|span| span.id.clone()).collect();
        spans.iter().all(|span| span.parent.is_empty() || ids.contains(&span.parent)).then_some(spans)
    });
    let roots = trace.iter().filter(|span| span.parent.is_empty()).count();
    assert_eq!(roots, 1, "{trace:#?}");
    let steps: BTreeSet<_> =
        trace.iter().filter(|span| span.service == "meridian-agent").map(|span| span.name.as_str()).collect();
    for step in ["toolchain", "source", "modules", "compile", "upload"] {
        assert!(steps.contains(step), "no span for {step}: {steps:?}");
    }
}
