use std::process::Command;

use super::*;
use crate::{out_dir::OutDir, source::modules};

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn git_in(directory: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn selected(root: &Path, include: &[&str]) -> Result<Vec<String>, SelectionError> {
    selected_but_for("dist", root, include).await
}

async fn selected_but_for(out: &str, root: &Path, include: &[&str]) -> Result<Vec<String>, SelectionError> {
    let set = modules::find(root, None).unwrap();
    let include: Vec<String> = include.iter().map(|text| (*text).to_owned()).collect();
    let out = OutDir::find(&set.root.join(out)).unwrap();
    let files = select(&Git::of_user(false), &set, Listing::WorkTree, &include, Some(out.path())).await?;
    Ok(files.iter().map(|file| file.to_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn what_git_knows_or_would_know_is_taken_and_what_it_ignores_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    git_in(root, &["init", "-q"]);
    for (name, text) in [
        ("go.mod", "module m\n"),
        ("tracked.go", ""),
        ("deleted.go", ""),
        ("untracked ä.go", ""),
        ("secret.env", "password"),
        ("gen/a.go", ""),
        (".gitignore", "*.env\n/gen/\n"),
        ("dist/old", "binary"),
    ] {
        write(root, name, text);
    }
    git_in(root, &["add", "go.mod", "tracked.go", "deleted.go", ".gitignore"]);
    fs::remove_file(root.join("deleted.go")).unwrap();
    std::os::unix::fs::symlink("tracked.go", root.join("link.go")).unwrap();

    let plain = selected(root, &[]).await.unwrap();
    assert_eq!(plain, [".gitignore", "go.mod", "link.go", "tracked.go", "untracked ä.go"]);
    let with_generated = selected(root, &["gen"]).await.unwrap();
    assert!(with_generated.contains(&"gen/a.go".to_owned()), "{with_generated:?}");
    let error = selected(root, &["gne/**"]).await.unwrap_err();
    assert!(error.to_string().contains("gne/**"), "{error}");
}

#[tokio::test]
async fn submodules_and_nested_repositories_bring_their_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let (other, root) = (dir.path().join("other"), dir.path().join("main"));
    write(&other, "lib.go", "");
    git_in(&other, &["init", "-q"]);
    git_in(&other, &["add", "."]);
    git_in(&other, &["commit", "-q", "-m", "lib"]);
    write(&root, "go.mod", "module m\n");
    git_in(&root, &["init", "-q"]);
    git_in(&root, &["submodule", "--quiet", "add", other.to_str().unwrap(), "sub"]);
    write(&root, "nested/x.go", "");
    git_in(&root.join("nested"), &["init", "-q"]);

    let files = selected(&root, &[]).await.unwrap();
    assert_eq!(files, [".gitmodules", "go.mod", "nested/x.go", "sub/lib.go"]);
}

#[tokio::test]
async fn a_directory_without_version_control_is_taken_whole_but_for_the_output() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["go.mod", "a/b.go", "dist/x", ".hg/store"] {
        write(dir.path(), name, "");
    }
    assert_eq!(selected(dir.path(), &[]).await.unwrap(), ["a/b.go", "go.mod"]);
}

#[tokio::test]
async fn an_output_directory_is_never_source_and_source_is_never_an_output_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("main");
    git_in(dir.path(), &["init", "-q", "main"]);
    for name in ["go.mod", "main.go", "cmd/x/main.go", "assets/page.html", "kept/.gitignore", "gen/a.txt"] {
        write(&root, name, "");
    }
    git_in(&root, &["add", "."]);
    // What builds left, and what was written a moment ago and is not tracked yet.
    for name in ["dist/x_1_linux_amd64", "kept/x_1_linux_amd64", "deep/er/x_1_linux_amd64", "new/a.go"] {
        write(&root, name, "");
    }
    let plain = ["assets/page.html", "cmd/x/main.go", "gen/a.txt", "go.mod", "kept/.gitignore", "main.go"];
    for out in ["dist", "kept", "deep/er"] {
        let files = selected_but_for(out, &root, &[]).await.unwrap();
        let there: Vec<_> = files.iter().filter(|file| file.starts_with(out)).collect();
        assert!(there.is_empty(), "{out}: {there:?}");
        for name in plain.iter().filter(|name| !name.starts_with(out)) {
            assert!(files.iter().any(|file| file == name), "{out}: {files:?}");
        }
    }
    for (out, named) in [
        (".", "main"),
        ("..", "main"),
        ("cmd", "cmd/x/main.go"),
        ("cmd/x", "cmd/x/main.go"),
        ("assets", "assets/page.html"),
        ("new", "new/a.go"),
    ] {
        let error = selected_but_for(out, &root, &[]).await.unwrap_err().to_string();
        assert!(error.contains("artifacts cannot go to") && error.contains(named), "{out}: {error}");
    }
    let error = selected_but_for("dist", &root, &["dist/**"]).await.unwrap_err();
    assert!(matches!(error, SelectionError::OutputAmong { .. }), "{error}");
    // A pattern that is not about that directory does not reach into it.
    let files = selected_but_for("dist", &root, &["**/*_linux_*"]).await.unwrap();
    assert!(!files.iter().any(|file| file.starts_with("dist/")), "{files:?}");
}

#[test]
fn a_pattern_matches_as_its_words_say() {
    let check = |pattern: &str, path: &str, expected: bool| {
        let steps: Vec<&str> = pattern.split('/').collect();
        assert_eq!(matches(&steps, Path::new(path)), expected, "{pattern} {path}");
    };
    check("gen/*.go", "gen/a.go", true);
    check("gen/*.go", "gen/b/a.go", false);
    check("gen/**", "gen/b/a.go", true);
    check("**/*.pb.go", "a.pb.go", true);
    check("**/*.pb.go", "x/y/a.pb.go", true);
    check("a?c", "abc", true);
    check("a?c", "ac", false);
    check("*a*a*a*a*b", &"a".repeat(200), false);
}

#[tokio::test]
async fn a_module_that_git_ignores_is_named_and_not_sent_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    git_in(root, &["init", "-q"]);
    write(root, ".gitignore", "/out/\n");
    write(root, "out/m/go.mod", "module m\n");
    let module = root.join("out/m");
    let error = selected(&module, &[]).await.unwrap_err().to_string();
    assert!(error.contains("git ignores") && error.contains("out/m/go.mod"), "{error}");
    assert_eq!(selected(&module, &["go.mod"]).await.unwrap(), ["go.mod"]);
}
