// The program that tries to get out. It says what happened, one fact a line, and never decides whether that was
// right.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[2:]
	switch os.Args[1] {
	case "dial":
		connection, err := net.DialTimeout(args[0], args[1], 2*time.Second)
		say(connection != nil, err)
	case "loopback":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			_, err = net.Dial("tcp", listener.Addr().String())
		}
		say(err == nil, err)
	case "read":
		content, err := os.ReadFile(args[0])
		say(string(content), err)
	case "list":
		entries, err := os.ReadDir(args[0])
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		sort.Strings(names)
		say(strings.Join(names, " "), err)
	case "write":
		for _, path := range args {
			say("written", os.WriteFile(path, []byte("changed"), 0o755))
		}
	case "remove":
		say("removed", os.Remove(args[0]))
	case "link":
		say("linked", os.Symlink(args[0], args[1]))
	case "pids":
		paths, err := filepath.Glob("/proc/[0-9]*")
		say(len(paths), err)
		fmt.Println(os.Getpid(), os.Getppid())
		_, err = os.ReadFile("/proc/1/environ")
		say("read", err)
	case "status":
		status, err := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(status), "\n") {
			name, value, _ := strings.Cut(line, ":\t")
			switch name {
			case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups":
				fmt.Println(name, strings.Join(strings.Fields(value), " "))
			}
		}
		say("read", err)
		host, _ := os.Hostname()
		fmt.Println("host", host)
	case "env":
		for _, variable := range os.Environ() {
			fmt.Println(variable)
		}
	case "calls":
		for _, call := range args {
			var n [5]uintptr
			for i, part := range strings.SplitN(call, ":", 5) {
				value, _ := strconv.ParseUint(part, 0, 64)
				n[i] = uintptr(value)
			}
			_, _, errno := syscall.RawSyscall6(n[0], n[1], n[2], n[3], n[4], 0, 0)
			fmt.Println(int(errno))
		}
	case "trace":
		child := exec.Command(os.Args[0], "sleep", "60")
		if err := child.Start(); err != nil {
			say(nil, err)
			return
		}
		say("attached", syscall.PtraceAttach(child.Process.Pid))
		memory, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0)
		say(memory != nil, err)
		say("signalled", syscall.Kill(1, syscall.SIGKILL))
	case "run":
		output, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		fmt.Print(string(output))
		say("run", err)
	case "forks":
		for count := 0; ; count++ {
			child := exec.Command(os.Args[0], "sleep", "600")
			if err := child.Start(); err != nil || count > 100_000 {
				say(count, err)
				os.Exit(3)
			}
		}
	case "big":
		size, _ := strconv.ParseInt(args[1], 0, 64)
		signal.Ignore(syscall.SIGXFSZ)
		file, err := os.Create(args[0])
		if err == nil {
			err = file.Truncate(size)
		}
		say("truncated", err)
		if err == nil {
			os.Exit(0)
		}
		_, err = file.WriteAt([]byte("x"), size)
		say("written", err)
		os.Exit(4)
	case "fill":
		file, err := os.Create(args[0])
		limit, _ := strconv.Atoi(args[1])
		piece := bytes.Repeat([]byte("x"), 1<<20)
		for written := 0; err == nil && written < limit; written++ {
			_, err = file.Write(piece)
		}
		say("filled", err)
		if len(args) > 2 {
			time.Sleep(time.Hour)
		}
		os.Exit(5)
	case "nest":
		levels, _ := strconv.Atoi(args[1])
		top := filepath.Join(args[0], "nest")
		err := os.Mkdir(top, 0o755)
		for dir := top; err == nil && levels > 0; levels-- {
			if err = os.Chdir(dir); err == nil {
				dir = strings.Repeat("n", 200)
				err = os.Mkdir(dir, 0o755)
			}
		}
		say("nested", err)
		say("closed", os.Chmod(top, 0))
	case "swap":
		// For as long as it may: the file, and a link in its place.
		for {
			os.Symlink(args[1], args[0]+".link")
			os.Rename(args[0]+".link", args[0])
			os.Link(args[0]+".real", args[0]+".file")
			os.Rename(args[0]+".file", args[0])
		}
	case "memory":
		// Where nothing bounds it, it stops by itself: the machine has others to serve.
		var held [][]byte
		for len(held) < 96 {
			held = append(held, bytes.Repeat([]byte{1}, 16<<20))
			fmt.Println("held", len(held))
		}
		say(len(held), nil)
		os.Exit(9)
	case "sleep":
		seconds, _ := strconv.Atoi(args[0])
		time.Sleep(time.Duration(seconds) * time.Second)
	case "ready":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "relay":
		number, _ := strconv.Atoi(args[0])
		child := exec.Command(args[1], args[2:]...)
		child.Stderr = os.Stderr
		output, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			say(nil, err)
			return
		}
		io.ReadFull(output, make([]byte, len("ready")))
		say("ready", child.Process.Signal(syscall.Signal(number)))
		fmt.Println(child.Wait())
	case "daemon":
		daemon := exec.Command(os.Args[0], append([]string{"sleep", "36000"}, args...)...)
		daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		say("started", daemon.Start())
	case "stubborn":
		// A tree that hears no signal that can be unheard, each in a session of its own: DEPTH MARK.
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
		if depth, _ := strconv.Atoi(args[0]); depth > 0 {
			deeper := append([]string{"stubborn", strconv.Itoa(depth - 1)}, args[1:]...)
			child := exec.Command(os.Args[0], deeper...)
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			say("started", child.Start())
		}
		time.Sleep(10 * time.Hour)
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "kill":
		number, _ := strconv.Atoi(args[0])
		signal.Reset()
		syscall.Kill(os.Getpid(), syscall.Signal(number))
		time.Sleep(10 * time.Second)
	case "bytes":
		for round := 0; round < 64; round++ {
			for b := 0; b < 256; b++ {
				os.Stdout.Write(bytes.Repeat([]byte{byte(b)}, 7))
				os.Stderr.Write([]byte{byte(b)})
			}
		}
	case "stdin":
		content, err := io.ReadAll(os.Stdin)
		say(len(content), err)
	}
}

func say(what any, err error) {
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println("ok:", what)
}
