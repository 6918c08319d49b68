// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// Machine is a running virtual machine. Its process ends with the context it was started
// under, with Stop or Kill, when the guest switches itself off, and with the process that
// started it, however that ends.
type Machine struct {
	// Spec is what runs, completed: Accel is KVM or TCG and Dir is set.
	Spec Spec
	// Started is when QEMU was started.
	Started time.Time

	cmd     *exec.Cmd
	console *console
	monitor *qmp
	stderr  *bytes.Buffer
	ownDir  bool

	// onReset is called, from the monitor's goroutine, when the guest or Reset resets the
	// machine; console times count from that moment. onDisk is told of the first error of a disk.
	onReset func()
	onDisk  func(paused bool, err error)
	disk    sync.Once

	exited chan struct{}
	once   sync.Once
	// err is the process's own outcome, valid after exited is closed.
	err     error
	stopped bool // on purpose
	mu      sync.Mutex
}

// hooks are told what happens; each may be nil.
type hooks struct {
	// line is called for every console line, in order, from one goroutine.
	line func(Line)
	// note receives remarks for the user.
	note func(string)
	// reset is called when the machine was reset.
	reset func()
	// disk is told the first time that the host cannot do what the guest wants of a disk. A
	// paused guest does nothing any more.
	disk func(paused bool, err error)
}

// start runs QEMU for a completed spec and returns when its monitor answers.
func start(ctx context.Context, t *tool.Set, s Spec, ownDir bool, h hooks) (*Machine, error) {
	cmd, err := t.Command(context.WithoutCancel(ctx), "qemu-system-x86_64", Arguments(s, t.Dir)...)
	if err != nil {
		return nil, fault.Wrap(fault.Machine, err, "")
	}
	cmd.Dir = s.Dir
	// The kernel kills QEMU when the thread that started it goes; the group lets Kill reach
	// whatever QEMU started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	m := &Machine{Spec: s, cmd: cmd, stderr: &bytes.Buffer{}, ownDir: ownDir, onReset: h.reset, onDisk: h.disk, exited: make(chan struct{})}
	cmd.Stderr = m.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(s.Dir, qmpSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	m.Started = time.Now()
	m.console = &console{start: m.Started, now: time.Now, each: h.line}
	began := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig looks at this thread
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			began <- err
			return
		}
		began <- nil
		m.console.copy(out)
		m.err = cmd.Wait()
		close(m.exited)
	}()
	if err := <-began; err != nil {
		return nil, fault.Wrap(fault.Machine, fmt.Errorf("starting QEMU: %w", err), "the tool set at "+t.Dir+" must hold qemu-system-x86")
	}
	if m.monitor, err = m.connect(ctx); err != nil {
		m.Kill()
		return nil, m.failure(err)
	}
	go func() {
		select {
		case <-ctx.Done():
			m.Stop()
		case <-m.exited:
		}
	}()
	return m, nil
}

// connect waits for the monitor's socket. The directory is named through an open descriptor
// because its own name may be longer than a socket address holds.
func (m *Machine) connect(ctx context.Context) (*qmp, error) {
	dir, err := os.Open(m.Spec.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	address := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), qmpSocket)
	for {
		conn, err := net.Dial("unix", address)
		if err == nil {
			return newQMP(ctx, conn, m.event)
		}
		select {
		case <-m.exited:
			return nil, errors.New("QEMU ended before the guest started")
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// event handles what QEMU reports on its own.
func (m *Machine) event(name string, data json.RawMessage) {
	switch name {
	case "RESET":
		m.console.restart()
		if m.onReset != nil {
			m.onReset()
		}
	case "BLOCK_IO_ERROR":
		if m.onDisk != nil {
			m.disk.Do(func() { m.onDisk(diskError(m.Spec.Dir, data)) })
		}
	}
}

// diskError reads a BLOCK_IO_ERROR. QEMU pauses the guest when the host's disk is full, and lets
// it see any other error.
func diskError(dir string, data json.RawMessage) (paused bool, err error) {
	var e struct {
		Action, Operation, Reason string
		NoSpace                   bool
	}
	_ = json.Unmarshal(data, &e) // what it does not say stays empty
	if e.NoSpace {
		return e.Action == "stop", fault.New(fault.NoSpace, "make room there and run it again: the machine continues with the disk it has",
			"no space is left for the disk of the machine in %s", dir)
	}
	return e.Action == "stop", fault.New(fault.Machine, "look after the host's disk and its log", "%s of the machine's disk in %s: %s", e.Operation, dir, e.Reason)
}

// Exited is closed when the process has ended and all its output was read.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Err returns why the machine ended: nil when the guest switched itself off or Stop or Kill
// was called. It is valid after Exited.
func (m *Machine) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped || m.err == nil {
		return nil
	}
	return m.failure(fmt.Errorf("QEMU: %w", m.err))
}

// failure adds what QEMU and the guest said last.
func (m *Machine) failure(err error) error {
	if s := bytes.TrimSpace(m.errorOutput()); len(s) > 0 {
		err = fmt.Errorf("%w\n  QEMU says: %s", err, s)
	}
	if s := m.console.last(); s != "" {
		err = fmt.Errorf("%w\n  the console's last lines:\n%s", err, s)
	}
	return fault.Wrap(fault.Machine, err, "the whole console is in "+filepath.Join(m.Spec.Dir, ConsoleFile)+" while the run directory is kept")
}

// errorOutput is what QEMU wrote to its standard error; complete once the process has ended.
func (m *Machine) errorOutput() []byte {
	select {
	case <-m.exited:
		return m.stderr.Bytes()
	case <-time.After(time.Second):
		return nil
	}
}

// Failure classifies err as the machine's and quotes the console's last lines.
func (m *Machine) Failure(err error) error { return m.failure(err) }

// Stop asks QEMU to quit, kills it when it does not, and returns when it has ended. The
// guest is not told: to it this is a power cut with the disk's cache intact.
func (m *Machine) Stop() {
	m.end(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if m.monitor != nil {
			_, _ = m.monitor.do(ctx, "quit", nil) // the answer may be the end of the connection
		}
		select {
		case <-m.exited:
		case <-ctx.Done():
		}
	})
}

// Kill ends QEMU at once, in the middle of whatever it does.
func (m *Machine) Kill() { m.end(func() {}) }

func (m *Machine) end(ask func()) {
	m.once.Do(func() {
		select {
		case <-m.exited: // it ended by itself; keep its own outcome
		default:
			m.mu.Lock()
			m.stopped = true
			m.mu.Unlock()
			ask()
			_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	<-m.exited
	if m.ownDir {
		_ = os.RemoveAll(m.Spec.Dir)
	}
}

// Reset pulls the reset line, as the button on a machine does.
// Console times then count from here.
func (m *Machine) Reset(ctx context.Context) error { return m.command(ctx, "system_reset") }

// since is the time since the machine was started or reset.
func (m *Machine) since() time.Duration { return m.console.since() }

func (m *Machine) command(ctx context.Context, name string) error {
	_, err := m.monitor.do(ctx, name, nil)
	return fault.Wrap(fault.Machine, err, "")
}

// forwarded matches a line of "info usernet": protocol, descriptor, host address and port,
// guest address and port.
var forwarded = regexp.MustCompile(`(?m)^\s*TCP\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)`)

// Forward returns the loopback address (host:port) that leads to a TCP port of the guest.
func (m *Machine) Forward(ctx context.Context, guestPort int) (string, error) {
	text, err := m.monitor.human(ctx, "info usernet")
	if err != nil {
		return "", fault.Wrap(fault.Machine, err, "")
	}
	for _, f := range forwarded.FindAllStringSubmatch(text, -1) {
		if f[4] == strconv.Itoa(guestPort) {
			return net.JoinHostPort(f[1], f[2]), nil
		}
	}
	return "", fault.New(fault.Machine, "list the port in the interface's Forwards", "no port of the host leads to port %d of the guest", guestPort)
}

// PID is QEMU's process id.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Usage is what the ended process used, valid after Exited; nil if it is unknown.
func (m *Machine) Usage() *syscall.Rusage {
	u, _ := m.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return u
}

// Status asks QEMU for the guest's run state ("running", "shutdown", ...).
func (m *Machine) Status(ctx context.Context) (string, error) {
	raw, err := m.monitor.do(ctx, "query-status", nil)
	if err != nil {
		return "", fault.Wrap(fault.Machine, err, "")
	}
	var s struct{ Status string }
	return s.Status, json.Unmarshal(raw, &s)
}
