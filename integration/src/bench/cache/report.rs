//! Writes the figures of a run into the documentation: tables between two marks, and a picture beside them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::{
    far::{FAR_MS, ROUND_TRIPS_MS},
    plot::{Point, Series, svg},
};
use crate::{
    bench::{figures::Figures, ledger::Ledger},
    home::go_env,
};

const PAGE: &str = "docs/BENCHMARKS.md";
const PICTURE: &str = "docs/build-time-by-round-trip.svg";
const BEGIN: &str = "<!-- cache: written by `bench -- cache --publish` -->";
const END: &str = "<!-- cache: end -->";

/// Sides by their names in keys, as readers know them.
const SIDES: [(&str, &str); 6] = [
    ("meridian", "Meridian"),
    ("meridian_no_manifest", "Meridian, no manifest"),
    ("tarball", "zstd tarball of GOCACHE and GOMODCACHE"),
    ("go_cacher", "go-cacher, go-cacher-server"),
    ("gocacheprog", "gocacheprog v0.0.44, no preload"),
    ("gocacheprog_preload", "gocacheprog v0.0.44, preload"),
];

/// Keys with what they say and what they should be.
const GOALS: &[(&str, &str, &str)] = &[
    ("far_cold_ratio", "cold agent at 150 ms ÷ native warm", "≤ 1.3"),
    ("far_cold_vs_best_peer", "the same ÷ the best peer", "≤ 0.9"),
    ("peers_missing", "peers that could not be installed or did not build", "0"),
    ("small_added_ms", "the small program, cold agent at 150 ms: beyond native warm", "≤ 600"),
    ("agents_far_ratio", "the same through whole agents, TLS and coordinator ÷ native warm", "≤ 1.3"),
    ("restore_ratio", "the same target again, previous binary restored ÷ native warm", "≤ 0.6"),
    ("far_100mbit_ratio", "at 100 Mbit/s ÷ max(native warm, wire time)", "≤ 1.25"),
    ("far_vs_near_ratio", "at 150 ms ÷ at 0 ms", "≤ 1.2"),
    ("far_changed_ratio", "one package changed, at 150 ms ÷ native incremental", "≤ 1.5"),
    ("no_manifest_vs_peer", "no manifest at 150 ms ÷ best peer without preload", "≤ 0.5"),
    ("warm_local_ratio", "warm local daemon ÷ native warm", "≤ 1.05"),
    ("get_p50_us", "local get through the shim, in µs", "-"),
    ("get_unlisted_p50_us", "the same of what no manifest lists, in µs", "-"),
    ("get_p50_vs_peer", "local get ÷ best peer's", "≤ 1.0"),
    ("wire_vs_zstd_ratio", "wire bytes ÷ solid zstd-3 of the missing objects", "≤ 1.10"),
    ("commits_p50_ratio", "50 versions, 330 ms and 0.5 % loss: median ÷ the incumbent's", "≤ 0.5"),
    ("commits_p95_ratio", "the same, 95th percentile", "≤ 0.5"),
    ("commits_bytes_ratio", "the same, bytes", "≤ 0.5"),
    ("second_agent_wan_ratio", "WAN bytes of a region's second agent ÷ the first's", "≤ 0.01"),
    ("blocking_round_trips", "blocking WAN round trips a build", "≤ 3"),
    ("cold_upload_ratio", "cold build with uploads ÷ native cold", "≤ 1.10"),
    ("close_backlog_ms", "close with a backlog at 150 ms", "≤ 50"),
    (
        "blackhole_extra_s",
        "a cache that vanishes during the build or before it: seconds beyond native cold",
        "≤ 1 + 5 %",
    ),
    ("tampered", "bit flips and swapped mappings", "≥ 1,000"),
    ("tampered_served", "of these, how many reached cmd/go", "0"),
    ("genuine_missed", "intact entries refused", "0"),
    ("shard_read_vs_bazel_remote", "read throughput on loopback ÷ bazel-remote's", "≥ 1.5"),
    ("shard_write_vs_bazel_remote", "write throughput ÷ bazel-remote's", "≥ 1.5"),
    ("shard_cpu_vs_bazel_remote", "CPU seconds a GiB ÷ bazel-remote's", "≤ 0.7"),
    ("mem_shim_mib", "anonymous memory of the shim, in MiB", "≤ 8"),
    ("mem_daemon_extra_mib", "the daemon's beyond idle, in MiB", "≤ 64"),
];

/// Writes what was measured into `docs/`, with the ledger that it is from.
///
/// # Errors
/// When the page has no place for it, or a file cannot be written.
pub fn publish(figures: &Figures, rounds: usize) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
    let series = series(figures);
    if series.iter().any(|series| !series.points.is_empty()) {
        let picture = svg("The small program on an agent that has built nothing", &series);
        write(&root.join(PICTURE), &picture)?;
    }
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    write(&page, &replaced(&text, &tables(figures, rounds))?)?;
    Ledger::publish("cache")
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The page with these tables between its marks.
fn replaced(page: &str, tables: &str) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("the page has no mark where tables begin")?;
    let (_, after) = rest.split_once(END).context("the page has no mark where tables end")?;
    ensure!(!after.contains(BEGIN), "the page has two places for the tables");
    Ok(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

fn series(figures: &Figures) -> Vec<Series> {
    let of = |(side, name): &(&str, &str)| {
        let points = ROUND_TRIPS_MS.iter().filter_map(|round_trip_ms| {
            let key = format!("small_{side}_{round_trip_ms}ms");
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a bench are far below 2^52")]
            Some(Point {
                round_trip_ms: *round_trip_ms as f64,
                seconds: figures.median(&format!("{key}_s"))?,
                is_cut: figures.median(&format!("{key}_is_cut")).is_some(),
            })
        });
        Series { name: (*name).to_owned(), points: points.collect() }
    };
    SIDES.iter().map(of).collect()
}

fn tables(figures: &Figures, rounds: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "\n{cores} cores, {}, medians of {rounds}; the plot, the versions and builds that were ended are of one round.\n\n",
        go_env("GOVERSION")
    );
    text += "| key | what | figure | goal |\n|---|---|---|---|\n";
    for (key, what, goal) in GOALS {
        if let Some(value) = figures.to_json().get(*key) {
            text += &format!("| `{key}` | {what} | {value} | {goal} |\n");
        }
    }
    for (peer, why) in figures.missing() {
        text += &format!("\n{peer} is missing: {why}\n");
    }
    text += &far_table(figures);
    text += &round_trip_table(figures);
    text
}

/// Every side that was measured, with both programs on an agent that has nothing.
fn far_table(figures: &Figures) -> String {
    let mut text = format!(
        "\nAn agent that has built nothing, {FAR_MS} ms away:\n\n\
         | | small, s | MiB | round trips | large, s | MiB | round trips |\n|---|---|---|---|---|---|---|\n"
    );
    let native = ["small", "large"].map(|program| shown(figures, &format!("{program}_native_warm")));
    text += &format!("| Go's own cache, full, on this disk | {} | | | {} | | |\n", native[0], native[1]);
    for (side, name) in SIDES {
        let keys = ["small", "large"].map(|program| format!("{program}_{side}_{FAR_MS}ms"));
        if keys.iter().all(|key| figures.median(&format!("{key}_s")).is_none()) {
            continue;
        }
        text += &format!("| {name} |");
        for key in keys {
            let number = |suffix: &str| rounded(figures.median(&format!("{key}_{suffix}")));
            text +=
                &format!(" {} | {} | {} |", shown(figures, &key), number("wire_mib"), number("round_trips"));
        }
        text.push('\n');
    }
    text
}

fn round_trip_table(figures: &Figures) -> String {
    let heads: Vec<String> =
        ROUND_TRIPS_MS.iter().map(|round_trip_ms| format!("{round_trip_ms} ms")).collect();
    let name = Path::new(PICTURE).file_name().unwrap_or_default().display();
    let mut text = format!(
        "\nThe small program by round trip, in seconds:\n\n![Build time by round trip]({name})\n\n\
         | | {} |\n|---|{}\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for (side, name) in SIDES {
        let cells =
            ROUND_TRIPS_MS.map(|round_trip_ms| shown(figures, &format!("small_{side}_{round_trip_ms}ms")));
        if cells.iter().any(|cell| cell != MISSING) {
            text += &format!("| {name} | {} |\n", cells.join(" | "));
        }
    }
    text
}

const MISSING: &str = "-";

/// A time, with a mark when the build was ended by then.
fn shown(figures: &Figures, key: &str) -> String {
    let is_cut = figures.median(&format!("{key}_is_cut")).is_some();
    let seconds = figures.median(&format!("{key}_s")).map(|seconds| format!("{seconds:.2}"));
    seconds.map_or_else(|| MISSING.to_owned(), |text| if is_cut { format!("> {text}") } else { text })
}

fn rounded(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::{super::plot::NAME_LEN_MAX, *};

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (key, value) in [
            ("warm_local_ratio", 1.04),
            ("small_native_warm_s", 1.5),
            ("large_tarball_150ms_s", 40.25),
            ("small_go_cacher_0ms_s", 2.0),
            ("small_go_cacher_150ms_s", 55.5),
            ("small_go_cacher_150ms_wire_mib", 22.9),
            ("large_go_cacher_150ms_s", 600.0),
            ("large_go_cacher_150ms_is_cut", 1.0),
        ] {
            figures.add(key, value);
        }
        figures.peer_is_missing_because("bazel-remote", "it is not served");
        figures
    }

    #[test]
    fn there_is_a_part_for_every_goal() {
        let keys = super::super::parts::keys();
        for (key, ..) in GOALS {
            assert!(keys.contains(key), "nothing measures {key}");
        }
    }

    #[test]
    fn tables_have_every_side_that_was_measured_and_say_who_is_missing() {
        let text = tables(&figures(), 5);
        for line in [
            "| `warm_local_ratio` | warm local daemon ÷ native warm | 1.04 | ≤ 1.05 |",
            "| `peers_missing` | peers that could not be installed or did not build | 1 | 0 |",
            "bazel-remote is missing: it is not served",
            "| Go's own cache, full, on this disk | 1.50 | | | - | | |",
            "| zstd tarball of GOCACHE and GOMODCACHE | - | - | - | 40.25 | - | - |",
            "| go-cacher, go-cacher-server | 55.50 | 23 | - | > 600.00 | - | - |",
            "| go-cacher, go-cacher-server | 2.00 | - | - | 55.50 | - |",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
        assert!(!text.contains("preload"), "{text}");
        assert!(SIDES.iter().all(|(_, name)| name.len() <= NAME_LEN_MAX), "a name is cut off in the plot");
        let drawn: Vec<usize> = series(&figures()).iter().map(|series| series.points.len()).collect();
        assert_eq!(drawn, [0, 0, 0, 2, 0, 0]);
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replaced(&page, "new").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert!(replaced("nothing", "new").is_err());
    }
}
