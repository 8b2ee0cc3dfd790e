#!/usr/bin/env python3
"""Writes what a real GoReleaser makes of every configuration here: NAME.yaml gives NAME.json.

    regenerate.py GORELEASER [NAME...]

Each configuration is applied to a small project in a repository of one commit, with a fixed date and identity, so
that the commit is the same on every machine. Names and command lines do not depend on what a compiler makes, so
`go build` is a stand-in that notes what it is told and writes a header that only looks like an executable's; `gpg`,
`cosign` and `syft` are stand-ins too. Every other `go` command is the real one. A comment in a configuration may
say `# golden: tag=v1.0.0-rc.1` (`tag=` for no tag) or `# golden: no-git`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Assets that are not made here; what is left is what must agree.
SKIPPED = "nfpm,snapcraft,docker,ko,flatpak,makeself,srpm,chocolatey,notarize,before"
# The types of artifacts that GoReleaser uploads.
UPLOADED = {1, 2, 3, 12, 13, 14, 15, 28}
COMMIT_DATE = "2024-02-29T12:34:56Z"

GO = r'''#!/usr/bin/env python3
import fcntl, json, os, struct, sys
if sys.argv[1] != "build":
    os.execv(os.environ["GOLDEN_GO"], ["go"] + sys.argv[1:])
known = set(os.environ["GOLDEN_ENV"].split(","))
out = sys.argv[sys.argv.index("-o") + 1]
suffix = ".exe" if os.environ["GOOS"] == "windows" else ""
names = [os.path.basename(p) + suffix for p in sys.argv[sys.argv.index("-o") + 2:]]
files = [os.path.join(out, name) for name in names] if os.path.isdir(out) else [out]
cpu = {"amd64": (0x01000007, 3), "arm64": (0x0100000c, 0)}.get(os.environ["GOARCH"], (0, 0))
for file in files:
    with open(file, "wb") as f:
        f.write(struct.pack("<III", 0xfeedfacf, *cpu) + bytes(52))
line = {
    "args": sys.argv[1:], "cwd": os.path.relpath(os.getcwd(), os.environ["GOLDEN_PROJECT"]),
    "env": {k: v for k, v in os.environ.items() if k not in known},
}
with open(os.environ["GOLDEN_LOG"], "a") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    log.write(json.dumps(line) + "\n")
'''

TOOL = r'''#!/usr/bin/env python3
import sys
for at, arg in enumerate(sys.argv):
    if arg == "--output" and "=" not in sys.argv[at + 1]:
        open(sys.argv[at + 1], "w").write("stand-in")
    elif "=" in arg:
        open(arg.split("=", 1)[1], "w").write("stand-in")
'''


def run(*args, cwd, env, **more):
    return subprocess.run(args, cwd=cwd, env=env, check=True, capture_output=True, text=True, **more).stdout.strip()


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def make_project(project, config):
    write(project / "go.mod", "module example.com/acme/tool\n\ngo 1.21\n")
    for package in [".", "cmd/tool", "cmd/helper"]:
        write(project / package / "main.go", "package main\n\nfunc main() {}\n")
    write(project / "internal/lib/lib.go", "package lib\n")
    for name in ["LICENSE", "README.md", "CHANGELOG.md", "completions/tool.bash"]:
        write(project / name, "text\n")
    write(project / ".gitignore", "dist/\nout/\n")
    write(project / ".goreleaser.yaml", config)


def commit(project, tag, env):
    git = lambda *args: run("git", *args, cwd=project, env=env)
    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    if tag:
        git("tag", tag)
    git("remote", "add", "origin", "https://example.com/acme/tool.git")
    return {
        "branch": "main",
        "tag": tag or None,
        "commit": git("rev-parse", "HEAD"),
        "short_commit": git("show", "--format=%h", "--quiet", "HEAD"),
        "commit_seconds": int(git("show", "--format=%ct", "--quiet", "HEAD")),
        "summary": git("describe", "--always", "--dirty", "--tags"),
        "url": "https://example.com/acme/tool.git",
    }


def golden(goreleaser, version, config_path):
    config = config_path.read_text()
    tag = re.search(r"^# golden: tag=(\S*)$", config, re.M)
    tag = tag.group(1) if tag else "v1.2.3"
    dist = re.search(r"^dist: (\S+)$", config, re.M)
    dist = dist.group(1) if dist else "dist"
    has_git = not re.search(r"^# golden: no-git$", config, re.M)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        project, tools = scratch / "project", scratch / "bin"
        write(tools / "go", GO, 0o755)
        for tool in ["gpg", "cosign", "syft"]:
            write(tools / tool, TOOL, 0o755)
        env = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(scratch),
            "GOLDEN_GO": shutil.which("go"),
            "GOLDEN_PROJECT": str(project),
            "GOLDEN_LOG": str(scratch / "log"),
            "GOFLAGS": "-mod=mod",
            "GOTOOLCHAIN": "local",
            "GOPROXY": "off",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(scratch),
            "FLAVOUR": "vanilla",
            **{f"GIT_{who}_{what}": value for who in ["AUTHOR", "COMMITTER"]
               for what, value in [("NAME", "A"), ("EMAIL", "a@example.com"), ("DATE", COMMIT_DATE)]},
        }
        env["GOLDEN_ENV"] = ",".join([*env, "GOLDEN_ENV", "PWD", "LC_CTYPE", "SHLVL", "_"])
        make_project(project, config)
        git = commit(project, tag, env) if has_git else None
        subprocess.run([goreleaser, "release", "--snapshot", "--clean", f"--skip={SKIPPED}"],
                       cwd=project, env=env, check=True, capture_output=True, text=True)
        artifacts = json.loads((project / dist / "artifacts.json").read_text())
        metadata = json.loads((project / dist / "metadata.json").read_text())
        builds = [json.loads(line) for line in (scratch / "log").read_text().splitlines()]
        date = re.sub(r"\.(\d{6})\d*", r".\1", metadata["date"].replace("Z", "+00:00"))
        now_ms = int(datetime.fromisoformat(date).timestamp() * 1000)
        text = json.dumps({
            "produced_by": f"GoReleaser {version}: release --snapshot --clean --skip={SKIPPED}, with go build as a stand-in",
            "now_ms": now_ms,
            "project": str(project),
            "git": git,
            "version": metadata["version"],
            "assets": sorted({a["name"] for a in artifacts if a["internal_type"] in UPLOADED}),
            "archives": {a["name"]: {"binaries": sorted(a["extra"].get("Binaries", [])), "wrap_in": a["extra"]["WrappedIn"],
                                     "format": a["extra"]["Format"]} for a in artifacts if a["internal_type"] == 1},
            "builds": sorted(builds, key=lambda build: json.dumps(build, sort_keys=True)),
        }, indent=1, sort_keys=True)
        text = text.replace(str(project), "/project")
        config_path.with_suffix(".json").write_text(text + "\n")
        print(config_path.stem, len(builds), "builds")


def main():
    goreleaser, names = sys.argv[1], sys.argv[2:]
    version = re.search(r"GitVersion:\s*v?(\S+)", subprocess.run([goreleaser, "--version"], capture_output=True, text=True).stdout)
    for config in sorted(HERE.glob("*.yaml")):
        if not names or config.stem in names:
            try:
                golden(goreleaser, version.group(1), config)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{config.stem}: {error.cmd}\n{error.stdout}\n{error.stderr}")


main()
