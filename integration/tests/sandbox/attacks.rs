//! What runs in a compile against the machine of a real agent.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use crate::hostile::{Scene, Who, has_sandbox};

/// How `meridian build` ends when the build failed, and when the fleet did.
const FAILED: i32 = 1;
const BROKEN: i32 = 4;

/// What each attack said, in the order of the attacks.
struct Answers<'a>(Vec<(&'a str, String)>);

impl<'a> Answers<'a> {
    #[track_caller]
    fn of(scene: &Scene, name: &str, attacks: &[&'a str]) -> Self {
        let said = scene.said(name);
        let answer = |(number, attack): (usize, &&'a str)| {
            let after = said.split_once(&format!("attack number {number}\n"));
            let after = after.unwrap_or_else(|| panic!("{attack} was not made:\n{said}")).1;
            (*attack, after.split("attack number").next().unwrap_or_default().to_owned())
        };
        Self(attacks.iter().enumerate().map(answer).collect())
    }

    #[track_caller]
    fn to(&self, attack: &str) -> &str {
        let found = self.0.iter().find(|(made, _)| *made == attack);
        found.map_or_else(|| panic!("{attack} was not made"), |(_, answer)| answer)
    }
}

#[test]
fn nothing_of_the_machine_is_within_reach_of_a_compile() {
    if !has_sandbox() {
        return;
    }
    for who in Who::all() {
        let scene = Scene::new(who, &["sandbox=required"]);
        let network = format!("dial tcp {}", scene.fleet.address());
        let identity = scene.of_agent("agent/identity/identity.pem");
        let key = format!("read {}", identity.display());
        let signer = format!("list {}", scene.of_agent("agent/signer").display());
        let home = format!("list {}", scene.of_agent("home").display());
        let state = format!("list {}", scene.of_agent("agent/go/tasks").display());
        let toolchain = format!("write {}/bin/planted {0}/planted", scene.goroot().display());
        // Of what teams share on an agent, each sees its own.
        let bodies = format!("list {}", scene.of_agent("agent/cache/bodies").display());
        let rivals = scene.of_agent("agent/go/teams/rivals/modules/private.go");
        fs::create_dir_all(rivals.parent().expect("a file has a directory")).expect("another team's modules");
        fs::write(&rivals, "package private").expect("another team's module");
        let rivals = format!("read {}", rivals.display());
        let refused = [
            (network.as_str(), "address family not supported"),
            ("dial udp 192.0.2.1:53", "address family not supported"),
            (&key, "no such file or directory"),
            (&signer, "no such file or directory"),
            (&home, "no such file or directory"),
            (&bodies, "no such file or directory"),
            (&rivals, "no such file or directory"),
            ("list /root", "no such file or directory"),
            ("read /etc/shadow", "no such file or directory"),
            (&toolchain, "read-only file system"),
            ("write /meridian-build/modules/planted", "read-only file system"),
            ("write main.go", "read-only file system"),
        ];
        // A key that is not there would prove nothing.
        assert!(identity.is_file());
        assert!(
            fs::read_dir(scene.of_agent("agent/signer")).is_ok_and(|mut entries| entries.next().is_some())
        );
        assert!(fs::read_dir(scene.of_agent("agent/cache/bodies")).is_ok());
        let mut attacks: Vec<&str> = refused.iter().map(|(attack, _)| *attack).collect();
        attacks.extend(["list /proc/self/fd", "list ${SOCKETS}", "pids", "status", "trace", &state]);
        scene.attack("hostile", &attacks).expect_failure(FAILED, &["does not compile"]);
        let said = Answers::of(&scene, "hostile", &attacks);
        for (attack, with) in refused {
            let answer = said.to(attack);
            let all = answer.lines().filter_map(|line| line.strip_prefix("said: "));
            assert!(all.clone().count() > 0, "{who:?}: {attack}: {answer}");
            assert!(
                all.clone().all(|line| line.starts_with("error:") && line.contains(with)),
                "{who:?}: {attack}: {answer}"
            );
        }
        // The signer's socket has no name and comes along under no number; another task's is in another directory.
        // With Landlock not even the directories on the way can be listed; without it they hold its own and no other.
        for own in ["list ${SOCKETS}", &state] {
            let seen = said.to(own);
            assert!(
                seen.contains("permission denied") || seen.split_whitespace().count() == 3,
                "{own}: {seen}"
            );
        }
        let open = said.to("list /proc/self/fd").replace("said: ok: ", "");
        assert!(open.split_whitespace().all(|number| number.parse().is_ok_and(|n: u32| n < 8)), "{open}");
        expect_powerless(&said);
        assert!(!scene.goroot().join("planted").exists() && !scene.goroot().join("bin/planted").exists());
    }
}

/// It sees its own processes, has no right, can gain none, and traces nobody.
#[track_caller]
fn expect_powerless(said: &Answers<'_>) {
    let pids = said.to("pids");
    assert!(pids.lines().nth(2).is_some_and(|line| line.contains("no such file")), "{pids}");
    let status = said.to("status");
    for fact in
        ["CapEff 0000000000000000", "CapBnd 0000000000000000", "NoNewPrivs 1", "Seccomp 2", "Uid 1000 1000"]
    {
        assert!(status.contains(fact), "{fact}: {status}");
    }
    assert!(said.to("trace").contains("error: operation not permitted"), "{}", said.to("trace"));
}

#[test]
fn without_a_sandbox_the_same_attacks_succeed() {
    let scene = Scene::new(Who::Own, &["sandbox=off"]);
    let key = format!("list {}", scene.of_agent("agent/signer").display());
    let network = format!("dial tcp {}", scene.fleet.address());
    let attacks = [key.as_str(), &network];
    scene.attack("hostile", &attacks).expect_failure(FAILED, &[]);
    let said = Answers::of(&scene, "hostile", &attacks);
    assert!(said.to(&key).starts_with("said: ok: "), "{}", said.to(&key));
    assert!(said.to(&network).starts_with("said: ok: true"), "{}", said.to(&network));
}

#[test]
fn what_a_build_takes_too_much_of_is_called_by_its_name() {
    if !has_sandbox() {
        return;
    }
    for who in Who::all() {
        let limits = [
            "sandbox=required",
            "limits.memory_mib=512",
            "limits.processes=200",
            "limits.file_mib=64",
            "limits.disk_mib=96",
        ];
        let scene = Scene::new(who, &limits);
        scene
            .attack("memory", &["memory"])
            .expect_failure(BROKEN, &["needs more memory than a build may use", "hint: "]);
        scene
            .attack("forks", &["forks"])
            .expect_failure(BROKEN, &["hint: the agent's limits on files or processes"]);
        scene.attack("file", &["big ${TASK}/tmp/big 107374182400"]).expect_failure(
            BROKEN,
            &["no disk space left for it", "hint: a file of the build would be larger"],
        );
        let most = ["fill ${TASK}/tmp/one 60", "fill ${TASK}/tmp/two 60 and-wait"];
        scene.attack("disk", &most).expect_failure(
            BROKEN,
            &["no disk space left for it", "the build wrote more than it may", "limits.disk_mib"],
        );
        // And the agent goes on as if nothing had been.
        let dist = scene.attack("honest", &["build", "succeed"]).expect_success();
        assert_eq!(dist.execute(&dist.artifacts()[0], &[]).trim(), "done", "{who:?}");
    }
}

#[test]
fn a_ten_hour_sleep_ends_after_the_time_that_a_build_may_take_and_is_not_tried_again() {
    let scene = Scene::new(Who::Own, &["sandbox=when-possible", "limits.wall_seconds=3"]);
    let words = ["takes longer than a build may", "3 s", "limits.wall_seconds"];
    scene.attack("sleep", &["sleep 36000"]).expect_failure(FAILED, &words);
}

#[test]
fn an_output_that_is_no_plain_file_is_no_artifact() {
    if !has_sandbox() {
        return;
    }
    let scene = Scene::new(Who::Own, &["sandbox=required", "limits.file_mib=64"]);
    let secret = scene.of_agent("agent/signer");
    let link = format!("replace-by-link ${{OUT}} {}", secret.display());
    let beside = format!("replace-by-link ${{OUTDIR}} {}", secret.display());
    let cases = [
        ("link", link.as_str()),
        ("beside", &beside),
        ("directory", "replace-by-directory ${OUT}"),
        ("pipe", "replace-by-pipe ${OUT}"),
    ];
    for (name, attack) in cases {
        let words = ["cannot be built as asked", "no plain file"];
        let run = scene.attack(name, &["build", attack, "succeed"]).expect_failure(FAILED, &[]);
        // What lies behind a link is not there in the sandbox, and nobody looks at it outside.
        assert!(
            words.iter().all(|word| run.says(word)) || run.says("is not a main package"),
            "{name}: {run}"
        );
    }
    // One of 4 GB does not come about; what is left of it is no program.
    let large = scene.attack("large", &["build", "big ${OUT} 4294967296", "succeed"]);
    assert_ne!(large.run.code, Some(0), "{}", large.run);
    assert_eq!(large.dist.names(), Vec::<String>::new());
    assert!(scene.said("large").contains("file too large"), "{}", scene.said("large"));
}

#[test]
fn a_link_that_is_swapped_in_until_the_end_is_never_followed() {
    if !has_sandbox() {
        return;
    }
    let scene = Scene::new(Who::Own, &["sandbox=required"]);
    let secret = scene.of_agent("agent/identity/identity.pem");
    assert!(secret.is_file(), "a key that is not there would prove nothing");
    let attack = format!("swap-for-ever ${{OUT}} {}", secret.display());
    for round in 0..8 {
        // The swapper ends with the build; what lies there then is the program or a link, and a link is nothing.
        let name = format!("race{round}");
        let build = scene.attack(&name, &["build", &attack, "succeed"]);
        assert!(scene.said(&name).contains("said: <nil> <nil>"), "{}", scene.said(&name));
        match build.run.code {
            Some(0) => {
                let dist = build.expect_success();
                assert_eq!(dist.execute(&dist.artifacts()[0], &[]).trim(), "done", "round {round}");
            }
            _ => drop(build.expect_failure(FAILED, &[])),
        }
    }
}

#[test]
fn what_a_build_nested_and_closed_is_gone_with_it() {
    if !has_sandbox() {
        return;
    }
    for who in Who::all() {
        let scene = Scene::new(who, &["sandbox=required"]);
        // Where the agent is not root it cannot count what is closed, and ends the build for that.
        drop(scene.attack("deep", &["nest ${TASK}/tmp 100", "build", "succeed"]));
        assert!(scene.said("deep").contains("ok: closed"), "{}", scene.said("deep"));
        wait_until_gone(&scene, who);
        scene.attack("honest", &["build", "succeed"]).expect_success();
    }
}

/// Task directories are removed behind the build's back.
#[track_caller]
fn wait_until_gone(scene: &Scene, who: Who) {
    let tasks = scene.of_agent("agent/go/tasks");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read_dir(&tasks).expect("the directory of tasks").next().is_some() {
        assert!(Instant::now() < deadline, "{who:?}: a task's directory is left behind");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_build_wrote_is_its_own_users_and_gone_with_it() {
    if !has_sandbox() || !Who::Own.is_root() {
        return;
    }
    let scene = Scene::new(Who::Own, &["sandbox=required"]);
    scene.attack("hostile", &["build", "succeed"]).expect_success();
    wait_until_gone(&scene, Who::Own);
    let outputs = fs::read_dir(scene.of_agent("agent/go/outputs")).expect("the kept programs").flatten();
    for kept in outputs {
        assert_ne!(kept.metadata().expect("a kept program").uid(), 0, "{}", kept.path().display());
    }
}
