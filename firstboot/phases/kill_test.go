// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/status"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// processEnv holds, in JSON, what a process of this test program needs to run first boot.
const processEnv = "IMGBUILD_TEST_FIRSTBOOT"

// process is first boot in a process of its own, which can be killed as on a machine.
type process struct {
	Root, Containerd, Loopback string
	Address                    netip.Addr
	// Killed lists the transitions at which earlier processes died. This one dies at the first
	// that is not listed; without a file it lives.
	Killed string
	// Earlier moves the moment that certificates count from.
	Earlier time.Duration
	// OnLoopback says that the document has addresses of the loopback interface, which node.Load
	// refuses.
	OnLoopback bool
}

// TestFirstBootProcess is the program that other tests start and kill.
func TestFirstBootProcess(t *testing.T) {
	text := os.Getenv(processEnv)
	if text == "" {
		t.Skip("other tests run this one")
	}
	var p process
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if err := p.run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (p *process) run(ctx context.Context) (err error) {
	n, digest, err := p.document()
	if err != nil {
		return err
	}
	dead := &killer{file: p.Killed}
	graph, err := Graph(n.Timeouts)
	if err == nil {
		graph, err = dead.in(graph)
	}
	if err != nil {
		return err
	}
	rep := &status.Reporter{File: filepath.Join(p.Root, status.Path), Console: os.Stdout, Redactor: &status.Redactor{}, Clock: status.SystemClock()}
	if n.Callback.URL != "" {
		if rep.Callback, err = status.NewCallback(n.Callback.URL, n.Callback.CA, n.Callback.Token.Reveal()); err != nil {
			return err
		}
	}
	rep.Start(n.Node.Name, string(n.Role), "", "", graph.Plan(string(n.Role)))
	defer func() { rep.End(err); err = errors.Join(err, rep.Close()) }()
	journal, err := phase.OpenJournal(filepath.Join(p.Root, phase.JournalPath))
	if err != nil {
		return err
	}
	defer journal.Close()
	// Nothing is redacted in this log, so that a secret in it is found.
	s := NewState(n, slog.New(slog.NewTextHandler(os.Stderr, nil)), rep.Mark)
	s.Root, s.Containerd, s.loopbackAddress, s.inspect, s.Start = p.Root, p.Containerd, p.Loopback, untouched, time.Now().Add(-p.Earlier)
	s.StartUnit, s.RestartUnit = p.unit, p.unit
	s.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: n.Node.Name, Address: p.Address, KubernetesVersion: "v1.36.3"}, nil
	}
	runner := &phase.Runner[*State]{Graph: graph, Journal: journal, Role: string(n.Role), Document: digest, Observer: both{rep, dead}}
	return runner.Run(ctx, s)
}

func (p *process) document() (*node.Node, string, error) {
	file := filepath.Join(p.Root, node.Path)
	if !p.OnLoopback {
		return node.Load(file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	n := &node.Node{}
	doc := strict.Decode(file, text, n, strict.EmptyIsZero)
	node.SetDefaults(n)
	return n, node.Digest(text), doc.Err()
}

// unit asks the machine to start a unit, as systemd is asked: the request outlives the process.
func (p *process) unit(_ context.Context, unit string) error {
	dir := filepath.Join(p.Root, unitRequests)
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, unit), nil, 0o644))
}

const unitRequests = "/run/requests"

type both []phase.Observer

func (list both) Transition(t phase.Transition) {
	for _, o := range list {
		o.Transition(t)
	}
}

// killer ends the process at the first transition of the journal that its file does not name.
type killer struct {
	mu   sync.Mutex
	file string
	here sync.Map // points that phases have come to
}

// in returns the graph with a deadly beginning of every phase: its start entry is written.
func (k *killer) in(g *phase.Graph[*State]) (*phase.Graph[*State], error) {
	phases := g.For("")
	for i, p := range phases {
		run := p.Run
		phases[i].Run = func(ctx context.Context, s *State) error {
			k.at(p.Name + " start")
			return run(ctx, s)
		}
	}
	return phase.New(phases...)
}

// Transition is deadly once a phase's done entry is written.
func (k *killer) Transition(t phase.Transition) {
	if t.State == phase.Done || t.State == phase.Checked {
		k.at(t.Phase + " done")
	}
}

// at ends the process, unless an earlier one ended at this point. Phases run beside each other:
// those that have come to a point of theirs by then are cut off there as well, and may not come
// there again, as what they find next time is checked first. Of one that has not come there the
// journal has the beginning (cutOff).
func (k *killer) at(point string) {
	if k.file == "" {
		return
	}
	k.here.Store(point, nil)
	k.mu.Lock()
	defer k.mu.Unlock()
	text, err := os.ReadFile(k.file)
	earlier := strings.Split(string(text), "\n")
	if err == nil && slices.Contains(earlier, point) {
		k.here.Delete(point)
		return
	}
	f, err := os.OpenFile(k.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		var lines strings.Builder
		k.here.Range(func(other, _ any) bool {
			if other != point && !slices.Contains(earlier, other.(string)) {
				fmt.Fprintln(&lines, other)
			}
			return true
		})
		_, err = fmt.Fprint(f, lines.String()+point+"\n")
	}
	if err != nil {
		panic(err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// computer is a machine whose first boot is a process. What is not first boot, the kubelet and
// the pods, goes on when that dies, and ends when the computer is switched off.
type computer struct {
	*machine
	process
	// state is that of a run on it, for what is done from outside.
	state *State
	off   func()
	// log has everything the processes wrote.
	log string
	// cuts are the transitions at which the whole computer is switched off.
	cuts []string
}

// newComputer prepares a machine with a document on its disk.
func newComputer(t *testing.T, n *node.Node, address netip.Addr, loopback string) *computer {
	t.Helper()
	m, s := newMachine(t, context.Background())
	m.node, m.loopback = n.Node.Name, loopback
	s.Node, s.loopbackAddress, s.StopUnit = n, loopback, nil
	s.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: m.node, Address: address, KubernetesVersion: "v1.36.3"}, nil
	}
	c := &computer{machine: m, state: s, process: process{Root: m.root, Containerd: s.Containerd, Loopback: loopback, Address: address}, off: func() {}}
	c.log = filepath.Join(t.ArtifactDir(), m.node+"-firstboot.log")
	text, err := yaml.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kubeadm.WriteFiles(m.root, kubeadm.File{Path: node.Path, Mode: 0o600, Data: text}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.off() })
	return c
}

// on switches the computer on: systemd starts the kubelet once its configuration is there.
func (c *computer) on() {
	ctx, cancel := context.WithCancel(context.Background())
	c.machine.ctx, c.machine.start = ctx, sync.Once{}
	c.off = func() { cancel(); c.wg.Wait() }
	if c.has(kubeadm.KubeletDir + "/config.yaml") {
		_ = c.startUnit(ctx, KubeletUnit)
	}
	c.wg.Go(func() {
		for ctx.Err() == nil {
			if c.has(unitRequests + "/" + KubeletUnit) {
				if err := errors.Join(os.Remove(c.root+unitRequests+"/"+KubeletUnit), c.startUnit(ctx, KubeletUnit)); err != nil {
					c.t.Error(err)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// asked are the units, but for the kubelet, that were asked for since the computer was switched on.
func (c *computer) asked(t *testing.T) (units []string) {
	t.Helper()
	requests, err := os.ReadDir(c.root + unitRequests)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, r := range requests {
		if r.Name() != KubeletUnit {
			units = append(units, r.Name())
		}
	}
	return units
}

// cut takes the power away, and what is in memory with it.
func (c *computer) cut(t *testing.T) {
	t.Helper()
	c.off()
	if err := os.RemoveAll(c.root + "/run"); err != nil {
		t.Fatal(err)
	}
}

// boot runs first boot once and says whether it was killed.
func (c *computer) boot(ctx context.Context) (killed bool, err error) {
	text, err := json.Marshal(c.process)
	if err != nil {
		return false, err
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	defer log.Close()
	goruntime.LockOSThread() // Pdeathsig follows the thread that starts the process
	defer goruntime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^TestFirstBootProcess$", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("%w; see %s", err, c.log)
	}
	return false, err
}

// bootUndisturbed runs first boot to its end.
func (c *computer) bootUndisturbed(t *testing.T) {
	t.Helper()
	c.on()
	if killed, err := c.boot(t.Context()); killed || err != nil {
		t.Fatal(killed, err)
	}
}

// resolve makes the state of a machine whose first boot is over.
func (c *computer) resolve(t *testing.T) *State {
	t.Helper()
	if err := identity(t.Context(), c.state); err != nil {
		t.Fatal(err)
	}
	known, err := LoadMembership(c.root)
	if err != nil {
		t.Fatal(err)
	}
	if c.state.Membership = known; known != nil {
		known.Apply(c.state.Config)
	}
	return c.state
}

// powerCuts is after how many deaths of first boot the whole computer is switched off in any case.
const powerCuts = 16

// bootKilled runs first boot until one run lives, each of the others dying at a transition that
// was not reached before, and returns these.
func (c *computer) bootKilled(t *testing.T) []string {
	t.Helper()
	c.Killed = filepath.Join(t.ArtifactDir(), c.node+"-killed")
	c.on()
	for deaths := 1; ; deaths++ {
		killed, err := c.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !killed {
			break
		}
		points := c.killedAt(t)
		if deaths%powerCuts == 0 || slices.Contains(c.cuts, points[len(points)-1]) {
			c.cut(t)
			c.on()
		}
	}
	return append(c.killedAt(t), c.cutOff(t)...)
}

// cutOff are the transitions at which phases were that another one took along: begun, as the
// journal says, and begun again by another process, or found done by it. A kill knows only
// those that came to their point before it.
func (c *computer) cutOff(t *testing.T) (points []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, phase.JournalPath))
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := phase.ParseJournal(text)
	if err != nil {
		t.Fatal(err)
	}
	begun := map[string]bool{}
	for _, e := range entries {
		started := e.Event == phase.EventStart
		if begun[e.Phase] && (started || e.Checked) {
			points = append(points, e.Phase+"/start")
		}
		begun[e.Phase] = started
	}
	return points
}

// killedAt are the transitions at which first boot died, in their order.
func (c *computer) killedAt(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(c.Killed)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(strings.ReplaceAll(string(text), " ", "/"))
}

// everyTransition fails when first boot did not die before and after each phase of a role.
func everyTransition(t *testing.T, role node.Role, killed []string) {
	t.Helper()
	g, err := Graph(node.Timeouts{KubernetesAPICall: 1, Discovery: 1, EtcdAPICall: 1, TLSBootstrap: 1, NodeReady: 1, KubeletHealthCheck: 1, ControlPlaneComponentHealthCheck: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range g.For(string(role)) {
		for _, event := range []string{"start", "done"} {
			if !slices.Contains(killed, p.Name+"/"+event) {
				t.Errorf("first boot was not killed at %s of phase %s", event, p.Name)
			}
		}
	}
	slices.Sort(killed)
	t.Logf("killed at %d transitions", len(slices.Compact(killed)))
}
