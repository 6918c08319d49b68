// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// away is how long the virtual address should be away at most, in seconds, at the median.
const away = 3

// incident is something that happens to the owner of the virtual address, and how it is undone.
type incident struct {
	name     string
	do, undo func(*lab.Machine) error
}

var incidents = []incident{
	{"keepalived is killed", (*lab.Machine).Crash, func(m *lab.Machine) error { return errors.Join(m.Stop(), m.Start()) }},
	{"the machine is gone", func(m *lab.Machine) error { return m.Plug(false) }, func(m *lab.Machine) error { return m.Plug(true) }},
	{"the API server is gone", (*lab.Machine).StopAPI, (*lab.Machine).StartAPI},
}

// failover measures how long the virtual address is away: three machines in network
// namespaces, with the real keepalived, the watch beside it and the configuration that first
// boot renders. A run is the time from an incident until another machine answers.
func (b *bench) failover() (err error) {
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(), b.labLogs(l, err != nil)) }()
	for _, m := range l.Machines {
		if err := errors.Join(m.StartAPI(), m.Start()); err != nil {
			return err
		}
	}
	for _, e := range incidents {
		m := Measure{Name: "virtual address back after " + e.name, Unit: "s", Target: away, Note: "in network namespaces"}
		for i := range b.kills {
			took, err := b.suffer(l, e)
			if err != nil {
				return fmt.Errorf("%s, %d: %w", e.name, i+1, err)
			}
			b.say("%s, %d of %d: back in %.2f s", e.name, i+1, b.kills, took.Seconds())
			m.Runs = append(m.Runs, took.Seconds())
		}
		if len(m.Runs) > 0 {
			b.report.add(m)
		}
	}
	return nil
}

// lab makes the segment and three machines on which nothing runs yet.
func (b *bench) lab() (*lab.Lab, error) {
	tools, err := b.imgbuild("tool", "path", "verify")
	if err != nil {
		return nil, err
	}
	watch := filepath.Join(b.dir, "vip-health")
	build := exec.CommandContext(b.ctx, "go", "build", "-o", watch, "./firstboot/cmd/vip-health")
	build.Dir = b.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return lab.New(3, tool.New(tools), watch, filepath.Join(b.dir, "lab"))
}

// labLogs keeps what keepalived and the watch said, when it may explain something.
func (b *bench) labLogs(l *lab.Lab, wanted bool) error {
	if !wanted {
		return nil
	}
	var text strings.Builder
	for _, m := range l.Machines {
		text.WriteString(m.Log())
	}
	file := filepath.Join(b.output, "failover.log")
	b.say("what keepalived said is in %s", file)
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// suffer lets an incident happen to the owner and waits until another machine answers.
func (b *bench) suffer(l *lab.Lab, e incident) (time.Duration, error) {
	owner, err := b.settled(l)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := e.do(owner); err != nil {
		return 0, err
	}
	if err := b.answers(l, owner.Name); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, e.undo(owner)
}

// calm is how long nothing happens before the next incident: more than keepalived takes to
// notice that a machine is back and to announce an owner once more.
const calm = 4 * time.Second

// settled waits until one owner answers and all machines have been well for a while.
func (b *bench) settled(l *lab.Lab) (*lab.Machine, error) {
	if err := b.pause(calm); err != nil {
		return nil, err
	}
	var owners []*lab.Machine
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var err error
		if owners, err = l.Owners(); err != nil {
			return nil, err
		}
		if len(owners) == 1 && b.answers(l, "") == nil {
			return owners[0], nil
		}
		if err := b.pause(20 * time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%d machines own the virtual address, after a minute without an incident", len(owners))
}

// answers asks until a machine other than the one named not answers.
func (b *bench) answers(l *lab.Lab, not string) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(b.ctx, 250*time.Millisecond)
		name, err := l.Ask(ctx)
		cancel()
		if err == nil && name != not {
			return nil
		}
		if err := b.pause(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("nobody answers on the virtual address")
}

// pause waits, unless the benchmark is interrupted.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}
