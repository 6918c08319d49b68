// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// KVMDeadline is how long a machine under KVM may take to its first console line. Firmware on
// working hardware needs about a second.
const KVMDeadline = 5 * time.Second

// Boot starts a machine. each receives every console line of the machine that stays; note
// receives remarks for the user, such as why KVM is not used. Both may be nil.
func Boot(ctx context.Context, t *tool.Set, s Spec, each func(Line), note func(string)) (*Machine, error) {
	return bootWith(ctx, t, s, hooks{line: each, note: note})
}

func bootWith(ctx context.Context, t *tool.Set, s Spec, h hooks) (*Machine, error) {
	s = s.withDefaults()
	if err := s.Validate(); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "correct the machine's description")
	}
	if s.Accel != Auto {
		return boot(ctx, t, s, h)
	}
	reason := kvmUnusable()
	if reason == "" {
		m, err := tryKVM(ctx, t, s, h)
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		reason = brief(err)
	}
	if h.note != nil {
		h.note("KVM is not used: " + reason)
	}
	s.Accel = TCG
	return boot(ctx, t, s, h)
}

// boot starts a machine whose accelerator is chosen.
func boot(ctx context.Context, t *tool.Set, s Spec, h hooks) (*Machine, error) {
	own := s.Dir == ""
	var err error
	if own {
		if s.Dir, err = os.MkdirTemp("", "imgbuild-vm-"); err != nil {
			return nil, err
		}
	} else if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return nil, err
	}
	s.Disks = slices.Clone(s.Disks)
	paths := []*string{&s.Kernel, &s.Initrd, &s.Ignition}
	for i := range s.Disks {
		paths = append(paths, &s.Disks[i])
	}
	for _, p := range paths {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return nil, err
			}
		}
	}
	if err = prepare(ctx, t, s); err == nil {
		var m *Machine
		if m, err = start(ctx, t, s, own, h); err == nil {
			return m, nil
		}
	}
	if own {
		_ = os.RemoveAll(s.Dir)
	}
	return nil, err
}

// brief reduces a failed try to one line: what QEMU itself said, if anything.
func brief(err error) string {
	text := err.Error()
	if _, said, ok := strings.Cut(text, "QEMU says: "); ok {
		text = said
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// kvmUnusable says why KVM need not be tried, or "".
func kvmUnusable() string {
	if runtime.GOARCH != "amd64" {
		return "the host is " + runtime.GOARCH
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	return ""
}

// tryKVM boots in a directory of its own, so that a failed try leaves nothing in the disk of
// the machine that follows. A try that speaks in time is started again in its real place only
// when it has a real place; otherwise it stays.
func tryKVM(ctx context.Context, t *tool.Set, s Spec, h hooks) (*Machine, error) {
	s.Accel = KVM
	first := make(chan struct{})
	var once sync.Once
	var gate sync.Mutex
	var early []Line
	open := false
	keepDir := s.Dir
	s.Dir = ""
	gated := h
	gated.line = func(l Line) {
		once.Do(func() { close(first) })
		gate.Lock()
		defer gate.Unlock()
		if !open {
			early = append(early, l)
		} else if h.line != nil {
			h.line(l)
		}
	}
	m, err := boot(ctx, t, s, gated)
	if err != nil {
		return nil, err
	}
	select {
	case <-first:
	case <-m.Exited():
		m.Kill()
		return nil, m.failure(errors.New("QEMU ended under KVM"))
	case <-ctx.Done():
		m.Kill()
		return nil, ctx.Err()
	case <-time.After(KVMDeadline):
		m.Kill()
		return nil, fmt.Errorf("no console line within %s of starting under KVM", KVMDeadline)
	}
	if keepDir != "" {
		m.Kill()
		s.Dir = keepDir
		return boot(ctx, t, s, h)
	}
	gate.Lock()
	defer gate.Unlock()
	for _, l := range early {
		if h.line != nil {
			h.line(l)
		}
	}
	open = true
	return m, nil
}
