// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// paper is a fleet whose machines are switched on and exist in a test's words alone.
func paper(t *testing.T, names ...string) (f *Fleet, told func() []string) {
	f = &Fleet{news: make(chan struct{}), opts: FleetOptions{Timeout: time.Hour, Dir: "/d"}}
	f.ctx, f.cancel = context.WithCancel(t.Context())
	t.Cleanup(f.cancel)
	var notes []string
	f.opts.Events = func(host string, e Event) {
		if e.Kind == Noted {
			notes = append(notes, host+": "+e.Text)
		}
	}
	for _, name := range names {
		f.Members = append(f.Members, &Member{Host: FleetHost{Name: name}, Dir: "/d/" + name, fleet: f, recorder: &Recorder{},
			outcome: &outcome{since: time.Now()}})
	}
	return f, func() []string { f.emitMu.Lock(); defer f.emitMu.Unlock(); return notes }
}

// waits runs WaitReady and says whether it has ended, once nothing moves any more.
func waits(t *testing.T, f *Fleet) func() (ended bool, err error) {
	result := make(chan error, 1)
	go func() { result <- f.WaitReady(t.Context()) }()
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err := <-result:
			return true, err
		default:
			return false, nil
		}
	}
}

const (
	saysReady  = "imgbuild: node a Ready t=9.0s"
	saysStart  = "imgbuild: start a role worker t=1.0s"
	saysFailed = "imgbuild: node a failed t=48.2s: node.yaml: no role"
)

// A machine that restarts after it was Ready, while others boot, is waited for again.
func TestRestartAfterReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := paper(t, "a", "b")
		over := waits(t, f)
		a, b := f.Members[0], f.Members[1]
		a.line(Line{At: 9 * time.Second, Text: saysReady})
		a.rebooted()
		b.line(Line{At: 12 * time.Second, Text: strings.Replace(saysReady, " a ", " b ", 1)})
		if ended, err := over(); ended {
			t.Fatalf("WaitReady ended (%v) while a machine boots again", err)
		}
		a.line(Line{At: 7 * time.Second, Text: saysReady})
		if ended, err := over(); !ended || err != nil {
			t.Errorf("ended %t, %v", ended, err)
		}
		if a.Ready() != 7*time.Second {
			t.Errorf("the second boot took %s", a.Ready())
		}
	})
}

// A machine that is switched off is not waited for; one that is switched on meanwhile is.
func TestSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := paper(t, "a", "b")
		over := waits(t, f)
		f.Members[0].line(Line{Text: saysReady})
		f.Members[1].Kill()
		if ended, err := over(); !ended || err != nil {
			t.Errorf("ended %t, %v", ended, err)
		}
	})
}

// A machine that ends before it is Ready ends the wait; one that ends later is told of, and is in
// the error of the end if it did not want to.
func TestMachineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		explained := func(err error) error { return fmt.Errorf("%w\n  | last words", err) }
		f, _ := paper(t, "a", "b", "c")
		for _, m := range f.Members {
			m.machine = &Machine{}
		}
		over := waits(t, f)
		f.Members[0].gone(f.Members[0].machine, time.Second, nil, explained)
		if ended, err := over(); !ended || err == nil || !strings.Contains(err.Error(), "host a: the machine was switched off\n  | last words") {
			t.Errorf("ended %t, %v", ended, err)
		}

		f, told := paper(t, "a", "b", "c")
		for _, m := range f.Members {
			m.machine = &Machine{}
			m.settle(m.outcome, nil)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		end := make(chan error, 1)
		go func() { end <- f.WaitEnd(ctx) }()
		f.Members[1].gone(f.Members[1].machine, time.Minute, errors.New("QEMU: signal: killed"), explained)
		f.Members[2].gone(f.Members[2].machine, time.Minute, nil, explained)
		synctest.Wait()
		if got := told(); len(got) != 2 || got[0] != "b: this machine runs no more: QEMU: signal: killed" || got[1] != "c: this machine runs no more: the machine was switched off" {
			t.Errorf("the user was told %q", got)
		}
		if len(end) != 0 {
			t.Error("the run ended while a machine runs")
		}
		cancel()
		if err := <-end; err == nil || err.Error() != "host b: QEMU: signal: killed" {
			t.Errorf("at the end: %v", err)
		}
		f.Members[0].gone(f.Members[0].machine, time.Minute, nil, explained)
		if err := f.WaitEnd(t.Context()); err == nil {
			t.Error("all have ended, and the end is a success")
		}
	})
}

// A machine's end is that of its own boot, however long it takes to say what it said last.
func TestMachineEndsWhileAnotherBootBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := paper(t, "a")
		m, old := f.Members[0], &Machine{}
		m.machine = old
		again := func(err error) error {
			m.mu.Lock()
			m.machine, m.outcome, m.ended = &Machine{}, &outcome{}, false
			m.mu.Unlock()
			return err
		}
		over := waits(t, f)
		m.gone(old, time.Second, nil, again)
		if ended, err := over(); ended {
			t.Fatalf("the second boot ended with the first: %v", err)
		}
		m.gone(old, time.Second, nil, again)
		if m.ended {
			t.Error("a machine that is gone ended another")
		}
		m.line(Line{Text: saysReady})
		if ended, err := over(); !ended || err != nil {
			t.Errorf("ended %t, %v", ended, err)
		}
	})
}

// The error of a fleet that is late names every host that is not Ready, and where it stands.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := paper(t, "a", "b", "c", "d")
		over := waits(t, f)
		f.Members[0].line(Line{Text: saysReady})
		f.Members[1].line(Line{At: 40 * time.Second, Text: "imgbuild: phase api retrying 30.0s (t=38.0s): connection refused"})
		f.Members[2].line(Line{At: 8 * time.Second, Text: saysStart})
		if ended, err := over(); ended {
			t.Fatal(err)
		}
		time.Sleep(f.opts.Timeout)
		ended, err := over()
		if !ended || fault.ClassOf(err) != fault.Machine {
			t.Fatalf("ended %t, %v", ended, err)
		}
		for _, want := range []string{"3 of 4 hosts were not Ready after 1h0m0s", "\n  b: phase api retrying 30.0s (t=38.0s): connection refused (after 40 s)",
			"\n  c: start a role worker", "\n  d: its console has said nothing", "/d/HOST/console.log"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q:\n%v", want, err)
			}
		}
	})
}

// What first boot does not try again ends the wait as soon as that is certain.
func TestPermanentFailure(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		ends  bool
	}{
		{"not tried again", []string{saysStart, saysFailed}, true},
		{"tried again", []string{saysStart, saysFailed, saysStart}, false},
		{"failed again, tried again", []string{saysFailed, saysStart, saysFailed, saysStart}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := paper(t, "a")
				over := waits(t, f)
				for _, text := range c.lines {
					f.Members[0].line(Line{Text: text})
					time.Sleep(beginLimit - time.Second)
					if ended, err := over(); ended {
						t.Fatalf("after %q: %v", text, err)
					}
				}
				time.Sleep(2 * time.Second)
				ended, err := over()
				if ended != c.ends {
					t.Fatalf("ended %t, %v", ended, err)
				}
				if ended && (!strings.Contains(err.Error(), "host a: ") || !strings.Contains(err.Error(), "node.yaml: no role") || !strings.Contains(err.Error(), "does not try again")) {
					t.Error(err)
				}
			})
		})
	}
	t.Run("restarted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := paper(t, "a")
			over := waits(t, f)
			f.Members[0].line(Line{Text: saysFailed})
			f.Members[0].rebooted()
			time.Sleep(2 * beginLimit)
			if ended, err := over(); ended {
				t.Error(err)
			}
		})
	})
}

// A guest that is paused because the host's disk is full ends the wait and says so.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, told := paper(t, "a", "b")
		over := waits(t, f)
		machine := &Machine{Spec: Spec{Dir: "/d/b"}, onDisk: f.Members[1].diskFailed}
		machine.event("BLOCK_IO_ERROR", []byte(`{"device": "", "node-name": "disk0", "operation": "write", "action": "report", "nospace": false, "reason": "Input/output error"}`))
		if ended, err := over(); ended {
			t.Fatal(err)
		}
		machine = &Machine{Spec: Spec{Dir: "/d/b"}, onDisk: f.Members[1].diskFailed}
		for range 3 {
			machine.event("BLOCK_IO_ERROR", []byte(`{"device": "", "node-name": "disk0", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}`))
		}
		ended, err := over()
		if !ended || fault.ClassOf(err) != fault.NoSpace || !strings.HasPrefix(err.Error(), "host b: no space is left") {
			t.Errorf("ended %t, %v", ended, err)
		}
		if got := told(); len(got) != 2 || !strings.Contains(got[0], "write of the machine's disk in /d/b: Input/output error") {
			t.Errorf("told %q", got)
		}
	})
}
