// SPDX-License-Identifier: Apache-2.0

package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Reporter keeps a Status up to date and publishes every change. It implements
// phase.Observer. A publication that fails never stops first boot; the first failure of
// each kind is kept for Close.
type Reporter struct {
	// File is the path of the status file; empty writes none.
	File string
	// Console receives the console lines; nil means none.
	Console io.Writer
	// Callback receives events; nil means none.
	Callback *Callback
	Redactor *Redactor
	Clock    Clock
	// Log returns the last log lines for a failure's event; may be nil.
	Log func() []string

	mu  sync.Mutex
	st  Status
	err error
}

// Start publishes the beginning of a run.
func (r *Reporter) Start(node, role, boot, image string, steps []phase.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up := r.Clock.Uptime()
	r.st = Status{Version: Version, Node: node, Role: role, State: Running, Boot: boot, Image: image, Started: seconds(up)}
	for _, s := range steps {
		r.st.Phases = append(r.st.Phases, Phase{Name: s.Name, Needs: s.Needs, State: Waiting})
	}
	r.line("start %s role %s t=%s", node, role, uptime(up))
	r.publish(nil)
}

// Transition implements phase.Observer.
func (r *Reporter) Transition(t phase.Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.st.Phases, func(p Phase) bool { return p.Name == t.Phase })
	if i < 0 {
		return
	}
	p := &r.st.Phases[i]
	up := r.Clock.Uptime()
	p.State, p.Took, p.Attempts, p.Error = t.State, seconds(t.Took), t.Attempt, ""
	if t.State == phase.Running {
		p.Started = seconds(up - t.Took)
	}
	if t.Err != nil {
		p.Error = r.Redactor.Line(t.Err.Error())
	}
	switch t.State {
	case phase.Done, phase.Checked:
		r.line("phase %s %s %.2fs (t=%s)", p.Name, p.State, p.Took, uptime(up))
	case phase.Failed, phase.Retrying:
		r.line("phase %s %s %.2fs (t=%s): %s", p.Name, p.State, p.Took, uptime(up), p.Error)
	}
	changed := *p
	r.publish(&changed)
}

// Mark records a moment. A name is recorded once.
func (r *Reporter) Mark(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.st.Marks, func(m Mark) bool { return m.Name == name }) {
		return
	}
	up := r.Clock.Uptime()
	r.st.Marks = append(r.st.Marks, Mark{Name: name, At: seconds(up)})
	r.line("mark %s t=%s", name, uptime(up))
	r.write()
}

// End publishes the outcome of the run: Ready when err is nil.
func (r *Reporter) End(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up := r.Clock.Uptime()
	r.st.Ended = seconds(up)
	if err == nil {
		r.st.State = Ready
		r.line("node %s Ready t=%s", r.st.Node, uptime(up))
	} else {
		r.st.State, r.st.Error = Failed, r.Redactor.Line(err.Error())
		r.line("node %s failed t=%s: %s", r.st.Node, uptime(up), r.st.Error)
	}
	r.publish(nil)
}

// Complain publishes that something failed on a node that first boot, which the status file is
// about, is done with. It needs no Start.
func (r *Reporter) Complain(node, role, boot, what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up, reason := r.Clock.Uptime(), r.Redactor.Line(err.Error())
	r.line("%s %s failed t=%s: %s", what, node, uptime(up), reason)
	if r.Callback != nil {
		r.Callback.Send(Event{Version: Version, Node: node, Role: role, Boot: boot, At: seconds(up), State: Failed, Error: reason,
			Phase: &Phase{Name: what, State: phase.Failed, Error: reason}})
	}
}

// Close flushes the callback and returns the first failure to publish of each kind.
func (r *Reporter) Close() error {
	var err error
	if r.Callback != nil {
		err = r.Callback.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, err)
}

// publish writes the file and queues an event. The caller holds the lock.
func (r *Reporter) publish(p *Phase) {
	r.write()
	if r.Callback == nil {
		return
	}
	e := Event{Version: Version, Node: r.st.Node, Role: r.st.Role, Boot: r.st.Boot, At: seconds(r.Clock.Uptime()), State: r.st.State, Phase: p}
	if r.st.State == Failed {
		e.Error = r.st.Error
		if r.Log != nil {
			for _, l := range r.Log() {
				e.Log = append(e.Log, r.Redactor.Text(l))
			}
		}
	}
	r.Callback.Send(e)
}

// write replaces the status file. /run is memory, so nothing is synced.
func (r *Reporter) write() {
	if r.File == "" {
		return
	}
	r.st.BootTime = r.Clock.Now().Add(-r.Clock.Uptime()).UTC().Round(time.Millisecond)
	data, err := json.MarshalIndent(r.st, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.File), 0o755)
	}
	tmp := r.File + ".new"
	if err == nil {
		err = os.WriteFile(tmp, append(data, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(tmp, r.File)
	}
	r.keep(err)
}

func (r *Reporter) line(format string, args ...any) {
	if r.Console == nil {
		return
	}
	_, err := io.WriteString(r.Console, "imgbuild: "+fmt.Sprintf(format, args...)+"\n")
	r.keep(err)
}

func (r *Reporter) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func uptime(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
