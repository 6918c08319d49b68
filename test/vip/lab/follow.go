// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// Add makes another machine, whose document lists everybody who is there. The documents of
// the others do not change, as on real machines.
func (l *Lab) Add() (*Machine, error) {
	m, err := l.machine(len(l.Machines))
	if err != nil {
		return nil, err
	}
	l.Machines = append(l.Machines, m)
	m.listed = l.Machines[:len(l.Machines):len(l.Machines)]
	return m, nil
}

// Follow does on the machine what firstboot-follow.service does once, at a time that is later
// than now. The real keepalived is started, told and stopped.
func (m *Machine) Follow(ctx context.Context, c *Cluster, later time.Duration) (followed *phases.Followed, err error) {
	if err := m.follows(c); err != nil {
		return nil, err
	}
	m.follower.Now = func() time.Time { return time.Now().Add(later) }
	// It looks for the interface with the machine's address.
	err = m.space.do(func() error {
		followed, err = m.follower.Once(ctx)
		return err
	})
	return followed, err
}

// follows gives the machine a follower, which remembers from one look to the next what the
// program remembers.
func (m *Machine) follows(c *Cluster) error {
	if m.follower != nil {
		return nil
	}
	n, conf, err := m.lab.document(m)
	if err != nil {
		return err
	}
	unit := func(do func() error) func(context.Context, string) error {
		return func(_ context.Context, name string) error {
			if name != vip.Unit {
				return fmt.Errorf("unit %s is none of the lab's", name)
			}
			return do()
		}
	}
	m.follower = &phases.Follower{
		State: &phases.State{Root: m.root(), Node: n, Config: conf, Log: slog.New(slog.DiscardHandler),
			StartUnit: unit(m.startKeepalived), StopUnit: unit(func() error { return m.end(&m.keepalived, syscall.SIGTERM) })},
		Nodes: c.Nodes, Announce: func(_ context.Context, value string) error { return c.announce(m.Name, value) },
		Reload: unit(m.reload), Owned: m.lab.owned, Settle: 100 * time.Millisecond,
	}
	return nil
}

// Boot does what systemd does on a machine that is switched on after its first boot. It starts
// the watch, keepalived if the conditions of its unit, paths on the machine, hold, and
// firstboot-follow.service. It returns when that has ended, which is when the machine stands for
// election.
func (m *Machine) Boot(ctx context.Context, c *Cluster, conditions []string) error {
	if err := errors.Join(m.follows(c), m.startWatch()); err != nil {
		return err
	}
	holds := !slices.ContainsFunc(conditions, func(path string) bool {
		_, err := os.Stat(filepath.Join(m.root(), path))
		return err != nil
	})
	if holds {
		if err := m.startKeepalived(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(m.root(), phases.FollowFile)); err != nil {
		return err
	}
	m.follower.Now = time.Now
	return m.space.do(func() error { return m.follower.Run(ctx, 0, 100*time.Millisecond) })
}

// owned says whether anybody has the address, as a machine finds out.
func (l *Lab) owned(context.Context) bool {
	owners, err := l.Owners()
	return err != nil || len(owners) > 0
}

// Reboot ends everything on the machine and empties what is in memory.
func (m *Machine) Reboot() error {
	m.follower = nil
	return errors.Join(m.Stop(), os.RemoveAll(filepath.Join(m.root(), "run")))
}

// Wipe is Reboot with an empty disk.
func (m *Machine) Wipe() error { return errors.Join(m.Reboot(), os.RemoveAll(m.root())) }

// Configuration is what keepalived reads.
func (m *Machine) Configuration() (string, error) {
	text, err := os.ReadFile(filepath.Join(m.root(), vip.ConfigFile))
	return string(text), err
}

// Running says whether keepalived runs.
func (m *Machine) Running() bool { return m.keepalived != nil }

func (m *Machine) root() string { return filepath.Join(m.dir, "root") }

// configure brings the machine's configuration to where keepalived looks for it. Only the
// paths of this machine's files are its own.
func (m *Machine) configure() (string, error) {
	text, err := os.ReadFile(filepath.Join(m.root(), vip.ConfigFile))
	if err != nil {
		return "", err
	}
	config := filepath.Join(m.dir, "keepalived.conf")
	for from, to := range map[string]string{vip.StateFile: m.state(), vip.OwnerFile: m.owner()} {
		text = bytes.ReplaceAll(text, []byte(from), []byte(to))
	}
	return config, os.WriteFile(config, text, 0o644)
}

func (m *Machine) state() string { return filepath.Join(m.dir, "apiserver") }
func (m *Machine) owner() string { return filepath.Join(m.dir, "owner") }

// reload does what the unit's ExecReload does. A unit that does not run is left alone.
func (m *Machine) reload() error {
	if m.keepalived == nil {
		return nil
	}
	if _, err := m.configure(); err != nil {
		return err
	}
	return m.keepalived.Process.Signal(syscall.SIGHUP)
}
