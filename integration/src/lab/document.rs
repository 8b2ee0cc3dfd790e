//! The laboratory's results as figures for the bench, as a table, and as part of a document.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{
    chart::{Chart, Series},
    figures::Figures,
    oracle::Gap,
    policy::Kind,
    trial::Trial,
};

/// All that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The scenarios.
    pub trials: Vec<Trial>,
    /// How far policies are from the oracle.
    pub gaps: BTreeMap<Kind, Gap>,
}

/// Ours.
const OURS: Kind = Kind::LeastFinish;
/// Where a document takes the results, and where they end.
const MARKS: (&str, &str) = ("<!-- results -->", "<!-- end of results -->");

impl Report {
    /// The keys of the bench. Each is the worst of its scenarios.
    #[must_use]
    pub fn keys(&self) -> BTreeMap<&'static str, f64> {
        let mut keys = BTreeMap::new();
        let busy = || self.trials.iter().filter(|trial| trial.scenario.load_percent == 80);
        let wait = |figures: &Figures| figures.wait_p99_s;
        let others = |kind: &Kind| *kind != OURS;
        if busy().next().is_some() {
            let to_least_loaded = busy().filter_map(|trial| ratio(trial, Kind::LeastLoaded, wait));
            keys.insert("wait_p99_vs_least_loaded", most(to_least_loaded));
            let to_best = busy().filter_map(|trial| {
                let best =
                    trial.figures.iter().filter(|(kind, _)| others(kind)).map(|(_, figures)| wait(figures));
                Some(wait(trial.figures.get(&OURS)?) / best.fold(f64::INFINITY, f64::min).max(1e-3))
            });
            keys.insert("wait_p99_vs_best", most(to_best));
        }
        let all = |than: Kind, of: fn(&Figures) -> f64| {
            most(self.trials.iter().filter_map(|trial| ratio(trial, than, of)))
        };
        keys.insert("cross_bytes_vs_least_loaded", all(Kind::LeastLoaded, |figures| figures.cross_gib));
        keys.insert("miss_vs_random", all(Kind::Random, |figures| figures.missed_gib));
        keys.insert("miss_or_new_vs_random", all(Kind::Random, |figures| figures.missed_or_new_gib));
        let ours = || self.trials.iter().filter_map(|trial| trial.figures.get(&OURS));
        keys.insert("jain", ours().map(|figures| figures.jain).fold(1.0, f64::min));
        keys.insert("undone", ours().map(|figures| super::random::real(figures.undone)).sum());
        if let Some(figures) = self.ours("load 0.95") {
            keys.insert("longest_wait_s", figures.wait_max_s);
            keys.insert("longest_wait_bound_s", figures.longest_wait_bound_s);
        }
        if let (Some(lost), Some(whole)) = (self.ours("region loss 0.50"), self.ours("load 0.50")) {
            keys.insert("region_loss_release_s", lost.release_max_s);
            keys.insert("others_p99_ratio", lost.others_wait_p99_s / whole.others_wait_p99_s.max(1e-3));
        }
        if let Some(gap) = self.gaps.get(&OURS) {
            keys.insert("makespan_vs_oracle", gap.mean);
            keys.insert("makespan_vs_oracle_worst", gap.worst);
            keys.insert("makespan_vs_oracle_if_known", gap.mean_if_known);
        }
        keys
    }

    fn ours(&self, scenario: &str) -> Option<&Figures> {
        self.trials.iter().find(|trial| trial.scenario.name == scenario)?.figures.get(&OURS)
    }

    /// The keys, and all figures of all scenarios under `scenarios`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.keys().into_iter().map(|(key, value)| (key.to_owned(), json!(rounded(value)))).collect();
        let scenarios = self.trials.iter().map(|trial| {
            let policies =
                trial.figures.iter().map(|(kind, figures)| (kind.name().to_owned(), of_run(figures)));
            let value = json!({
                "builds_per_hour": trial.builds_per_hour.round(),
                "policies": Value::Object(policies.collect()),
            });
            (trial.scenario.name.to_owned(), value)
        });
        object.insert("scenarios".to_owned(), Value::Object(scenarios.collect()));
        let gaps = self.gaps.iter().map(|(kind, gap)| {
            let value =
                json!({ "instances": gap.instances, "mean": rounded(gap.mean), "worst": rounded(gap.worst), "mean_if_known": rounded(gap.mean_if_known) });
            (kind.name().to_owned(), value)
        });
        object.insert("oracle".to_owned(), Value::Object(gaps.collect()));
        Value::Object(object)
    }

    /// The results as Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "| key | figure |\n|---|---|\n".to_owned();
        for (key, value) in self.keys() {
            let _infallible = writeln!(text, "| `{key}` | {} |", rounded(value));
        }
        for trial in &self.trials {
            let _infallible = writeln!(
                text,
                "\n**{}**, {:.0} builds an hour\n\n| policy | busy | wait p50 s | p99 s | max s | finish p99 s | \
                 slowdown | between regions GiB | missed GiB | hits | Jain | wasted |\n\
                 |---|---|---|---|---|---|---|---|---|---|---|---|",
                trial.scenario.name, trial.builds_per_hour
            );
            for (kind, of) in &trial.figures {
                let _infallible = writeln!(
                    text,
                    "| {} | {:.3} | {:.1} | {:.0} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.3} | {:.3} | {:.3} |",
                    kind.name(),
                    of.utilisation,
                    of.wait_p50_s,
                    of.wait_p99_s,
                    of.wait_max_s,
                    of.finish_p99_s,
                    of.slowdown,
                    of.cross_gib,
                    of.missed_gib,
                    of.hits,
                    of.jain,
                    of.wasted
                );
            }
        }
        if !self.gaps.is_empty() {
            text += "\n**Against the oracle**\n\n| policy | instances | mean | worst | mean if all were known |\n|---|---|---|---|---|\n";
            for (kind, gap) in &self.gaps {
                let _infallible = writeln!(
                    text,
                    "| {} | {} | {:.3} | {:.3} | {:.3} |",
                    kind.name(),
                    gap.instances,
                    gap.mean,
                    gap.worst,
                    gap.mean_if_known
                );
            }
        }
        text
    }

    /// The pictures, by the names of their files.
    #[must_use]
    pub fn charts(&self) -> [(&'static str, String); 2] {
        let places: Vec<String> = self.trials.iter().map(|trial| trial.scenario.name.to_owned()).collect();
        let series = |of: &dyn Fn(&Trial, Kind) -> Option<f64>| {
            Kind::ALL.map(|kind| Series {
                name: kind.name().to_owned(),
                values: self.trials.iter().map(|trial| of(trial, kind)).collect(),
            })
        };
        let wait = |trial: &Trial, kind: Kind| trial.figures.get(&kind).map(|figures| figures.wait_p99_s);
        let cross = |trial: &Trial, kind: Kind| {
            let of = |kind| trial.figures.get(&kind).map(|figures| figures.cross_gib);
            Some(of(kind)? / of(Kind::LeastLoaded)?.max(1e-9))
        };
        let chart = |title: &str, axis: &str, series: [Series; 8], is_logarithmic| Chart {
            title: title.to_owned(),
            axis: axis.to_owned(),
            places: places.clone(),
            series: series.to_vec(),
            is_logarithmic,
        };
        let waits = chart("99 of 100 builds begin after", "seconds", series(&wait), true);
        let bytes = chart("Bytes between regions", "times least loaded's", series(&cross), false);
        [("scheduling-wait.svg", waits.svg()), ("scheduling-bytes.svg", bytes.svg())]
    }

    /// A document with these results in place of those that it had; as it was when it has no place for them.
    #[must_use]
    pub fn put_into(&self, document: &str) -> String {
        let (Some(from), Some(to)) = (document.find(MARKS.0), document.find(MARKS.1)) else {
            return document.to_owned();
        };
        let from = from + MARKS.0.len();
        if from > to {
            return document.to_owned();
        }
        format!("{}\n\n{}\n{}", &document[..from], self.table(), &document[to..])
    }
}

/// Ours ÷ another's.
fn ratio(trial: &Trial, than: Kind, of: impl Fn(&Figures) -> f64) -> Option<f64> {
    let (ours, theirs) = (of(trial.figures.get(&OURS)?), of(trial.figures.get(&than)?));
    Some(ours / theirs.max(1e-3))
}

fn most(ratios: impl Iterator<Item = f64>) -> f64 {
    ratios.fold(0.0, f64::max)
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn of_run(figures: &Figures) -> Value {
    json!({
        "tasks": figures.tasks,
        "undone": figures.undone,
        "utilisation": rounded(figures.utilisation),
        "makespan_h": rounded(figures.makespan_h),
        "wait_p50_s": rounded(figures.wait_p50_s),
        "wait_p99_s": rounded(figures.wait_p99_s),
        "wait_max_s": rounded(figures.wait_max_s),
        "finish_p50_s": rounded(figures.finish_p50_s),
        "finish_p99_s": rounded(figures.finish_p99_s),
        "bounded_slowdown": rounded(figures.slowdown),
        "cross_gib": rounded(figures.cross_gib),
        "missed_gib": rounded(figures.missed_gib),
        "missed_or_new_gib": rounded(figures.missed_or_new_gib),
        "hits": rounded(figures.hits),
        "jain": rounded(figures.jain),
        "wasted": rounded(figures.wasted),
        "choice_us": rounded(figures.choice_us),
        "release_max_s": rounded(figures.release_max_s),
        "longest_wait_bound_s": rounded(figures.longest_wait_bound_s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::scenario;

    fn report() -> Report {
        let figures = |wait_p99_s, cross_gib| Figures {
            wait_p99_s,
            cross_gib,
            missed_gib: 1.0,
            jain: 0.97,
            ..Figures::default()
        };
        let trial = |number: usize, ours| Trial {
            scenario: scenario::ALL[number].clone(),
            builds_per_hour: 100.0,
            figures: BTreeMap::from([
                (Kind::LeastLoaded, figures(10.0, 4.0)),
                (Kind::Random, figures(8.0, 4.0)),
                (Kind::LeastFinish, ours),
            ]),
        };
        Report {
            trials: vec![trial(0, figures(99.0, 1.0)), trial(2, figures(4.0, 3.0))],
            gaps: BTreeMap::new(),
        }
    }

    #[test]
    fn each_key_is_the_worst_of_its_scenarios() {
        let keys = report().keys();
        // The wait is of scenarios at load 0.8 alone, the bytes are of all.
        assert!((keys["wait_p99_vs_least_loaded"] - 0.4).abs() < 1e-9, "{keys:?}");
        assert!((keys["wait_p99_vs_best"] - 0.5).abs() < 1e-9, "{keys:?}");
        assert!((keys["cross_bytes_vs_least_loaded"] - 0.75).abs() < 1e-9, "{keys:?}");
    }

    #[test]
    fn results_take_the_place_of_those_that_were_there() {
        let (begin, end) = MARKS;
        let document = format!("before {begin} old {end} after");
        let with = report().put_into(&document);
        assert!(with.starts_with("before ") && with.ends_with(" after") && !with.contains("old"), "{with}");
        assert!(with.contains("| least_finish |"));
        assert_eq!(report().put_into(&with), with);
        assert_eq!(report().put_into("nothing"), "nothing");
    }
}
