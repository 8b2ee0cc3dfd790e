use super::*;
use crate::executable::Module;
use meridian_core::golang::h1::H1;

fn h1(seed: u8) -> H1 {
    H1::of_go_mod(&[seed])
}

fn module(path: &str, version: &str) -> ModuleVersion {
    ModuleVersion { path: path.to_owned(), version: version.to_owned() }
}

fn own(path: &str, version: &str, seed: u8) -> ModuleUsed {
    ModuleUsed { module: module(path, version), content: ModuleContent::Own(h1(seed)) }
}

fn from_tree(path: &str, version: &str, directory: &str) -> ModuleUsed {
    let content = ModuleContent::Tree { directory: directory.to_owned() };
    ModuleUsed { module: module(path, version), content }
}

fn replaced(path: &str, version: &str, by: ModuleVersion, seed: u8) -> ModuleUsed {
    ModuleUsed { module: module(path, version), content: ModuleContent::Replaced { by, h1: h1(seed) } }
}

fn source(files: &[(&str, &str)], work_dir: &str, workspace: bool) -> SourceModules {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    let files: BTreeMap<String, String> = files.collect();
    assert!(files.keys().all(|path| is_wanted(path)), "{files:?}");
    SourceModules::read(&files, work_dir, workspace)
}

fn sum_line(path: &str, version: &str, seed: u8) -> String {
    format!("{path} {version} {}\n{path} {version}/go.mod h1:x=\n", h1(seed))
}

/// A module with one requirement, a fork in place of another, and a directory in place of a third.
fn alone() -> SourceModules {
    let go_mod = "module a.test/app\nreplace a.test/old => b.test/fork v1.2.0\n\
                  replace a.test/near v0.0.0 => ../near\nreplace a.test/far => ../../far\nreplace a.test/host => /opt/host\n";
    let sums = [sum_line("a.test/dep", "v1.0.0", 1), sum_line("b.test/fork", "v1.2.0", 2)].concat();
    source(
        &[
            ("app/go.mod", go_mod),
            ("app/go.sum", &sums),
            ("near/go.mod", "module near.test/near\n"),
            ("go.sum", &sum_line("a.test/above", "v1.0.0", 7)),
        ],
        "app",
        false,
    )
}

#[track_caller]
fn check_refused(source: &SourceModules, used: &ModuleUsed, words: &[&str]) {
    let told = source.check(std::slice::from_ref(used)).unwrap_err().to_string();
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
}

#[test]
fn every_module_from_a_zip_needs_the_hash_that_go_sum_demands() {
    let source = alone();
    assert_eq!(source.check(&[own("a.test/dep", "v1.0.0", 1)]), Ok(()));
    check_refused(&source, &own("a.test/dep", "v1.0.0", 9), &["a.test/dep@v1.0.0", &h1(1).to_string()]);
    check_refused(&source, &own("a.test/dep", "v1.0.1", 1), &["a.test/dep@v1.0.1", "nothing of it"]);
    // The go.sum of a directory above is another module's.
    check_refused(&source, &own("a.test/above", "v1.0.0", 7), &["nothing of it"]);
}

#[test]
fn a_replacement_counts_only_as_the_source_makes_it() {
    let source = alone();
    let fork = || module("b.test/fork", "v1.2.0");
    assert_eq!(source.check(&[replaced("a.test/old", "v1.0.0", fork(), 2)]), Ok(()));
    check_refused(&source, &replaced("a.test/old", "v1.0.0", fork(), 9), &["b.test/fork@v1.2.0"]);
    check_refused(&source, &replaced("a.test/dep", "v1.0.0", fork(), 2), &["does not say so"]);
    let evil = module("a.test/dep", "v1.0.0");
    check_refused(&source, &replaced("a.test/old", "v1.0.0", evil, 1), &["does not say so"]);
}

#[test]
fn a_module_without_a_hash_must_lie_in_the_tree() {
    let source = alone();
    assert_eq!(source.check(&[from_tree("a.test/near", "v0.0.0", "../near")]), Ok(()));
    for (path, version, directory) in [
        // A hash that was left out of the executable is not one that need not be there.
        ("a.test/dep", "v1.0.0", ""),
        ("a.test/dep", DEVEL, ""),
        ("a.test/near", "v0.0.0", "../other"),
        ("a.test/near", "v0.1.0", "../near"),
        ("a.test/dep", "v1.0.0", "../near"),
        // Outside of the tree lies what only the agent has.
        ("a.test/far", "v1.0.0", "../../far"),
        ("a.test/host", "v1.0.0", "/opt/host"),
    ] {
        check_refused(&source, &from_tree(path, version, directory), &[path, "does not hold it"]);
    }
}

#[test]
fn the_modules_of_a_workspace_need_no_hash_and_its_sums_count_together() {
    let files = |work: &str| {
        let text = source(
            &[
                ("go.work", work),
                ("go.work.sum", &sum_line("a.test/three", "v1.0.0", 3)),
                ("one/go.mod", "module a.test/one\nreplace a.test/x => ./x\n"),
                ("one/go.sum", &sum_line("a.test/dep", "v1.0.0", 1)),
                ("one/x/go.mod", "module a.test/x\n"),
                ("two/go.mod", "module a.test/two\n"),
                ("two/go.sum", &sum_line("a.test/two-only", "v1.0.0", 2)),
                ("stray/go.mod", "module a.test/stray\n"),
                ("stray/go.sum", &sum_line("a.test/stray-only", "v1.0.0", 4)),
            ],
            "one",
            true,
        );
        text
    };
    let source = files("go 1.27\nuse (\n\t./one\n\t./two\n)\n");
    let good = [
        own("a.test/dep", "v1.0.0", 1),
        own("a.test/two-only", "v1.0.0", 2),
        own("a.test/three", "v1.0.0", 3),
        from_tree("a.test/two", DEVEL, ""),
        // cmd/go writes a member's directories as the go.work would.
        from_tree("a.test/x", "v0.0.0", "./one/x"),
    ];
    assert_eq!(source.check(&good), Ok(()));
    check_refused(&source, &own("a.test/stray-only", "v1.0.0", 4), &["nothing of it"]);
    check_refused(&source, &from_tree("a.test/stray", DEVEL, ""), &["does not hold it"]);
    check_refused(&source, &from_tree("a.test/two", "v1.0.0", ""), &["does not hold it"]);
}

#[test]
fn vendored_modules_have_no_hash_and_must_be_listed() {
    let modules = "# a.test/dep v1.0.0\n## explicit\na.test/dep\n# a.test/old v1.0.0 => b.test/fork v1.2.0\n";
    let source = source(&[("go.mod", "module a.test/app\n"), ("vendor/modules.txt", modules)], "", false);
    let good = [from_tree("a.test/dep", "v1.0.0", ""), from_tree("a.test/old", "v1.0.0", "b.test/fork")];
    assert_eq!(source.check(&good), Ok(()));
    check_refused(&source, &from_tree("a.test/dep", "v1.0.1", ""), &["does not hold it"]);
    check_refused(&source, &from_tree("a.test/old", "v1.0.0", "b.test/other"), &["does not hold it"]);
    check_refused(&source, &own("a.test/dep", "v1.0.0", 1), &["nothing of it"]);
}

#[test]
fn a_program_of_the_standard_library_alone_needs_nothing() {
    assert_eq!(source(&[("go.mod", "module a.test/app\n")], "", false).check(&[]), Ok(()));
}

fn main_of(path: &str, module: &str, version: &str) -> BuildInfo {
    let main = Module { path: module.to_owned(), version: version.to_owned(), ..Module::default() };
    BuildInfo { path: path.to_owned(), main: Some(main), ..BuildInfo::default() }
}

#[test]
fn the_executable_is_the_program_of_the_package_that_was_asked_for() {
    let source = alone();
    assert_eq!(source.check_main(".", &main_of("a.test/app", "a.test/app", DEVEL)), Ok(()));
    assert_eq!(source.check_main("./cmd/x/", &main_of("a.test/app/cmd/x", "a.test/app", DEVEL)), Ok(()));
    assert_eq!(source.check_main("cmd/x", &main_of("a.test/app/cmd/x", "a.test/app", DEVEL)), Ok(()));
    // A program in a directory that replaces a module has that module's name.
    assert_eq!(source.check_main("../near", &main_of("a.test/near", "a.test/near", "v0.0.0")), Ok(()));
    for (word, package, info) in [
        ("main package", "./cmd/x", main_of("a.test/app/cmd/y", "a.test/app", DEVEL)),
        ("main package", "./cmd/x", main_of("evil.test/x", "evil.test/x", DEVEL)),
        ("main module", "./cmd/x", main_of("a.test/app/cmd/x", "a.test/app/cmd", DEVEL)),
        ("version", ".", main_of("a.test/app", "a.test/app", "v1.0.0")),
    ] {
        let told = source.check_main(package, &info).unwrap_err().to_string();
        assert!(told.contains(word), "{word}: {told}");
    }
    let mut info = main_of("a.test/app", "a.test/app", DEVEL);
    info.main.as_mut().unwrap().sum = h1(1).to_string();
    assert!(source.check_main(".", &info).unwrap_err().to_string().contains("hash"));
}

#[test]
fn a_package_of_another_module_of_the_workspace_has_that_module_s_name() {
    let source = source(
        &[
            ("go.work", "use ./one\nuse ./two\n"),
            ("one/go.mod", "module a.test/one\n"),
            ("two/go.mod", "module a.test/two/v2\n"),
        ],
        "one",
        true,
    );
    let info = main_of("a.test/two/v2/cmd/x", "a.test/two/v2", DEVEL);
    assert_eq!(source.check_main("../two/cmd/x", &info), Ok(()));
}
