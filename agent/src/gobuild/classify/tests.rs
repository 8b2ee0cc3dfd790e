//! The texts are what Go 1.27.3 printed, with hosts and paths replaced.

use super::*;

#[track_caller]
fn check(stage: Stage, said: &str, kind: FailureKind, hint: &str) -> Failure {
    let failure = classify(stage, Exit::Code(1), said);
    assert_eq!(failure.kind, kind, "{said}");
    assert!(failure.hint.contains(hint), "{said}: {}", failure.hint);
    failure
}

#[test]
fn a_compile_error_stays_as_the_compiler_said_it() {
    let said = "internal/abi\nexample.test/typeerr\n# example.test/typeerr\n./main.go:3:15: declared and not used: x\n\
                ./main.go:3:23: undefined: undefined\n";
    let failure = check(Stage::Compile, said, FailureKind::Compile, "");
    assert_eq!(
        failure.message,
        "# example.test/typeerr\n./main.go:3:15: declared and not used: x\n./main.go:3:23: undefined: undefined"
    );
}

#[test]
fn an_unexpected_end_of_a_file_is_not_a_broken_download() {
    let said = "# example.test/bad\n./main.go:4:1: syntax error: unexpected EOF, expected }\n";
    check(Stage::Compile, said, FailureKind::Compile, "");
    check(Stage::Modules, "main.go:1:1: expected 'package', found 'EOF'\n", FailureKind::Compile, "");
}

#[test]
fn what_the_source_lacks_is_told_with_the_remedy() {
    let sum = "main.go:3:8: missing go.sum entry for module providing package a.test/x (imported by b.test/y); to \
               add:\n\tgo get b.test/y\n";
    check(Stage::Modules, sum, FailureKind::Modules, "go mod tidy");
    let missing =
        "main.go:3:8: no required module provides package a.test/x; to add it:\n\tgo get a.test/x\n";
    check(Stage::Modules, missing, FailureKind::Modules, "go mod tidy");
    let newer = "go: go.mod requires go >= 1.99.0 (running go 1.27.3; GOTOOLCHAIN=local)\n";
    check(Stage::Modules, newer, FailureKind::Request, "newer Go");
    let library = "package a.test/lib is not a main package\n";
    check(Stage::Modules, library, FailureKind::Request, "package main");
}

#[test]
fn an_unknown_module_is_told_in_the_proxys_own_words() {
    let said = "go: a.test/x@v99.0.0: a.test/x@v99.0.0: reading https://proxy.test/a.test/x/@v/v99.0.0.info: 404 Not \
                Found\n\tserver response: not found: a.test/x@v99.0.0: invalid version: unknown revision v99.0.0\n";
    let failure = check(Stage::Resolve, said, FailureKind::Modules, "version");
    assert!(failure.message.contains("unknown revision v99.0.0"));
    let refused = "go: a.test/x@v9.0.0: reading https://proxy.test/a.test/x/@v/v9.0.0.info: 403 Forbidden\n\tserver \
                   response: This module version is not available.\n";
    check(Stage::Modules, refused, FailureKind::Modules, "refuses to serve it");
    let branch = "go: a.test/x@nosuchbranch: invalid version: reading https://proxy.test/a.test/x/@v/nosuchbranch.info: \
                  403 Forbidden\n\tserver response: refused\n";
    check(Stage::Resolve, branch, FailureKind::Modules, "refuses to serve it");
    let package = "go: a.test/x/cmd/no@v0.30.0: module a.test/x@v0.30.0 found, but does not contain package \
                   a.test/x/cmd/no\n";
    check(Stage::Resolve, package, FailureKind::Modules, "package path");
}

#[test]
fn trouble_on_the_way_is_nobodys_mistake() {
    for said in [
        "go: a.test/x@v1.0.0: Get \"https://proxy.test/a.test/x/@v/v1.0.0.info\": dial tcp 192.0.2.1:443: connect: \
         connection refused\n",
        "go: a.test/x@v1.0.0: reading https://proxy.test/a.test/x/@v/v1.0.0.info: 503 Service Unavailable\n",
        "go: a.test/x@v1.0.0: Get \"https://proxy.test/a.test/x/@v/v1.0.0.info\": EOF\n",
        "go: a.test/x@v1.0.0: Get \"https://proxy.test/x\": context deadline exceeded\n",
        "go: a.test/x@v1.0.0: Get \"https://proxy.test/x\": tls: failed to verify certificate: x509: certificate \
         signed by unknown authority\n",
    ] {
        let failure = check(Stage::Modules, said, FailureKind::Infrastructure, "");
        assert!(failure.kind.is_retried() && failure.message.contains("proxy.test"));
    }
}

#[test]
fn a_full_disk_and_a_killed_compiler_are_the_machines_trouble() {
    let full = "# a.test/x\nwrite /tmp/b001/_pkg_.a: no space left on device\n";
    check(Stage::Compile, full, FailureKind::DiskFull, "free space");
    let killed = "# a.test/x\n/go/pkg/tool/linux_amd64/compile: signal: killed\n";
    check(Stage::Compile, killed, FailureKind::OutOfMemory, "memory");
    let large = "# a.test/x\nas: signal: file size limit exceeded\n";
    check(Stage::Compile, large, FailureKind::DiskFull, "larger");
    assert_eq!(classify(Stage::Compile, Exit::Signal(9), "").kind, FailureKind::Infrastructure);
}

#[test]
fn a_killed_compiler_is_no_want_of_memory_where_the_kernel_says_that_it_killed_none() {
    let killed = "# a.test/x\n/go/pkg/tool/linux_amd64/compile: signal: killed\n";
    for (said, expected) in [
        (killed, FailureKind::Infrastructure),
        ("# a.test/x\nfatal error: runtime: cannot allocate memory\n", FailureKind::OutOfMemory),
        ("# a.test/x\n./x.go:1:1: syntax error: signal: killed\n", FailureKind::Compile),
    ] {
        let mut failure = classify(Stage::Compile, Exit::Code(1), said);
        explain_kill(&mut failure);
        assert_eq!(failure.kind, expected, "{said}");
    }
}

#[test]
fn a_package_that_needs_cgo_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("main.go"), "package main\n\nimport \"C\"\n").unwrap();
    let said =
        format!("package a.test/x: build constraints exclude all Go files in {}\n", dir.path().display());
    let mut failure = classify(Stage::Modules, Exit::Code(1), &said);
    assert_eq!(failure.kind, FailureKind::Request);
    explain_cgo(&mut failure, &said);
    assert!(failure.hint.contains("cgo"));
}

#[test]
fn an_endless_message_is_cut() {
    let said = "x.go:1:1: wrong\n".repeat(10_000);
    assert!(classify(Stage::Compile, Exit::Code(1), &said).message.len() < MESSAGE_LEN_MAX + 100);
}

#[test]
fn a_compile_error_that_quotes_the_machines_words_is_still_the_sources() {
    for quoted in ["no space left on device", "out of memory", "https://h.test/: EOF", "signal: killed"] {
        let said =
            format!("# example.test/a\n./main.go:9:2: \"{quoted}\" (constant of type string) is not used\n");
        check(Stage::Compile, &said, FailureKind::Compile, "");
    }
    let full =
        "# example.test/a\ncompile: writing output: write $WORK/b001/_pkg_.a: no space left on device\n";
    check(Stage::Compile, full, FailureKind::DiskFull, "free space");
    let shim =
        "error starting GOCACHEPROG program \"/opt/meridian\": fork/exec /opt/meridian: no such file\n";
    check(Stage::Compile, shim, FailureKind::Infrastructure, "restart");
}
