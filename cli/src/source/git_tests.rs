use super::*;

fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let done = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

struct Remote {
    directory: tempfile::TempDir,
    first: String,
    second: String,
}

/// Two commits; the first is tagged `v1.0.0` (annotated) and the branch `feature/x`, the second is `main`.
fn remote() -> Remote {
    let directory = tempfile::tempdir().unwrap();
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    git_in(&work, &["init", "-q"]);
    let commit = |text: &str| {
        fs::write(work.join("main.go"), text).unwrap();
        git_in(&work, &["add", "."]);
        git_in(&work, &["commit", "-q", "-m", text]);
        git_in(&work, &["rev-parse", "HEAD"])
    };
    let first = commit("one");
    git_in(&work, &["tag", "-a", "-m", "release", "v1.0.0"]);
    git_in(&work, &["branch", "feature/x"]);
    let second = commit("two");
    git_in(directory.path(), &["clone", "-q", "--bare", "work", "bare.git"]);
    Remote { directory, first, second }
}

impl Remote {
    async fn checkout(&self, reference: Option<&str>) -> Result<Checkout, GitError> {
        let text = GitText {
            url: format!("file://{}/bare.git", self.directory.path().display()),
            reference: reference.map(str::to_owned),
            directory: String::new(),
        };
        Git::of_user(false).checkout(&text, &self.directory.path().join("cache")).await
    }
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_are_each_resolved_to_their_commit() {
    let remote = remote();
    let short = &remote.first[..10];
    for (reference, commit, version, text) in [
        (None, &remote.second, &remote.second[..12], "two"),
        (Some("main"), &remote.second, &remote.second[..12], "two"),
        (Some("feature/x"), &remote.first, &remote.first[..12], "one"),
        (Some("v1.0.0"), &remote.first, "v1.0.0", "one"),
        (Some("refs/tags/v1.0.0"), &remote.first, &remote.first[..12], "one"),
        (Some(remote.first.as_str()), &remote.first, &remote.first[..12], "one"),
        (Some(short), &remote.first, &remote.first[..12], "one"),
    ] {
        let checkout = remote.checkout(reference).await.unwrap();
        assert_eq!(&checkout.commit, commit, "{reference:?}");
        if reference != Some("refs/tags/v1.0.0") {
            assert_eq!(checkout.version, version, "{reference:?}");
        }
        assert_eq!(fs::read_to_string(checkout.directory.join("main.go")).unwrap(), text, "{reference:?}");
        assert!(!checkout.directory.join(".git").exists());
    }
}

#[tokio::test]
async fn a_branch_that_moves_is_seen_the_next_time() {
    let remote = remote();
    assert_eq!(remote.checkout(Some("feature/x")).await.unwrap().commit, remote.first);
    let bare = remote.directory.path().join("bare.git");
    git_in(&bare, &["branch", "-f", "feature/x", &remote.second]);
    assert_eq!(remote.checkout(Some("feature/x")).await.unwrap().commit, remote.second);
}

#[tokio::test]
async fn what_does_not_exist_is_said_in_plain_words() {
    let remote = remote();
    let error = remote.checkout(Some("nothing")).await.unwrap_err();
    assert!(matches!(error, GitError::NoRef { .. }), "{error}");
    let error = remote.checkout(Some(&"0".repeat(40))).await.unwrap_err();
    assert!(matches!(error, GitError::NoRef { .. }), "{error}");
    let gone = GitText { url: "file:///nowhere/x.git".to_owned(), reference: None, directory: String::new() };
    let error = Git::of_user(false).checkout(&gone, remote.directory.path()).await.unwrap_err();
    assert!(error.to_string().contains("does not appear to be a git repository"), "{error}");
}

#[tokio::test]
async fn git_is_stopped_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["-c", "alias.wait=!sleep 20", "wait"];
    let error = Git::of_user(false).run(dir.path(), &arguments, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, GitError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn a_work_tree_describes_itself() {
    let remote = remote();
    let work = remote.directory.path().join("work");
    let git = Git::of_user(false);
    git_in(&work, &["checkout", "-q", "v1.0.0"]);
    assert_eq!(git.describe(&work).await.as_deref(), Some("v1.0.0"));
    assert_eq!(git.head(&work).await.as_deref(), Some(remote.first.as_str()));
    fs::write(work.join("main.go"), "changed").unwrap();
    assert_eq!(git.describe(&work).await.as_deref(), Some("v1.0.0-dirty"));
    assert_eq!(git.head(&work).await, Some(format!("{}-dirty", remote.first)));
    assert_eq!(git.describe(Path::new("/")).await, None);
}

#[test]
fn a_repository_that_cannot_be_reached_is_not_the_users_mistake() {
    let failed = |words: &str| GitError::Failed { verb: "fetch".to_owned(), words: words.to_owned() };
    for words in [
        "fatal: unable to access 'https://h.example/x.git/': Could not resolve host: h.example",
        "fatal: unable to access 'https://127.0.0.1:1/x.git/': Failed to connect to 127.0.0.1 port 1",
        "ssh: connect to host h.example port 22: Connection refused; fatal: Could not read from remote repository.",
    ] {
        assert!(!failed(words).is_users(), "{words}");
    }
    assert!(failed("fatal: '/x' does not appear to be a git repository").is_users());
    assert!(failed("fatal: Authentication failed for 'https://h.example/x.git/'").is_users());
}
