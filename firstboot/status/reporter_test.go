// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// secrets are values of every kind that a report could leak.
var secrets = []string{
	"abcdef.0123456789abcdef", "0123456789abcdef", "hunter2hunter2",
	"MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY",
}

const leak = "token abcdef.0123456789abcdef secret 0123456789abcdef password hunter2hunter2 key\n" +
	"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY\n-----END EC PRIVATE KEY-----\nAuthorization: Bearer zzz.yyy.xxx"

// fixed is a clock that stands at 21.3 s after kernel start.
func fixed() Clock {
	return Clock{Uptime: func() time.Duration { return 21340 * time.Millisecond }, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

// collector is a callback endpoint that refuses the first requests.
type collector struct {
	mu     sync.Mutex
	events []Event
	raw    bytes.Buffer
	auth   string
	refuse int
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if c.refuse > 0 {
		c.refuse--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	c.raw.Write(body)
	c.auth = r.Header.Get("Authorization")
	var e Event
	if err := json.Unmarshal(body, &e); err == nil {
		c.events = append(c.events, e)
	}
}

func newReporter(t *testing.T, url string) (*Reporter, *bytes.Buffer) {
	t.Helper()
	var console bytes.Buffer
	r := &Reporter{File: filepath.Join(t.TempDir(), "imgbuild", "status.json"), Console: &console, Redactor: &Redactor{}, Clock: fixed(),
		Log: func() []string { return []string{"first", leak} }}
	r.Redactor.Add(secrets...)
	if url != "" {
		cb, err := NewCallback(url, "", "callback-bearer-token")
		if err != nil {
			t.Fatal(err)
		}
		cb.Pause = time.Millisecond
		r.Callback = cb
	}
	return r, &console
}

// The grammar of package documentation, as programs would parse it.
var grammar = regexp.MustCompile(`^imgbuild: (start \S+ role \S+ t=\d+\.\ds` +
	`|phase [a-z0-9-]+ (ok|checked) \d+\.\d\ds \(t=\d+\.\ds\)` +
	`|phase [a-z0-9-]+ (failed|retrying) \d+\.\d\ds \(t=\d+\.\ds\): .+` +
	`|mark [a-z0-9-]+ t=\d+\.\ds` +
	`|node \S+ Ready t=\d+\.\ds` +
	`|node \S+ failed t=\d+\.\ds: .+` +
	`|renew \S+ failed t=\d+\.\ds: .+)$`)

func drive(r *Reporter, end error) {
	r.Start("cp-1", "control-plane", "boot-id", "controlplane 1.0", []phase.Step{{Name: "certs"}, {Name: "etcd", Needs: []string{"certs"}}})
	r.Transition(phase.Transition{Phase: "certs", State: phase.Running, Attempt: 1})
	r.Transition(phase.Transition{Phase: "certs", State: phase.Retrying, Attempt: 1, Err: errors.New(leak), Took: time.Second})
	r.Transition(phase.Transition{Phase: "certs", State: phase.Done, Attempt: 2, Took: 123 * time.Millisecond})
	r.Mark("api-answers")
	r.Mark("api-answers")
	r.Transition(phase.Transition{Phase: "etcd", State: phase.Checked})
	if end != nil {
		r.Transition(phase.Transition{Phase: "etcd", State: phase.Failed, Attempt: 1, Err: end})
	}
	r.End(end)
}

func TestConsoleAndFile(t *testing.T) {
	r, console := newReporter(t, "")
	drive(r, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(console.String()) {
		if !grammar.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("not in the grammar: %q", line)
		}
	}
	for _, want := range []string{"imgbuild: phase certs ok 0.12s (t=21.3s)\n", "imgbuild: node cp-1 Ready t=21.3s\n", "imgbuild: phase etcd checked 0.00s (t=21.3s)\n"} {
		if strings.Count(console.String(), want) != 1 {
			t.Errorf("%q is not once in\n%s", want, console)
		}
	}
	if strings.Count(console.String(), "mark api-answers") != 1 {
		t.Error("a mark was repeated")
	}
	var st Status
	data, err := os.ReadFile(r.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	if st.State != Ready || st.Node != "cp-1" || st.Ended != 21.34 || len(st.Phases) != 2 || st.Phases[0].State != phase.Done ||
		st.Phases[0].Attempts != 2 || st.Phases[0].Error != "" || st.Phases[0].Took != 0.123 || len(st.Marks) != 1 {
		t.Errorf("%+v", st)
	}
	if want := time.Unix(1_800_000_000, 0).Add(-21340 * time.Millisecond).UTC(); !st.BootTime.Equal(want) {
		t.Errorf("boot time %v, want %v", st.BootTime, want)
	}
}

func TestSecretsAppearNowhere(t *testing.T) {
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	r, console := newReporter(t, srv.URL)
	drive(r, errors.New(leak))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.File)
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{"console": console.String(), "file": string(data), "callback": c.raw.String()} {
		for _, s := range append(secrets, "zzz.yyy.xxx", "PRIVATE KEY", "callback-bearer-token") {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %q", place, s)
			}
		}
		if !strings.Contains(text, redacted) {
			t.Errorf("%s does not show that something was removed", place)
		}
	}
	for line := range strings.Lines(console.String()) {
		if !grammar.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("not in the grammar: %q", line)
		}
	}
}

func TestCallback(t *testing.T) {
	c := &collector{refuse: 2}
	srv := httptest.NewServer(c)
	defer srv.Close()
	r, _ := newReporter(t, srv.URL)
	drive(r, errors.New("boom"))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.events) != 7 {
		t.Fatalf("%d events: %+v", len(c.events), c.events)
	}
	last := c.events[6]
	if last.State != Failed || last.Error != "boom" || len(last.Log) != 2 || last.Log[0] != "first" || last.Phase != nil {
		t.Errorf("last event %+v", last)
	}
	if p := c.events[1].Phase; p == nil || p.Name != "certs" || p.State != phase.Running {
		t.Errorf("second event %+v", c.events[1])
	}
	if c.auth != "Bearer callback-bearer-token" {
		t.Errorf("authorization %q", c.auth)
	}
}

// What fails on a finished node is one line and one event, and the status file stays.
func TestComplaint(t *testing.T) {
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	r, console := newReporter(t, srv.URL)
	r.Complain("cp-1", "control-plane", "boot-id", "renew", errors.New("boom\n"+leak))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if line := console.String(); !grammar.MatchString(strings.TrimSuffix(line, "\n")) || !strings.HasPrefix(line, "imgbuild: renew cp-1 failed t=21.3s: boom token [redacted]") {
		t.Errorf("console: %q", line)
	}
	if len(c.events) != 1 {
		t.Fatalf("%d events: %+v", len(c.events), c.events)
	}
	e := c.events[0]
	if e.State != Failed || e.Node != "cp-1" || e.Role != "control-plane" || e.Boot != "boot-id" || !strings.HasPrefix(e.Error, "boom") ||
		e.Phase == nil || e.Phase.Name != "renew" || e.Phase.State != phase.Failed || e.Phase.Error != e.Error {
		t.Errorf("%+v", e)
	}
	for _, s := range secrets {
		if strings.Contains(console.String()+c.raw.String(), s) {
			t.Errorf("%q is shown", s)
		}
	}
	if _, err := os.Stat(r.File); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the status file was written: %v", err)
	}
}

func TestCallbackNeverBlocks(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	cb, err := NewCallback(srv.URL, "", "")
	if err != nil {
		t.Fatal(err)
	}
	cb.Flush = time.Millisecond
	for range 3 * queueLength {
		cb.Send(Event{})
	}
	cb.Close() // a callback that waits for the server would hang here
}

func TestCallbackRefusesABrokenCA(t *testing.T) {
	if _, err := NewCallback("https://example.org", "no certificate", ""); err == nil {
		t.Error("a CA without a certificate was accepted")
	}
}

func TestRedactorKeepsOrdinaryText(t *testing.T) {
	r := &Redactor{}
	r.Add("", "ab", "longsecret")
	for in, want := range map[string]string{
		"a table of facts":         "a table of facts",
		"longsecret, xlongsecretx": "[redacted], x[redacted]x",
		"bearer of news":           "bearer of news",
		"cannot be sent as a bearer token; allowed: one word": "cannot be sent as a bearer token; allowed: one word",
		"Authorization: Bearer abcdefgh, more":                "Authorization: [redacted], more",
		"kube-apiserver.v1 is fine":                           "kube-apiserver.v1 is fine",
		"-----BEGIN RSA PRIVATE KEY-----\nMII":                "[redacted]",
	} {
		if got := r.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := r.Line("a\n b\tc"); got != "a b c" {
		t.Errorf("line %q", got)
	}
}

func TestSystemClock(t *testing.T) {
	c := SystemClock()
	if a, b := c.Uptime(), c.Uptime(); a <= 0 || b < a {
		t.Errorf("uptime %v then %v", a, b)
	}
}
