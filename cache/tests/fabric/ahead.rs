//! What a task's manifest lists is told before it is asked for, and counts as if it had been asked for.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use meridian_cache::{
    entry::ActionId,
    local::{CacheFigures, TaskCache, TaskScope},
    manifest::SignedManifest,
    prefetch::{Prefetch, Supply},
};
use meridian_core::digest::Digest;
use proptest::prelude::*;

use crate::{
    driver::shim_program,
    pair::{Place, SCOPE},
};

/// How far beyond a question a task is told.
const WINDOW: usize = 64;
const SOON: Duration = Duration::from_secs(10);

/// Actions with a body each.
fn entries(count: usize) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|n| (format!("action {n}"), format!("body {n}").into_bytes())).collect()
}

/// A place where all of these were built, with what the next task of the lineage is placed with.
async fn built(entries: &[(String, Vec<u8>)]) -> (Place, Arc<Prefetch>) {
    let place = Place::new();
    let named: Vec<_> = entries.iter().map(|(action, body)| (action.as_str(), body.clone())).collect();
    let signed: Arc<SignedManifest> = place.build(&named).await;
    let prefetch = place.prefetch(&signed, &[]);
    prefetch.ended().await;
    (place, prefetch)
}

/// How many files a task was given.
fn given(task: &TaskCache) -> usize {
    fs::read_dir(task.view_dir()).unwrap().count()
}

fn wait_until_given(task: &TaskCache, count: usize) {
    let deadline = Instant::now() + SOON;
    while given(task) < count {
        assert!(Instant::now() < deadline, "{} of {count} files were given", given(task));
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn most_questions_that_the_manifest_lists_are_answered_by_the_shim() {
    let entries = entries(300);
    let (place, prefetch) = built(&entries).await;
    let task = place.task(Some(&prefetch));
    let mut driver = place.driver(&task);
    for (action, body) in &entries {
        assert_eq!(driver.get(action).as_ref(), Some(body), "{action}");
    }
    driver.close();
    let figures = task.close(SOON).await;
    assert_eq!((figures.gets, figures.hits), (300, 300));
    assert!(task.foretold() >= 150, "{}", task.foretold());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_window_is_told_and_nothing_before_the_first_question() {
    let entries = entries(3 * WINDOW);
    let (place, prefetch) = built(&entries).await;
    let task = place.task(Some(&prefetch));
    let mut driver = place.driver(&task);
    assert_eq!(given(&task), 0);
    for question in [0, 20] {
        assert!(driver.get(&entries[question].0).is_some());
        if question == 0 {
            wait_until_given(&task, 1 + WINDOW);
        }
    }
    driver.close();
    task.close(SOON).await;
    // What was answered is told to the daemon, which may tell as many more.
    assert!((1 + WINDOW..=1 + WINDOW + 20).contains(&given(&task)), "{}", given(&task));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_scope_tells_nothing() {
    let entries = entries(20);
    let (place, prefetch) = built(&entries).await;
    let scope = TaskScope { own: "acme/branch".into(), ..Place::scope() };
    assert_ne!(scope.own, SCOPE);
    let supply = || Some(Arc::new(Supply::new(Some(Arc::clone(&prefetch)), None)));
    // What it would tell is known here as well.
    let task = place.daemon.open_supplied(&scope, supply()).unwrap();
    let mut driver = place.driver(&task);
    for (action, body) in &entries {
        driver.put(action, body);
    }
    driver.close();
    let task = place.daemon.open_supplied(&scope, supply()).unwrap();
    let mut driver = place.driver(&task);
    for (action, body) in &entries[..10] {
        assert_eq!(driver.get(action).as_ref(), Some(body));
    }
    driver.close();
    task.close(SOON).await;
    assert_eq!((given(&task), task.foretold()), (10, 0));
}

/// What a build does next.
#[derive(Debug, Clone)]
enum Step {
    /// Asks for what stands at these places, without waiting for one answer before the next question.
    Get(Vec<usize>),
    /// Asks for what the manifest does not list.
    GetNew(usize),
    /// Asks for what stands at a place, and puts another body.
    Put(usize),
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        // Mostly in the order of the manifest, a few at once.
        8 => (0..count, 1_usize..6).prop_map(move |(first, len)| Step::Get((first..count.min(first + len)).collect())),
        2 => prop::collection::vec(0..count, 1..5).prop_map(Step::Get),
        1 => (0_usize..5).prop_map(Step::GetNew),
        1 => (0..count).prop_map(Step::Put),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a task was answered, step by step, what it is said to have asked, and in which order, without what it put.
type Outcome = (Vec<Option<Vec<u8>>>, CacheFigures, Vec<(ActionId, Digest)>);

async fn run(place: &Place, task: &TaskCache, entries: &[(String, Vec<u8>)], steps: &[Step]) -> Outcome {
    let (mut driver, mut answers, mut put) = (place.driver(task), Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Get(places) => {
                let actions: Vec<_> = places.iter().map(|place| entries[*place].0.as_str()).collect();
                answers.extend(driver.get_at_once(&actions));
            }
            Step::GetNew(n) => answers.push(driver.get(&format!("new {n}"))),
            Step::Put(n) => {
                let action = &entries[*n].0;
                answers.push(driver.get(action));
                driver.put(action, format!("another body {n}").as_bytes());
                answers.push(driver.get(action));
                put.push(ActionId(*Digest::of(action.as_bytes()).as_bytes()));
            }
        }
    }
    driver.close();
    let figures = task.close(SOON).await;
    let listed = task.listed().into_iter().map(|listed| (listed.action, listed.entry.output));
    // A put and a question travel on a connection each, so only their own order is kept.
    let (mut of_puts, mut listed): (Vec<_>, Vec<_>) = listed.partition(|(action, _)| put.contains(action));
    of_puts.sort_unstable();
    listed.append(&mut of_puts);
    (answers, figures, listed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_build_that_is_told_ahead_is_answered_counted_and_recorded_as_one_that_is_not(steps in steps(100)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (told, asked) = runtime.block_on(async {
            let entries = entries(100);
            let ((told, prefetch), (asked, _)) = (built(&entries).await, built(&entries).await);
            let (told_task, asked_task) = (told.task(Some(&prefetch)), asked.task(None));
            let outcomes = (
                run(&told, &told_task, &entries, &steps).await,
                run(&asked, &asked_task, &entries, &steps).await,
            );
            assert_eq!(asked_task.foretold(), 0);
            outcomes
        });
        prop_assert_eq!(told, asked);
    }
}

/// A program of the standard library. All of it is old: of what has just changed cmd/go keeps no index.
fn source(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let program =
        "package main\n\nimport \"strings\"\n\nfunc main() {\n\tprintln(strings.ToUpper(\"built\"))\n}\n";
    for (name, text) in [("go.mod", "module example.test/program\n\ngo 1.21\n"), ("main.go", program)] {
        fs::write(dir.join(name), text).unwrap();
        let file = fs::File::options().write(true).open(dir.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
}

fn go_build(source: &Path, task: &TaskCache) -> Digest {
    let machine = tempfile::tempdir().unwrap();
    let done = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(machine.path().join("program"))
        .current_dir(source)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", machine.path())
        .env("GOCACHE", machine.path().join("gocache"))
        .env("GOCACHEPROG", format!("{} --socket {}", shim_program().display(), task.socket_path().display()))
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("CGO_ENABLED", "0")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Digest::of(&fs::read(machine.path().join("program")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_build_is_told_most_of_what_it_asks_and_makes_the_same_binary() {
    let place = Place::new();
    let source_dir = place.dir.path().join("src");
    source(&source_dir);
    let cold = place.task(None);
    let whole = go_build(&source_dir, &cold);
    let signed = place.publish(&cold).await;
    // A warm build does not ask all that a cold one asks.
    let warm = place.task(None);
    assert_eq!(go_build(&source_dir, &warm), whole);
    let asked = warm.close(SOON).await;

    let prefetch = place.prefetch(&signed, &[]);
    prefetch.ended().await;
    let task = place.task(Some(&prefetch));
    assert_eq!(go_build(&source_dir, &task), whole);
    let figures = task.close(SOON).await;
    assert_eq!(figures, asked);
    assert!(task.foretold() * 2 > figures.gets, "{} of {figures:?}", task.foretold());
    let listed = |task: &TaskCache| {
        let mut listed: Vec<_> = task.listed().iter().map(|one| (one.action, one.entry.output)).collect();
        listed.sort_unstable();
        listed
    };
    assert_eq!(listed(&task), listed(&warm));
}
