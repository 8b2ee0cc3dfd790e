//! What a verifier asks for beyond a valid signature: a small TOML file.
//!
//! ```toml
//! fleet = "acme"
//! grade = "production"
//! builders = ["spiffe://acme/agent/*"]
//! sources = ["https://git.example.org/acme/*", "golang.org/x/tools/cmd/stringer"]
//! projects = ["acme/*"]
//! requesters = ["spiffe://acme/team/web/member/ci"]
//! sandbox = ["network", "seccomp"]
//! keyring_max_age = "30d"
//! require = ["message-bundle", "sbom"]
//! ```
//!
//! `sandbox = "required"` asks for one of any kind, and for none of its features.
//!
//! Every key is optional. `builders`, `sources`, `projects` and `requesters` allow what they name and nothing else; `sandbox` and
//! `require` name what must be there at least. A misspelt key would
//! silently ask for less, so an unknown one is a mistake, and all mistakes are told at once.

use std::{collections::BTreeSet, fmt, str::FromStr};

use meridian_core::{golang::nearness, id::FleetName, quantity::Millis};
use toml::{Spanned, de::DeTable, de::DeValue};

use super::CheckName;
use crate::keyring::Grade;

/// What a verifier asks for. The default asks for nothing beyond a valid signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Only this fleet.
    pub fleet: Option<FleetName>,
    /// At least this grade.
    pub grade: Option<Grade>,
    /// Only these builders, by SPIFFE id.
    pub builders: Option<Vec<Pattern>>,
    /// Only these sources: a package's import path, or a repository's address.
    pub sources: Option<Vec<Pattern>>,
    /// Only these projects, as `TEAM/PROJECT`.
    pub projects: Option<Vec<Pattern>>,
    /// Only what these asked for, by SPIFFE id: whose word a source's origin, a version and stamps are.
    pub requesters: Option<Vec<Pattern>>,
    /// What the sandbox must have confined, at least: features as the provenance names them. An empty list asks for
    /// a sandbox of any kind.
    pub sandbox: Option<Vec<Feature>>,
    /// How old the keyring may be by which keys are judged: an older one may not know of a revocation.
    pub keyring_max_age: Option<Millis>,
    /// Checks that must have been made and passed, beyond those that always must.
    pub require: BTreeSet<CheckName>,
}

/// A text, or everything below a path: `acme/*` matches `acme/web` and `acme/web/x`, not `acme` and not
/// `acmeville/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    below: bool,
}

/// Something that a sandbox confines, such as `network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature(String);

/// One mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PolicyMistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub what: String,
}

/// Every mistake in a policy, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(pub Vec<PolicyMistake>);

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

const KEYS: [&str; 9] = [
    "fleet",
    "grade",
    "builders",
    "sources",
    "projects",
    "requesters",
    "sandbox",
    "keyring_max_age",
    "require",
];
const POLICY_LEN_MAX: usize = 1 << 20;

impl Pattern {
    /// Whether the text is meant.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match text.strip_prefix(&self.text) {
            Some(rest) if self.below => rest.len() > 1 && rest.starts_with('/'),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let below = text.ends_with("/*");
        let text = text.strip_suffix("/*").unwrap_or(text);
        if text.is_empty() || text.contains('*') || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err("a pattern is a text without blanks, and may end in /* for everything below it");
        }
        Ok(Self { text: text.to_owned(), below })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.below { "/*" } else { "" })
    }
}

impl Feature {
    /// As the provenance names it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Feature {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > 63 || !text.bytes().all(is_word) {
            return Err("a feature of a sandbox is a word such as network, in small letters");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Policy {
    /// Whether it allows sources by a repository's address without saying whose word that is. A package's import
    /// path begins with a host as well, but has no scheme.
    #[must_use]
    pub fn believes_any_requester(&self) -> bool {
        let is_address = |pattern: &Pattern| pattern.text.contains(':') && !pattern.text.starts_with("tree:");
        self.requesters.is_none() && self.sources.iter().flatten().any(is_address)
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut reader = Reader { text, mistakes: Vec::new() };
        let mut policy = Self::default();
        if text.len() > POLICY_LEN_MAX {
            reader.mistake(0, format!("a policy has at most {POLICY_LEN_MAX} bytes"));
            return Err(PolicyError(reader.mistakes));
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.mistake(error.span().map_or(0, |span| span.start), error.message().to_owned());
        }
        for (key, value) in table.get_ref().iter() {
            policy.read(key, value, &mut reader);
        }
        reader.mistakes.sort_by_key(|mistake| mistake.line);
        if reader.mistakes.is_empty() { Ok(policy) } else { Err(PolicyError(reader.mistakes)) }
    }

    fn read(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        reader: &mut Reader<'_>,
    ) {
        match key.get_ref().as_ref() {
            "fleet" => self.fleet = reader.text("fleet", value),
            "grade" => self.grade = reader.text("grade", value).map(|GradeText(grade)| grade),
            "builders" => self.builders = Some(reader.list("builders", value)),
            "sources" => self.sources = Some(reader.list("sources", value)),
            "projects" => self.projects = Some(reader.list("projects", value)),
            "requesters" => self.requesters = Some(reader.list("requesters", value)),
            "sandbox" => self.sandbox = Some(reader.sandbox(value)),
            "keyring_max_age" => {
                let age: Option<AgeText> = reader.text("keyring_max_age", value);
                self.keyring_max_age = age.map(|AgeText(age)| age);
            }
            "require" => {
                let names: Vec<CheckText> = reader.list("require", value);
                self.require = names.into_iter().map(|CheckText(name)| name).collect();
            }
            other => {
                let short: String = other.chars().take(40).collect();
                let meant = nearness::nearest(&short, &KEYS, 1);
                let advice = meant.first().map_or_else(
                    || format!("known are {}", KEYS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                reader.mistake(key.span().start, format!("unknown key {short:?}: {advice}"));
            }
        }
    }
}

/// Collects mistakes with their lines.
struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<PolicyMistake>,
}

impl Reader<'_> {
    fn mistake(&mut self, at: usize, what: String) {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        self.mistakes.push(PolicyMistake { line, what });
    }

    fn text<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let DeValue::String(text) = value.get_ref() else {
            self.mistake(value.span().start, format!("{key}: expected a text in quotes"));
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.mistake(value.span().start, format!("{key}: {error}"));
                None
            }
        }
    }

    fn sandbox(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Feature> {
        match value.get_ref() {
            DeValue::String(text) if text == "required" => Vec::new(),
            DeValue::Array(_) => self.list("sandbox", value),
            _ => {
                let expected = "sandbox: expected \"required\", or a list of what it must confine";
                self.mistake(value.span().start, expected.to_owned());
                Vec::new()
            }
        }
    }

    fn list<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<T> {
        let DeValue::Array(items) = value.get_ref() else {
            self.mistake(value.span().start, format!("{key}: expected a list of texts"));
            return Vec::new();
        };
        if items.is_empty() {
            self.mistake(value.span().start, format!("{key}: an empty list says nothing; leave the key out"));
        }
        items.iter().filter_map(|item| self.text(key, item)).collect()
    }
}

struct GradeText(Grade);

impl FromStr for GradeText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let grades = [Grade::Dev, Grade::Production];
        let grade = grades.into_iter().find(|grade| grade.to_string() == text);
        grade.map(Self).ok_or_else(|| format!("{:?} is not dev or production", brief(text)))
    }
}

/// A whole number and its unit.
struct AgeText(Millis);

impl FromStr for AgeText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{:?} is not an age such as 12h or 30d", brief(text));
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit_ms: u64 = match &text[digits.len()..] {
            "m" => Millis::minutes(1).0,
            "h" => Millis::minutes(60).0,
            "d" => Millis::days(1).0,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let age = count.checked_mul(unit_ms).filter(|age| *age > 0).ok_or_else(wrong)?;
        Ok(Self(Millis(age)))
    }
}

struct CheckText(CheckName);

impl FromStr for CheckText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = CheckName::ALL.map(CheckName::as_str).join(", ");
        text.parse().map(Self).map_err(|error| format!("{:?}: {error}; there are {names}", brief(text)))
    }
}

fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let policy = Policy::parse(
            r#"
            fleet = "acme"
            grade = "production"
            builders = ["spiffe://acme/agent/*"]
            sources = ["https://git.example.org/acme/*", "golang.org/x/tools/cmd/stringer"]
            projects = ["acme/web"]
            requesters = ["spiffe://acme/team/web/*"]
            sandbox = ["network"]
            keyring_max_age = "30d"
            require = ["message-bundle", "public-key"]
            "#,
        )
        .unwrap();
        assert_eq!(policy.fleet.unwrap().as_str(), "acme");
        assert_eq!(policy.grade, Some(Grade::Production));
        assert_eq!(policy.builders.unwrap()[0].to_string(), "spiffe://acme/agent/*");
        assert_eq!(policy.sources.unwrap()[1].to_string(), "golang.org/x/tools/cmd/stringer");
        assert_eq!(policy.projects.unwrap().len(), 1);
        assert_eq!(policy.requesters.unwrap()[0].to_string(), "spiffe://acme/team/web/*");
        assert_eq!(policy.sandbox.unwrap()[0].as_str(), "network");
        assert_eq!(policy.keyring_max_age, Some(Millis::days(30)));
        assert_eq!(policy.require, BTreeSet::from([CheckName::MessageBundle, CheckName::PublicKey]));
        assert_eq!(Policy::parse(""), Ok(Policy::default()));
    }

    #[test]
    fn a_repository_without_a_requester_is_believed_of_anybody() {
        for (text, is_so) in [
            (r#"sources = ["https://git.example.org/acme/*"]"#, true),
            (r#"sources = ["golang.org/x/tools/*", "git@git.example.org:acme/web"]"#, true),
            (r#"sources = ["golang.org/x/tools/cmd/stringer", "tree:sha256:00"]"#, false),
            ("sources = [\"https://a.test/*\"]\nrequesters = [\"spiffe://acme/admin\"]", false),
            (r#"builders = ["spiffe://acme/agent/*"]"#, false),
        ] {
            assert_eq!(Policy::parse(text).unwrap().believes_any_requester(), is_so, "{text}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line() {
        let error = Policy::parse(
            "fleet = 1\ngrade = \"prod\"\nbuilder = []\nsources = \"x\"\nprojects = [\"a*b\", 7]\n\
             require = [\"signatures\"]\nbuilders = []\n\n[section]\n",
        )
        .unwrap_err();
        let told = error.to_string();
        let lines: Vec<_> = told.lines().collect();
        let expected = [
            "line 1: fleet: expected a text",
            "line 2: grade: \"prod\" is not dev or production",
            "line 3: unknown key \"builder\": did you mean builders?",
            "line 4: sources: expected a list",
            "line 5: projects: a pattern is",
            "line 5: projects: expected a text",
            "line 6: require: \"signatures\": no such check; there are keyring,",
            "line 7: builders: an empty list says nothing",
            "line 9: unknown key \"section\": ",
        ];
        assert_eq!(lines.len(), expected.len(), "{told}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}\n{start}");
        }
    }

    #[test]
    fn an_age_has_a_unit_and_a_sandbox_s_feature_is_a_word() {
        for (text, ms) in [("90m", 5_400_000), ("12h", 43_200_000), ("1d", 86_400_000)] {
            let policy = Policy::parse(&format!("keyring_max_age = {text:?}")).unwrap();
            assert_eq!(policy.keyring_max_age, Some(Millis(ms)), "{text}");
        }
        for bad in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "1.5h",
            "1 d",
            "1w",
            "١d",
            "99999999999999999999d",
            "9999999999999999d",
        ] {
            let told = Policy::parse(&format!("keyring_max_age = {bad:?}")).unwrap_err().to_string();
            assert!(told.contains("is not an age such as 12h or 30d"), "{bad}: {told}");
        }
        for bad in ["", "Network", "a b", "*"] {
            let told = Policy::parse(&format!("sandbox = [{bad:?}]")).unwrap_err().to_string();
            assert!(told.contains("a feature of a sandbox is a word"), "{bad}: {told}");
        }
        let any_kind = Policy::parse("sandbox = \"required\"").unwrap();
        assert_eq!(any_kind.sandbox, Some(Vec::new()));
        let told = Policy::parse("sandbox = \"vm\"").unwrap_err().to_string();
        assert!(told.contains("expected \"required\", or a list"), "{told}");
    }

    #[test]
    fn what_is_no_toml_is_a_mistake_too() {
        for text in ["fleet", "fleet = \"a\"\nfleet = \"b\"", "= 1", "grade = \"dev"] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
        assert!(Policy::parse(&" ".repeat(POLICY_LEN_MAX + 1)).is_err());
    }

    #[test]
    fn a_pattern_matches_itself_or_what_lies_below_it() {
        for (pattern, text, matches) in [
            ("acme/web", "acme/web", true),
            ("acme/web", "acme/web2", false),
            ("acme/web", "acme/web/x", false),
            ("acme/*", "acme/web", true),
            ("acme/*", "acme/web/x", true),
            ("acme/*", "acme", false),
            ("acme/*", "acme/", false),
            ("acme/*", "acmeville/web", false),
            ("acme/*", "evil/acme/web", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), matches, "{pattern} {text}");
        }
        for bad in ["", "*", "/*", "a*", "a/*/b", "a b", "a/**"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
