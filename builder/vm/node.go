// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Node is a node image in a running machine.
type Node struct {
	Machine *Machine
	// API is the loopback address of the API server, Kubeconfig an administrator's file.
	API, Kubeconfig string

	opts     Options
	recorder *Recorder
	ca       *pki.Pair
	ahead    time.Duration // of the machine's clock
	ctx      context.Context
	cancel   context.CancelFunc
	watching sync.WaitGroup

	// started is closed when Machine is set or cannot be; console lines may come before.
	started  chan struct{}
	emitMu   sync.Mutex
	mu       sync.Mutex
	failures Failures
	accel    Accel      // known when QEMU runs
	outcome  chan error // the current boot's: nil when Ready
	settled  bool
	stop     context.CancelFunc // of the current boot's watcher
	// nextBoot is closed when the boot after the current one begins.
	nextBoot chan struct{}
}

// Start boots an image and returns while it boots. The node ends with ctx.
func Start(ctx context.Context, t *tool.Set, o Options) (*Node, error) {
	o = o.withDefaults()
	own := o.Spec.Dir == ""
	if own {
		dir, err := os.MkdirTemp("", "imgbuild-run-")
		if err != nil {
			return nil, err
		}
		o.Spec.Dir = dir
	} else if err := os.MkdirAll(o.Spec.Dir, 0o700); err != nil {
		return nil, err
	}
	n := &Node{opts: o, started: make(chan struct{})}
	if !o.Spec.Clock.IsZero() {
		n.ahead = time.Until(o.Spec.Clock)
	}
	n.ctx, n.cancel = context.WithCancel(ctx)
	err := n.start(t)
	if n.Machine != nil {
		n.Machine.ownDir = own
	}
	if err != nil {
		n.Close()
		if own {
			_ = os.RemoveAll(o.Spec.Dir)
		}
		return nil, err
	}
	return n, nil
}

// start prepares the config, boots, and begins to watch.
func (n *Node) start(t *tool.Set) error {
	defer close(n.started)
	o := &n.opts
	config, err := n.config()
	if err != nil {
		return err
	}
	if n.ca, err = authority(config); err != nil && !errors.Is(err, ErrNoAuthority) {
		return fault.Wrap(fault.Config, err, "correct "+o.Spec.Ignition)
	}
	n.recorder = &Recorder{Title: o.Title}
	// Without progress of systemd's on the console, the time line would not show where the
	// initrd ends.
	o.Spec.KernelArguments = append(slices.Clone(o.Spec.KernelArguments), "systemd.show_status=1", "rd.systemd.show_status=1")
	n.arm()
	if n.Machine, err = bootWith(n.ctx, t, o.Spec, hooks{line: n.line, note: func(text string) { n.note(0, text) }, reset: n.rebooted, disk: n.diskFailed}); err != nil {
		return err
	}
	s := n.Machine.Spec
	n.mu.Lock()
	n.accel = s.Accel
	n.mu.Unlock()
	n.recorder.Machine = fmt.Sprintf("QEMU %s, %d CPUs, %d MiB, UEFI", s.Accel, s.CPUs, s.MemoryMiB)
	if n.API, err = n.Machine.Forward(n.ctx, kubeAPIPort); err != nil {
		return err
	}
	if n.ca != nil {
		n.Kubeconfig = filepath.Join(s.Dir, "admin.conf")
		if err := writeKubeconfig(n.Kubeconfig, n.API, n.ca, n.now()); err != nil {
			return err
		}
	}
	go func() {
		<-n.Machine.Exited()
		err := n.Machine.Err()
		if err == nil {
			err = n.Machine.Failure(errors.New("the machine was switched off"))
		}
		n.settle(err)
		n.cancel()
	}()
	return n.watch()
}

// arm prepares for the outcome of one boot. Who waits for a boot that came to nothing waits for
// the next.
func (n *Node) arm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outcome == nil || n.settled {
		n.outcome, n.settled = make(chan error, 1), false
	}
	n.nextBoot = make(chan struct{})
}

// settle delivers the outcome of the current boot once.
func (n *Node) settle(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.settled {
		n.settled = true
		n.outcome <- err
	}
}

// watch asks the API until the node is Ready.
func (n *Node) watch() error {
	if n.ca == nil {
		return nil // the console alone decides
	}
	config, err := clientTLS(n.ca, n.now)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(n.ctx)
	n.mu.Lock()
	n.stop = stop
	n.mu.Unlock()
	w := newWatcher(n.API, config, n.Machine.console.began())
	n.watching.Go(func() {
		defer stop()
		_ = w.watch(ctx, // ends early only when the boot does
			func() { n.observe(APIAnswered) },
			func() { n.observe(ReadySeen); n.settle(nil) })
	})
	return nil
}

// now is what the machine's clock says, by which its certificates are valid.
func (n *Node) now() time.Time { return time.Now().Add(n.ahead) }

func (n *Node) observe(kind Kind) {
	e := Event{At: n.Machine.since(), Kind: kind, Uptime: -1}
	n.recorder.Event(e)
	n.emit(e)
}

func (n *Node) note(at time.Duration, text string) {
	n.emit(Event{At: at, Kind: Noted, Text: text, Uptime: -1})
}

func (n *Node) emit(e Event) {
	if n.opts.Events != nil {
		n.emitMu.Lock()
		defer n.emitMu.Unlock()
		n.opts.Events(e)
	}
}

// line handles one console line.
func (n *Node) line(l Line) {
	if n.opts.Lines != nil {
		n.opts.Lines(l)
	}
	e, ok := n.recorder.Line(l)
	if !ok {
		return
	}
	n.emit(e)
	if e.Kind == NodeReady && n.ca == nil {
		n.recorder.Event(Event{At: e.At, Kind: ReadySeen, Uptime: -1})
		n.settle(nil)
	}
	switch n.judge(e) {
	case Restarts:
		n.note(e.At, restartsBecause)
	case Ended:
		n.failAfter(lastWords(e), func() error { return notStarted(e) })
	case GoesOn:
		if e.Kind == NodeFailed {
			n.failAfter(beginLimit, n.unlessBegun(e))
		}
	}
}

// failAfter settles the current boot with an error that is asked for later, unless it is nil.
func (n *Node) failAfter(d time.Duration, why func() error) {
	n.mu.Lock()
	boot := n.outcome
	n.mu.Unlock()
	go func() {
		select {
		case <-time.After(d):
		case <-n.ctx.Done():
		}
		if <-n.started; n.Machine == nil {
			return
		}
		n.mu.Lock()
		current := n.outcome == boot
		n.mu.Unlock()
		if err := why(); err != nil && current {
			n.settle(n.Machine.Failure(err))
		}
	}()
}

// unlessBegun is an error for as long as no attempt of first boot follows the one that an event
// tells the end of.
func (n *Node) unlessBegun(e Event) func() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	attempt := n.failures.Attempts()
	return func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ctx.Err() == nil && n.failures.GivenUp(attempt) {
			return noFurther(e)
		}
		return nil
	}
}

// diskFailed ends the boot of a machine that can go no further, or says what it has met.
func (n *Node) diskFailed(paused bool, err error) {
	go func() { // who calls reads the answers that starting waits for
		if <-n.started; n.Machine == nil {
			return
		}
		n.note(n.Machine.since(), brief(err))
		if paused {
			n.settle(err)
		}
	}()
}

func (n *Node) judge(e Event) Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failures.Judge(e, n.accel)
}

// WaitReady returns when the node is Ready, failed, or took too long.
func (n *Node) WaitReady(ctx context.Context) (*Result, error) {
	n.mu.Lock()
	outcome := n.outcome
	n.mu.Unlock()
	limit := time.NewTimer(n.opts.Timeout)
	defer limit.Stop()
	select {
	case err := <-outcome:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit.C:
		return nil, n.Machine.Failure(fmt.Errorf("the node was not Ready after %s", n.opts.Timeout))
	}
	line := n.recorder.Timeline()
	return &Result{Ready: line.Ready, Kubeconfig: n.Kubeconfig, API: n.API, Accel: n.Machine.Spec.Accel, PID: n.Machine.PID(),
		Console: filepath.Join(n.Machine.Spec.Dir, ConsoleFile), Timeline: line}, nil
}

// Timeline is what is known of the current boot so far.
func (n *Node) Timeline() *timeline.Timeline { return n.recorder.Timeline() }

// Reboot calls trigger, which makes the guest restart, and returns when it has begun to.
// WaitReady and the time line then speak of the new boot.
func (n *Node) Reboot(ctx context.Context, trigger func() error) error {
	n.mu.Lock()
	next := n.nextBoot
	n.mu.Unlock()
	if err := trigger(); err != nil {
		return err
	}
	select {
	case <-next:
		return nil
	case <-n.Machine.Exited():
		return n.Machine.Failure(errors.New("the machine ended instead of restarting"))
	case <-ctx.Done():
		return n.Machine.Failure(fmt.Errorf("the machine did not restart: %w", ctx.Err()))
	}
}

// rebooted begins a new boot: earlier observations are forgotten.
func (n *Node) rebooted() {
	if <-n.started; n.Machine == nil {
		return // it did not come to be
	}
	n.mu.Lock()
	stop, begun := n.stop, n.nextBoot
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
	n.watching.Wait()
	n.recorder.Reset()
	n.mu.Lock()
	n.failures.Rebooted()
	n.mu.Unlock()
	n.arm()
	if err := n.watch(); err != nil {
		n.settle(err)
	}
	close(begun)
}

// Close ends the machine and waits until it has.
func (n *Node) Close() {
	n.cancel()
	if n.Machine != nil {
		n.Machine.Stop()
	}
	n.watching.Wait()
}
