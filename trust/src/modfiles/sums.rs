//! `go.sum`: the hash that each module must have.

use std::collections::HashMap;

use meridian_core::golang::h1::H1;

use crate::statement::ModuleVersion;

/// The hashes that a source's `go.sum` files demand.
#[derive(Debug, Clone, Default)]
pub struct GoSums(HashMap<(String, String), Vec<H1>>);

impl GoSums {
    /// Adds a file: lines of `MODULE VERSION HASH`; those for a `go.mod` alone say nothing of what is linked. Whatever is
    /// no such line is passed over, as cmd/go has judged the file already.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(path), Some(version), Some(hash), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let Ok(hash) = hash.parse()
                && !version.ends_with("/go.mod")
            {
                self.0.entry((path.to_owned(), version.to_owned())).or_default().push(hash);
            }
        }
    }

    /// The hashes that a module may have; cmd/go takes any of several.
    pub(super) fn of(&self, module: &ModuleVersion) -> &[H1] {
        self.0.get(&(module.path.clone(), module.version.clone())).map_or(&[], Vec::as_slice)
    }
}
