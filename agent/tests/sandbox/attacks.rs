//! What a program in the sandbox must not be able to do.

use std::{fs, net::TcpListener, os::unix::net::UnixListener, path::Path};

use meridian_agent::sandbox::{Access, Mount, Network};

use crate::machine::{Job, Place, Who, attacker};

/// Runs the same attack from agents of every kind.
fn everybody(attack: impl Fn(&Place)) {
    for who in Who::all() {
        attack(&Place::new(who));
    }
}

#[track_caller]
fn refused(job: &Job, with: &str) {
    let said = job.says();
    assert!(said.lines().all(|line| line.starts_with("error:") && line.contains(with)), "{said}");
}

#[test]
fn the_machines_own_listener_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    everybody(|place| {
        refused(&place.attack(&["dial", "tcp", &address]), "address family not supported");
        refused(&place.attack(&["dial", "udp", &address]), "address family not supported");
        let mut own = place.attack(&["dial", "tcp", &address]);
        own.plan.network = Network::Loopback;
        refused(&own, "connection refused");
    });
}

#[test]
fn a_program_with_a_loopback_interface_reaches_itself_and_nobody_else() {
    everybody(|place| {
        let mut job = place.attack(&["loopback"]);
        job.plan.network = Network::Loopback;
        assert_eq!(job.says(), "ok: true\n");
        let mut out = place.attack(&["dial", "udp", "192.0.2.1:53"]);
        out.plan.network = Network::Loopback;
        refused(&out, "network is unreachable");
    });
}

#[test]
fn sockets_of_the_machine_in_the_abstract_namespace_cannot_be_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("meridian-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    everybody(|place| refused(&place.attack(&["dial", "unix", &format!("@{name}")]), "connection refused"));
}

#[test]
fn keys_and_homes_of_the_machine_are_not_there() {
    everybody(|place| {
        let key = place.make_file("state/key.pem", "-----BEGIN PRIVATE KEY-----");
        refused(&place.attack(&["read", key.to_str().unwrap()]), "no such file or directory");
        let home = std::env::home_dir().expect("whoever runs tests has a home").join(".ssh/id_ed25519");
        let home = home.to_str().unwrap();
        for path in ["/etc/shadow", "/etc/ssh", home, "/etc/machine-id", "/sys/kernel"] {
            refused(&place.attack(&["read", path]), "no such file or directory");
        }
        for path in ["/home", "/root", "/var", "/run", "/opt", "/sys"] {
            refused(&place.attack(&["list", path]), "no such file or directory");
        }
    });
}

#[test]
fn another_tasks_directory_and_socket_are_not_there() {
    everybody(|place| {
        let other = place.make_dir("other");
        place.make_file("other/source.go", "package secret");
        let socket = other.join("cache");
        let _listener = UnixListener::bind(&socket).unwrap();
        refused(&place.attack(&["list", other.to_str().unwrap()]), "no such file or directory");
        refused(&place.attack(&["dial", "unix", socket.to_str().unwrap()]), "no such file or directory");
        let up = format!("{}/../other/source.go", place.path("task").display());
        refused(&place.attack(&["read", &up]), "no such file or directory");
    });
}

#[test]
fn only_the_tasks_own_socket_answers() {
    everybody(|place| {
        let own = place.make_dir("sockets").join("cache");
        place.make_file("sockets/other", "another task's");
        let _listener = UnixListener::bind(&own).unwrap();
        if place.who == Who::Nobody {
            std::os::unix::fs::chown(&own, Some(65_534), Some(65_534)).unwrap();
        }
        let job =
            place.attack(&["dial", "unix", own.to_str().unwrap()]).with(Mount::same(&own, Access::Connect));
        assert_eq!(job.says(), "ok: true\n");
        let listed = place.attack(&["list", own.parent().unwrap().to_str().unwrap()]);
        assert_eq!(listed.with(Mount::same(&own, Access::Connect)).says(), "ok: cache\n");
    });
}

#[test]
fn a_link_in_the_output_leads_nowhere_on_the_machine() {
    everybody(|place| {
        let secret = place.make_file("state/secret", "secret");
        let link = place.path("task/link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        refused(&place.attack(&["read", link.to_str().unwrap()]), "no such file or directory");
        // And one that stands where a later mount is to go does not lead the mount out.
        std::os::unix::fs::symlink("/../../state", place.path("task/below")).unwrap();
        let target = place.path("task/below/mounted");
        let job = place.attack(&["exit", "0"]).with(Mount::Bind {
            source: place.path("source"),
            target,
            access: Access::Read,
        });
        let outcome = job.run().outcome;
        assert!(outcome.starts_with("the sandbox cannot make room for"), "{outcome}");
        assert!(!place.path("state/mounted").exists());
    });
}

#[test]
fn it_sees_only_its_own_processes() {
    everybody(|place| {
        let said = place.attack(&["pids"]).says();
        // Itself; process 1 hides. It is not the first process, so it cannot be mistaken for it.
        assert_eq!(said.lines().next(), Some("ok: 1"), "{said}");
        assert_eq!(said.lines().nth(1), Some("2 1"), "{said}");
        assert!(said.lines().nth(2).unwrap().contains("no such file or directory"), "{said}");
        refused(&place.attack(&["read", "/proc/sys/kernel/random/boot_id"]), "no such file or directory");
        refused(&place.attack(&["read", "/proc/kcore"]), "no such file or directory");
    });
}

#[test]
fn toolchain_modules_and_sources_cannot_be_changed() {
    everybody(|place| {
        let source = place.path("source");
        let file = place.make_file("source/main.go", "package main");
        let attack = |args: &[&str]| place.attack(args).with(Mount::same(&source, Access::Run));
        refused(&attack(&["write", file.to_str().unwrap()]), "read-only file system");
        refused(&attack(&["write", source.join("new").to_str().unwrap()]), "read-only file system");
        refused(&attack(&["remove", file.to_str().unwrap()]), "read-only file system");
        refused(&attack(&["link", "/", source.join("link").to_str().unwrap()]), "read-only file system");
        refused(&attack(&["write", attacker().to_str().unwrap()]), "read-only file system");
        refused(&attack(&["write", "/new", "/dev/new", "/etc/passwd"]), "");
        assert_eq!(fs::read_to_string(file).unwrap(), "package main");
    });
}

#[test]
fn what_it_writes_it_cannot_run() {
    everybody(|place| {
        let copy = place.path("task/copy");
        fs::copy(attacker(), &copy).unwrap();
        refused(&place.attack(&["run", copy.to_str().unwrap(), "exit", "0"]), "permission denied");
    });
}

#[test]
fn bodies_of_the_cache_can_be_opened_by_name_and_not_listed() {
    everybody(|place| {
        let bodies = place.make_dir("bodies");
        let body = place.make_file("bodies/0123abcd", "object");
        fs::set_permissions(&bodies, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let attack = |args: &[&str]| {
            let mut job = place.attack(args).with(Mount::same(&bodies, Access::ReadByName));
            job.plan.mounts.retain(|mount| !matches!(mount, Mount::Scratch { .. }));
            job
        };
        assert_eq!(attack(&["read", body.to_str().unwrap()]).says(), "ok: object\n");
        refused(&attack(&["list", bodies.to_str().unwrap()]), "permission denied");
        refused(&attack(&["write", body.to_str().unwrap()]), "");
    });
}

#[test]
fn it_has_no_rights_and_can_gain_none() {
    everybody(|place| {
        let said = place.attack(&["status"]).says();
        let fact =
            |name: &str| said.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap_or("");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(fact(set), "0000000000000000", "{set}: {said}");
        }
        assert_eq!((fact("NoNewPrivs"), fact("Seccomp")), ("1", "2"), "{said}");
        assert_eq!((fact("Uid"), fact("Gid")), ("1000 1000 1000 1000", "1000 1000 1000 1000"), "{said}");
        assert_eq!(fact("host"), "meridian", "{said}");
    });
}

#[test]
fn a_setuid_program_has_no_effect() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can make a program setuid: not tried");
        return;
    }
    everybody(|place| {
        let program = place.path("source/setuid");
        fs::copy(attacker(), &program).unwrap();
        std::os::unix::fs::chown(&program, Some(0), Some(0)).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
        let job = place.attack(&["run", program.to_str().unwrap(), "status"]);
        let said = job.with(Mount::same(place.path("source"), Access::Run)).says();
        assert!(said.contains("Uid 1000 1000 1000 1000"), "{said}");
        assert!(said.contains("Gid 1000 1000 1000 1000"), "{said}");
    });
}

#[test]
fn no_process_can_be_traced_and_process_1_not_be_touched() {
    everybody(|place| {
        let said = place.attack(&["trace"]).says();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], "error: operation not permitted", "{said}");
        assert!(lines[1].starts_with("error: open /proc/1/mem"), "{said}");
        // The kernel keeps process 1 from signals of its own namespace; were it ended, nothing more were said.
        assert_eq!(lines.len(), 3, "{said}");
    });
}

#[test]
fn system_calls_that_lead_out_are_refused() {
    let refused: &[(&str, libc::c_long, [u64; 2])] = &[
        ("mount", libc::SYS_mount, [0, 0]),
        ("umount", libc::SYS_umount2, [0, 0]),
        ("pivot_root", libc::SYS_pivot_root, [0, 0]),
        ("open_tree", libc::SYS_open_tree, [0, 0]),
        ("fsopen", libc::SYS_fsopen, [0, 0]),
        ("unshare a user namespace", libc::SYS_unshare, [0x1000_0000, 0]),
        ("unshare a mount namespace", libc::SYS_unshare, [0x0002_0000, 0]),
        ("setns", libc::SYS_setns, [0, 0]),
        ("clone a user namespace", libc::SYS_clone, [0x1000_0011, 0]),
        ("clone a network namespace", libc::SYS_clone, [0x4000_0011, 0]),
        // The kernel reads 32 bits of the flags, so high bits must not hide the low ones.
        ("clone with high bits", libc::SYS_clone, [0x1_1000_0011, 0]),
        ("ptrace", libc::SYS_ptrace, [0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0]),
        ("bpf", libc::SYS_bpf, [0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0]),
        ("add_key", libc::SYS_add_key, [0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0]),
        ("init_module", libc::SYS_init_module, [0, 0]),
        ("syslog", libc::SYS_syslog, [10, 0]),
        ("type into a terminal", libc::SYS_ioctl, [0, 0x5412]),
        ("type into a terminal, with high bits", libc::SYS_ioctl, [0, 0x1_0000_5412]),
        ("a foreign personality", libc::SYS_personality, [8, 0]),
    ];
    let unknown = [("clone3", libc::SYS_clone3), ("io_uring_setup", libc::SYS_io_uring_setup)];
    let mut calls: Vec<String> = refused.iter().map(|(_, call, [a, b])| format!("{call}:{a}:{b}")).collect();
    calls.extend(unknown.iter().map(|(_, call)| format!("{call}")));
    let mut args = vec!["calls"];
    args.extend(calls.iter().map(String::as_str));
    everybody(|place| {
        let said = place.attack(&args).says();
        let mut numbers = said.lines().map(|line| line.parse::<i32>().unwrap());
        for (name, ..) in refused {
            assert_eq!(numbers.next(), Some(libc::EPERM), "{name}: {said}");
        }
        for (name, _) in unknown {
            assert_eq!(numbers.next(), Some(libc::ENOSYS), "{name}: {said}");
        }
    });
}

#[test]
fn nothing_of_the_agents_environment_or_files_comes_along() {
    everybody(|place| {
        assert_eq!(place.attack(&["env"]).says(), "HOME=/tmp\n");
        let said = place.attack(&["list", "/proc/self/fd"]).says();
        // The streams, and what the listing itself opened.
        let open: Vec<_> = said.trim().trim_start_matches("ok: ").split(' ').collect();
        assert!(open.iter().all(|number| number.parse::<u32>().unwrap() < 8), "{said}");
        assert_eq!(place.attack(&["stdin"]).says(), "ok: 0\n");
    });
}

#[test]
fn a_machine_with_all_its_programs_still_shows_no_settings() {
    everybody(|place| {
        let mut job = place.attack(&["list", "/etc"]);
        job.system = true;
        let said = job.says();
        assert!(!said.contains("shadow") && !said.contains("ssl"), "{said}");
        let mut job = place.attack(&["run", "/bin/sh", "-c", "id -u; ls /usr/bin/env"]);
        job.system = true;
        assert!(job.says().starts_with("1000\n/usr/bin/env\n"));
        assert!(Path::new("/usr/bin/env").exists());
    });
}

#[test]
fn what_lies_below_a_scratch_directory_is_there_whichever_is_named_first() {
    everybody(|place| {
        let file = place.make_file("source/README", "there");
        let mut job = place.attack(&["read", file.to_str().unwrap()]);
        job.plan.mounts.insert(0, Mount::same(&file, Access::Read));
        let around = Mount::Scratch { target: place.path("source"), bytes_max: 1 << 20, run: false };
        job.plan.mounts.push(around);
        assert_eq!(job.says(), "ok: there\n");
    });
}
