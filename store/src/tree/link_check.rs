//! Whether every symbolic link of a tree stays inside it, also when it leads through other links.

use std::collections::HashMap;

use super::tree_error::TreeError;

/// Links followed on one way before it counts as a loop. Linux follows 40.
const FOLLOW_MAX: usize = 40;

/// The links of a whole tree, by their path in it.
#[derive(Debug, Default)]
pub(super) struct Links {
    targets: HashMap<String, String>,
}

impl Links {
    pub(super) fn insert(&mut self, path: String, target: String) {
        self.targets.insert(path, target);
    }

    /// Follows every link. One that leads to nothing is allowed as long as it leads to nothing *inside*.
    pub(super) fn check(&self) -> Result<(), TreeError> {
        self.targets.iter().try_for_each(|(path, target)| {
            self.follow(path, target).map_err(|why| TreeError::Link {
                path: path.clone(),
                target: target.clone(),
                why,
            })
        })
    }

    fn follow(&self, path: &str, target: &str) -> Result<(), &'static str> {
        let mut here: Vec<&str> = path.split('/').collect();
        here.pop();
        // Still to walk, the next step last.
        let mut steps: Vec<&str> = target.split('/').rev().collect();
        let mut followed = 1;
        while let Some(step) = steps.pop() {
            match step {
                "" | "." => {}
                ".." => {
                    here.pop().ok_or("leads out of the tree")?;
                }
                name => {
                    here.push(name);
                    // A step through a link continues from where the link is.
                    if let Some(target) = self.targets.get(&here.join("/")) {
                        followed += 1;
                        if followed > FOLLOW_MAX || steps.len() > 4096 {
                            return Err("loops");
                        }
                        if target.starts_with('/') {
                            return Err("leads out of the tree");
                        }
                        here.pop();
                        steps.extend(target.split('/').rev());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(links: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut all = Links::default();
        links.iter().for_each(|(path, target)| all.insert((*path).to_owned(), (*target).to_owned()));
        match all.check() {
            Err(TreeError::Link { why, .. }) => Err(why),
            Err(error) => panic!("{error}"),
            Ok(()) => Ok(()),
        }
    }

    #[test]
    fn links_may_lead_anywhere_inside() {
        assert_eq!(check(&[("a/b/link", "../../c"), ("x", "nothing/there"), ("y", "./a/b/link")]), Ok(()));
    }

    #[test]
    fn no_link_leads_out_even_through_another() {
        let out = Err("leads out of the tree");
        assert_eq!(check(&[("link", "..")]), out);
        assert_eq!(check(&[("a/link", "../../etc")]), out);
        assert_eq!(check(&[("a/b/c/up", "../.."), ("a/b/c/out", "up/../../x")]), out);
        assert_eq!(check(&[("deep", "a/b"), ("a/out", "../deep/../../../x")]), out);
    }

    #[test]
    fn links_that_loop_are_refused() {
        assert_eq!(check(&[("a", "a")]), Err("loops"));
        assert_eq!(check(&[("a", "b/x"), ("b", "a/x")]), Err("loops"));
        assert_eq!(check(&[("d/a", "./a/a/a")]), Err("loops"));
    }
}
