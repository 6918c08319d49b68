// SPDX-License-Identifier: Apache-2.0

// Command failover measures how long the virtual address is away: three machines in network
// namespaces, with the real keepalived and the configuration of first boot. It asserts
// nothing. It has to be root, and wants IMGBUILD_TEST_TOOLS as tests do:
//
//	IMGBUILD_TEST_TOOLS=$(out/imgbuild tool path verify) go run ./test/bench/failover [--kills 20] [--json out/failover.json]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// Measure is the time from an event until somebody else answers on the address, in seconds.
type Measure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Runs   []float64 `json:"runs"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Target float64   `json:"target"`
}

// event is something that happens to an owner, and how it is undone.
type event struct {
	name     string
	do, undo func(*lab.Machine) error
}

var events = []event{
	{"keepalived is killed", (*lab.Machine).Crash, func(m *lab.Machine) error { return errors.Join(m.Stop(), m.Start()) }},
	{"the machine is gone", func(m *lab.Machine) error { return m.Plug(false) }, func(m *lab.Machine) error { return m.Plug(true) }},
	{"the API server is gone", (*lab.Machine).StopAPI, (*lab.Machine).StartAPI},
}

func main() {
	kills := flag.Int("kills", 20, "how often each thing happens")
	output := flag.String("json", "out/failover.json", "where the report goes")
	flag.Parse()
	if err := run(*kills, *output); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func run(kills int, output string) (err error) {
	dir, err := os.MkdirTemp("", "failover-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	watch := filepath.Join(dir, "vip-health")
	if out, err := exec.Command("go", "build", "-o", watch, "./firstboot/cmd/vip-health").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	l, err := lab.New(3, tool.New(os.Getenv(referee.Variable)), watch, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, m := range l.Machines {
		if err := errors.Join(m.StartAPI(), m.Start()); err != nil {
			return err
		}
	}
	var report []Measure
	for _, e := range events {
		m := Measure{Name: "virtual address back after " + e.name, Unit: "s", Target: 3}
		for range kills {
			owner, err := settled(l)
			if err != nil {
				return err
			}
			began := time.Now()
			if err := e.do(owner); err != nil {
				return err
			}
			if _, err := answer(l, owner.Name); err != nil {
				return err
			}
			m.Runs = append(m.Runs, time.Since(began).Seconds())
			if err := e.undo(owner); err != nil {
				return err
			}
		}
		sorted := slices.Sorted(slices.Values(m.Runs))
		m.Median, m.Max = (sorted[(len(sorted)-1)/2]+sorted[len(sorted)/2])/2, sorted[len(sorted)-1]
		fmt.Printf("%-50s median %.2f s, longest %.2f s of %d, target %.0f s\n", m.Name, m.Median, m.Max, len(m.Runs), m.Target)
		report = append(report, m)
	}
	text, err := json.MarshalIndent(map[string]any{"date": time.Now().UTC().Format(time.RFC3339), "measures": report}, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(output), 0o755), os.WriteFile(output, append(text, '\n'), 0o644))
}

// settled waits until one owner answers and all machines have been well for a while.
func settled(l *lab.Lab) (*lab.Machine, error) {
	time.Sleep(4 * time.Second)
	for range 1000 {
		owners, err := l.Owners()
		if err != nil {
			return nil, err
		}
		if len(owners) == 1 {
			if _, err := answer(l, ""); err == nil {
				return owners[0], nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.New("there is no single owner")
}

// answer asks until somebody other than the machine named not answers.
func answer(l *lab.Lab, not string) (string, error) {
	end := time.Now().Add(time.Minute)
	for time.Now().Before(end) {
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		name, err := l.Ask(ctx)
		cancel()
		if err == nil && name != not {
			return name, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", errors.New("nobody answers on the address")
}
