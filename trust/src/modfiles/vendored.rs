//! `vendor/modules.txt`: which modules lie in the tree as copies.

use std::collections::BTreeSet;

/// The modules that a tree has vendored: path, version, and what replaces it (a module's path or a directory).
#[derive(Debug, Clone, Default)]
pub(super) struct Vendored(BTreeSet<(String, String, Option<String>)>);

impl Vendored {
    /// Adds a file: a line `# PATH VERSION [=> BY [VERSION]]` a module.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let entry = match words.as_slice() {
                ["#", path, version] => (path, version, None),
                ["#", path, version, "=>", by] | ["#", path, version, "=>", by, _] => {
                    (path, version, Some(by))
                }
                _ => continue,
            };
            let (path, version, by) = entry;
            self.0.insert(((*path).to_owned(), (*version).to_owned(), by.map(|by| (*by).to_owned())));
        }
    }

    /// Whether a module lies here; `by` is empty for one that nothing replaces.
    pub(super) fn holds(&self, path: &str, version: &str, by: &str) -> bool {
        let by = (!by.is_empty()).then(|| by.to_owned());
        self.0.contains(&(path.to_owned(), version.to_owned(), by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cmd_go_writes_is_read_and_the_list_of_wildcards_is_not_taken_for_modules() {
        let mut vendored = Vendored::default();
        vendored.add(
            "# example.test/local v0.0.0 => ../local\n## explicit; go 1.22\nexample.test/local\n# rsc.io/quote v1.5.2\n\
             ## explicit\nrsc.io/quote\n# rsc.io/sampler v1.3.0 => rsc.io/fork v1.3.1\n# example.test/all => ../all\n",
        );
        assert!(vendored.holds("rsc.io/quote", "v1.5.2", ""));
        assert!(vendored.holds("example.test/local", "v0.0.0", "../local"));
        assert!(vendored.holds("rsc.io/sampler", "v1.3.0", "rsc.io/fork"));
        for (path, version, by) in [
            ("rsc.io/quote", "v1.5.1", ""),
            ("rsc.io/quote", "v1.5.2", "../quote"),
            ("rsc.io/sampler", "v1.3.0", ""),
            ("example.test/all", "=>", ""),
        ] {
            assert!(!vendored.holds(path, version, by), "{path} {version} {by}");
        }
    }
}
