//! One trace from the command line through the coordinator to each step of the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::{Duration, Instant},
};

use meridian_integration::{
    fixture::{
        collector::{Collector, Span},
        program::Program,
    },
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
    let spans_of = |service: &str| -> BTreeMap<&str, &Span> {
        trace.iter().filter(|span| span.service == service).map(|span| (span.name.as_str(), span)).collect()
    };
    let steps = spans_of("meridian-agent");
    assert!(steps["attempt"].attributes.contains_key("cache_lookups"), "{:?}", steps["attempt"]);
    for step in ["attempt", "toolchain", "source", "modules", "compile", "upload", "report"] {
        let span = steps.get(step).unwrap_or_else(|| panic!("no span for {step}: {steps:?}"));
        for field in ["task", "fence", "platform"] {
            assert!(span.attributes.contains_key(field), "{step} has no {field}: {span:?}");
        }
    }
    for step in ["modules", "compile", "upload", "report"] {
        assert_eq!(steps[step].parent, steps["attempt"].id, "{step}");
    }
    let coordinator = spans_of("meridian-coordinator");
    for name in ["meridian.v1.Builds/Submit", "meridian.v1.Builds/Watch", "decide", "placement"] {
        assert!(coordinator.contains_key(name), "no span for {name}: {coordinator:?}");
    }
}

#[test]
fn a_build_outlives_its_connections_and_a_silent_collector_costs_at_most_two_seconds() {
    // The system accepts what is sent there, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let mut fleet = Fleet::start_with(&["limits.connection_age_ms=1000"]);
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let mut home = Home::with_proxy("off");
    let endpoint = format!("http://{}", silent.local_addr().expect("a bound port"));
    home.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let client = fleet.member_in(home, TEAM, "alice");
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&directory).expect("a directory can be written");
    let source = directory.display().to_string();
    for version in ["1", "2"] {
        client.build_into(version, &[&source, "--version", version, "--project", "acme/p"]).expect_success();
    }
    wait_for("the agent's stream to be opened anew", Duration::from_secs(30), || {
        let log = fleet.coordinator().log();
        (log.matches("an agent attached").count() > 1).then_some(())
    });
    // Whatever else runs on the machine does not do so each time.
    let took = (0..3).map(|_| {
        let start = Instant::now();
        client.run(&["builds", "--project", "acme/p"]).expect_code(0);
        start.elapsed()
    });
    let least = took.min().expect("it ran three times");
    assert!(least < Duration::from_secs(3), "{least:?}");
}

#[test]
fn metrics_are_named_as_prometheus_wants_them() {
    let fleet = Fleet::start();
    let answer = fleet.get("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let kinds = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let kinds: BTreeMap<_, _> = kinds.collect();
    for (name, kind) in &kinds {
        assert!(name.starts_with("meridian_"), "{name}");
        let is_counter = body.lines().any(|line| line.starts_with(&format!("{name}_total")));
        assert_eq!(is_counter, *kind == "counter", "{name} is a {kind}");
        assert!(
            !["_ms", "_us", "_kb", "_mb"].iter().any(|unit| name.ends_with(unit)),
            "{name}: no base unit"
        );
        assert!(body.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    for name in ["meridian_events", "meridian_step_seconds", "meridian_tasks_queued", "meridian_agents"] {
        assert!(kinds.contains_key(name), "{name}: {kinds:?}");
    }
}
