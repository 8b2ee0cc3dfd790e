//! What a plan must keep to before anything is built for it.

use std::collections::BTreeMap;

use crate::{
    goreleaser::plan::{Maker, Part, Plan, PlannedArchive, Subject},
    release::{
        checksums::ALGORITHMS,
        contents,
        manifest::{ARTIFACTS, METADATA},
        out::SIGNED,
    },
    trouble::Trouble,
};

/// Checks that each asset has a name of its own, and that everything that is asked for can be made.
///
/// # Errors
/// Every finding at once.
pub fn check(plan: &Plan) -> Result<(), Trouble> {
    let mut found = Vec::new();
    names(plan, &mut found);
    found.extend(
        plan.archives
            .iter()
            .filter_map(|archive| contents::check(archive).err())
            .map(|error| error.to_string()),
    );
    if let Some(source) = &plan.source {
        let climbs = source.prefix.starts_with('/') || source.prefix.split('/').any(|step| step == "..");
        if climbs || source.prefix.contains(|c: char| c == '\\' || c.is_control()) {
            found.push(format!(
                "source.prefix_template: {:?} would leave the directory the archive is unpacked in",
                source.prefix
            ));
        }
    }
    for checksums in &plan.checksums {
        if !ALGORITHMS.contains(&checksums.algorithm.as_str()) {
            let known = ALGORITHMS.join(", ");
            found.push(format!(
                "checksum.algorithm: {:?} is not made; it can be {known}",
                checksums.algorithm
            ));
        }
    }
    for signature in &plan.signatures {
        if signature.maker == Maker::Fleet && !is_built(plan, &signature.subject) {
            let name = &signature.name;
            found.push(format!(
                "signature {name:?}: it is of a universal binary, which no agent built and so nothing in the fleet signs; \
                 leave its ids out"
            ));
        }
    }
    found.sort();
    found.dedup();
    match found.len() {
        0 => Ok(()),
        1 => Err(Trouble::usage(&found[0])),
        count => Err(Trouble::usage(format_args!("{count} mistakes:\n  {}", found.join("\n  ")))),
    }
}

/// Whether an agent built what a signature is of.
fn is_built(plan: &Plan, subject: &Subject) -> bool {
    part_of(plan, subject).is_some_and(|part| matches!(part, Part::Build(_)))
}

/// The executable that a subject is.
#[must_use]
pub fn part_of(plan: &Plan, subject: &Subject) -> Option<Part> {
    match subject {
        Subject::Part(part) => Some(*part),
        Subject::Asset(name) => {
            let uploaded = |archive: &&PlannedArchive| archive.format == "binary" && archive.name == *name;
            plan.archives.iter().find(uploaded)?.binaries.first().map(|(part, _)| *part)
        }
        Subject::Project => None,
    }
}

fn names(plan: &Plan, found: &mut Vec<String>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in plan.assets() {
        *counts.entry(name).or_default() += 1;
    }
    for (name, count) in counts {
        if count > 1 {
            found.push(format!(
                "{count} assets are called {name:?}; their name templates must tell them apart"
            ));
        }
        let first = name.split('/').next().unwrap_or(name);
        if [ARTIFACTS, METADATA, SIGNED].contains(&first) {
            found.push(format!("no asset can be called {name:?}: a release keeps {first} itself"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::goreleaser::plan::{PlannedChecksums, PlannedDocument, PlannedSignature, PlannedSource};

    use super::*;

    fn archive(name: &str, part: Part) -> PlannedArchive {
        PlannedArchive {
            id: "default".to_owned(),
            name: name.to_owned(),
            format: "binary".to_owned(),
            binaries: vec![(part, name.to_owned())],
            wrap_in: String::new(),
            files: Vec::new(),
        }
    }

    #[test]
    fn two_assets_of_one_name_are_refused() {
        let document = PlannedDocument { name: "tool".to_owned(), subject: Subject::Part(Part::Build(0)) };
        let plan = Plan {
            archives: vec![archive("tool", Part::Build(0)), archive("other", Part::Build(1))],
            documents: vec![document],
            ..Plan::default()
        };
        let told = check(&plan).unwrap_err().message;
        assert_eq!(told, "2 assets are called \"tool\"; their name templates must tell them apart");
        assert!(check(&Plan { documents: Vec::new(), ..plan }).is_ok());
    }

    #[test]
    fn what_cannot_be_made_is_refused_before_anything_is_built() {
        let checksums = PlannedChecksums {
            name: "signed/x".to_owned(),
            algorithm: "blake3".to_owned(),
            assets: Vec::new(),
            is_split: false,
        };
        let signature = PlannedSignature {
            name: "u.sig".to_owned(),
            certificate: None,
            subject: Subject::Asset("u".to_owned()),
            maker: Maker::Fleet,
        };
        let source = PlannedSource {
            name: "src.tar".to_owned(),
            format: "tar".to_owned(),
            prefix: "a/../../b/".to_owned(),
        };
        let plan = Plan {
            source: Some(source),
            archives: vec![archive("u", Part::Universal(0))],
            checksums: vec![checksums],
            signatures: vec![signature],
            ..Plan::default()
        };
        let told = check(&plan).unwrap_err().message;
        for part in [
            "4 mistakes",
            "source.prefix_template",
            "\"blake3\" is not made",
            "a release keeps signed itself",
            "universal binary",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
