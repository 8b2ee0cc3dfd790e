// A go command that was taken over, as a compiler could be by what it compiles. It does what a Go command does, but
// where the source has a file attack.txt it carries out what that says, one attack a line, in place of the build.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	bin := filepath.Dir(self)
	attacks, err := os.ReadFile("attack.txt")
	if err != nil || len(os.Args) < 2 || os.Args[1] != "build" {
		panic(syscall.Exec(filepath.Join(bin, "real-go"), os.Args, os.Environ()))
	}
	task := filepath.Dir(os.Getenv("HOME"))
	out := output()
	known := map[string]string{"TASK": task, "OUT": out, "OUTDIR": filepath.Dir(out), "SOCKETS": filepath.Dir(socket())}
	for number, line := range strings.Split(strings.TrimSpace(string(attacks)), "\n") {
		words := strings.Fields(os.Expand(line, func(name string) string { return known[name] }))
		// The agent shows its own paths under other names, so an attack is told by its number.
		fmt.Fprintf(os.Stderr, "attack number %d\n", number)
		switch words[0] {
		case "build":
			run(filepath.Join(bin, "real-go"), os.Args[1:]...)
		case "replace-by-link":
			fmt.Fprintln(os.Stderr, "said:", os.RemoveAll(words[1]), os.Symlink(words[2], words[1]))
		case "replace-by-directory":
			fmt.Fprintln(os.Stderr, "said:", os.RemoveAll(words[1]), os.Mkdir(words[1], 0o755))
		case "replace-by-pipe":
			fmt.Fprintln(os.Stderr, "said:", os.RemoveAll(words[1]), syscall.Mkfifo(words[1], 0o644))
		case "swap-for-ever":
			link := os.Link(words[1], words[1]+".real")
			swapper := exec.Command(filepath.Join(bin, "attacker"), "swap", words[1], words[2])
			swapper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			fmt.Fprintln(os.Stderr, "said:", link, swapper.Start())
		case "succeed":
			return
		default:
			run(filepath.Join(bin, "attacker"), words...)
		}
	}
	os.Exit(1)
}

// What go was told to write: the only program of a module is called like it.
func output() string {
	for _, arg := range os.Args {
		if dir, found := strings.CutPrefix(arg, "-o="); found {
			return filepath.Join(dir, "hostile")
		}
	}
	return ""
}

// The build cache's socket, which the shim is told.
func socket() string {
	_, after, _ := strings.Cut(os.Getenv("GOCACHEPROG"), "--socket ")
	return strings.Trim(after, `'"`)
}

func run(program string, args ...string) {
	output, err := exec.Command(program, args...).CombinedOutput()
	for _, line := range strings.Split(strings.TrimSpace(string(output)), "\n") {
		fmt.Fprintln(os.Stderr, "said:", line)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ended:", err)
	}
}
