//! The value of GOPROXY.

use std::{fmt, path::PathBuf, str::FromStr};

/// GOPROXY, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyList {
    text: String,
    entries: Vec<(ProxyEntry, bool)>,
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyEntry {
    /// A module proxy, without a slash at its end.
    Url(String),
    /// A proxy's files in a directory.
    Directory(PathBuf),
    /// The module's own repository.
    Direct,
    /// Nowhere.
    Off,
}

/// A part of the list that is asked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRound {
    /// The part, as a GOPROXY of its own.
    pub list: String,
    /// Whether this only adds the modules' own repositories to the round before, and is asked only when that one
    /// said "not found".
    pub is_last_resort: bool,
}

/// Why a text is not a GOPROXY.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProxyError {
    /// It named no place at all.
    #[error("GOPROXY list is empty")]
    Empty,
    /// An entry is none of the four kinds.
    #[error("GOPROXY entry {0:?} is not an http, https or file URL, nor `direct` or `off`")]
    Entry(String),
}

impl ProxyList {
    /// Each place, with whether *any* failure there passes on to the next one (`|`). Otherwise (`,`) only
    /// "not found" does.
    pub fn entries(&self) -> impl Iterator<Item = (&ProxyEntry, bool)> {
        self.entries.iter().map(|(entry, any)| (entry, *any))
    }

    /// The lists to ask one after the other about a package whose module is not known: a place has the package
    /// or fails to tell only when all paths that could be its module were asked there, while Go's commands pass
    /// on from place to place by the single path. So the list is cut where any failure passes on (`|`), and
    /// before `direct`.
    #[must_use]
    pub fn rounds(&self) -> Vec<ProxyRound> {
        let mut rounds = Vec::new();
        for part in self.text.split('|').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split(',').map(str::trim);
            let ends_here = words.any(|word| word == "direct" || word == "off");
            let proxies = part.rsplit_once(',').filter(|(_, last)| last.trim() == "direct");
            if let Some((proxies, _)) = proxies {
                rounds.push(ProxyRound { list: proxies.to_owned(), is_last_resort: false });
            }
            rounds.push(ProxyRound { list: part.to_owned(), is_last_resort: proxies.is_some() });
            if ends_here {
                break;
            }
        }
        rounds
    }

    /// The places as people may see them: without user names and passwords.
    #[must_use]
    pub fn shown(&self) -> String {
        let places: Vec<_> = self.entries.iter().map(|(entry, _)| entry.shown()).collect();
        places.join(",")
    }
}

impl ProxyEntry {
    /// The place as people may see it: without a user name and password.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Url(url) => without_user(url),
            Self::Directory(path) => format!("file://{}", path.display()),
            Self::Direct => "direct".into(),
            Self::Off => "off".into(),
        }
    }
}

/// `url` without the user name and password before its host.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

impl FromStr for ProxyList {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let mut entries = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find([',', '|']).unwrap_or(rest.len());
            let any = rest[end..].starts_with('|');
            let word = rest[..end].trim();
            if !word.is_empty() {
                entries.push((parse_entry(word)?, any));
            }
            rest = rest.get(end + 1..).unwrap_or("");
            // As in cmd/go, nothing after these two is used.
            if matches!(word, "direct" | "off") {
                break;
            }
        }
        if entries.is_empty() {
            return Err(ParseProxyError::Empty);
        }
        Ok(Self { text: text.to_owned(), entries })
    }
}

impl fmt::Display for ProxyList {
    /// The list as it was given, with passwords: for cmd/go's environment, not for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_entry(word: &str) -> Result<ProxyEntry, ParseProxyError> {
    match word {
        "direct" => return Ok(ProxyEntry::Direct),
        "off" => return Ok(ProxyEntry::Off),
        _ => {}
    }
    if let Some(path) = word.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        return Ok(ProxyEntry::Directory(path.into()));
    }
    // A bare host means https, as in cmd/go.
    let url = match word.split_once("://") {
        Some(("http" | "https", _)) => word.to_owned(),
        None if !word.starts_with('/') && word.contains('.') => format!("https://{word}"),
        _ => return Err(ParseProxyError::Entry(without_user(word))),
    };
    match reqwest::Url::parse(&url) {
        Ok(parsed) if parsed.has_host() => Ok(ProxyEntry::Url(url.trim_end_matches('/').to_owned())),
        _ => Err(ParseProxyError::Entry(without_user(word))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_say_what_passes_on_and_nothing_follows_direct() {
        let list: ProxyList = "http://a.test/x/|b.test,file:///srv,direct,http://never.test".parse().unwrap();
        let entries: Vec<_> = list.entries().map(|(entry, any)| (entry.shown(), any)).collect();
        assert_eq!(
            entries,
            [
                ("http://a.test/x".to_owned(), true),
                ("https://b.test".to_owned(), false),
                ("file:///srv".to_owned(), false),
                ("direct".to_owned(), false),
            ]
        );
    }

    #[test]
    fn the_list_is_asked_in_rounds_that_end_where_any_failure_passes_on() {
        let rounds = |text: &str| -> Vec<_> {
            let rounds = text.parse::<ProxyList>().unwrap().rounds();
            rounds.into_iter().map(|round| (round.list, round.is_last_resort)).collect()
        };
        let round = |list: &str| (list.to_owned(), false);
        let last_resort = |list: &str| (list.to_owned(), true);
        assert_eq!(rounds("http://a.test"), [round("http://a.test")]);
        assert_eq!(rounds("direct"), [round("direct")]);
        assert_eq!(rounds("http://a.test,http://b.test"), [round("http://a.test,http://b.test")]);
        assert_eq!(
            rounds("http://a.test,http://b.test|direct|http://never.test"),
            [round("http://a.test,http://b.test"), round("direct")]
        );
        assert_eq!(
            rounds("http://a.test|http://b.test,direct"),
            [round("http://a.test"), round("http://b.test"), last_resort("http://b.test,direct")]
        );
        assert_eq!(rounds("http://a.test,off|http://never.test"), [round("http://a.test,off")]);
    }

    #[test]
    fn a_password_is_never_shown() {
        let list: ProxyList = "https://u:secret@a.test/x".parse().unwrap();
        assert_eq!(list.shown(), "https://a.test/x");
        let error = "ftp://u:secret@a.test".parse::<ProxyList>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", ",", "nonsense", "ftp://a.test", "file://relative", "http://"] {
            assert!(text.parse::<ProxyList>().is_err(), "{text:?}");
        }
    }
}
