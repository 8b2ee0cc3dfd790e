//! The figures of a bench, and the one form in which every bench prints them.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// Figures by key, each with its values round by round.
#[derive(Debug, Default)]
pub struct Figures {
    raw: BTreeMap<String, Vec<f64>>,
    peers_missing: u32,
    missing_because: BTreeMap<String, String>,
}

impl Figures {
    /// Adds a round's value.
    pub fn add(&mut self, key: &str, value: f64) {
        self.raw.entry(key.to_owned()).or_default().push(value);
    }

    /// Notes that a peer could not be installed; its figures are left out.
    pub fn peer_is_missing(&mut self) {
        self.peers_missing += 1;
    }

    /// The same with its name and the reason, which are printed with the figures. A peer counts once.
    pub fn peer_is_missing_because(&mut self, peer: &str, why: &str) {
        if self.missing_because.insert(peer.to_owned(), why.to_owned()).is_none() {
            self.peers_missing += 1;
        }
    }

    /// The median of a key's rounds; `None` when it was not measured.
    #[must_use]
    pub fn median(&self, key: &str) -> Option<f64> {
        let mut values = self.raw.get(key)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            length if length % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// Peers that are missing, with the reasons.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.missing_because.iter().map(|(peer, why)| (peer.as_str(), why.as_str()))
    }

    /// One flat object of figures, and under `raw` their values.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.raw.keys().filter_map(|key| Some((key.clone(), number(self.median(key)?)))).collect();
        object.insert("peers_missing".to_owned(), Value::from(self.peers_missing));
        if !self.missing_because.is_empty() {
            let reasons =
                self.missing_because.iter().map(|(peer, why)| (peer.clone(), Value::from(why.clone())));
            object.insert("peers_missing_because".to_owned(), Value::Object(reasons.collect()));
        }
        let rounds = |values: &Vec<f64>| Value::Array(values.iter().map(|value| number(*value)).collect());
        let raw = self.raw.iter().map(|(key, values)| (key.clone(), rounds(values))).collect();
        object.insert("raw".to_owned(), Value::Object(raw));
        Value::Object(object)
    }

    /// The figures as lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for key in self.raw.keys() {
            if let Some(median) = self.median(key) {
                text += &format!("{key:28} {}\n", number(median));
            }
        }
        text += &format!("{:28} {}\n", "peers_missing", self.peers_missing);
        for (peer, why) in &self.missing_because {
            text += &format!("{:28} {peer}: {why}\n", "");
        }
        text
    }
}

/// Whole figures print without a fraction, others with four digits of it.
fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let rounded = (value * 10_000.0).round() / 10_000.0;
    if rounded.fract() == 0.0 && rounded.abs() < EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number that fits")]
        return Value::from(rounded as i64);
    }
    Number::from_f64(rounded).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_rounds() {
        let mut figures = Figures::default();
        for value in [3.0, 1.0, 2.25] {
            figures.add("odd", value);
        }
        figures.add("even", 1.0);
        figures.add("even", 2.0);
        figures.add("count", 100.0);
        figures.peer_is_missing();
        let expected = serde_json::json!({
            "odd": 2.25, "even": 1.5, "count": 100, "peers_missing": 1,
            "raw": { "odd": [3, 1, 2.25], "even": [1, 2], "count": [100] },
        });
        assert_eq!(figures.to_json(), expected);
        figures.peer_is_missing_because("a peer", "it is not served");
        figures.peer_is_missing_because("a peer", "it is not served");
        assert_eq!(figures.to_json()["peers_missing"], 2);
        assert_eq!(figures.to_json()["peers_missing_because"]["a peer"], "it is not served");
    }
}
