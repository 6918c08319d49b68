// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// observed is a watch of a TLS server, and everything it says.
type observed struct {
	*Watch
	status  atomic.Int64
	changes chan string
}

func observe(t *testing.T) *observed {
	t.Helper()
	o := &observed{changes: make(chan string, 100)}
	o.status.Store(http.StatusOK)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(int(o.status.Load()))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	w := Defaults()
	w.Endpoint, w.StateFile, w.CAFile = s.Listener.Addr().String(), filepath.Join(dir, "state"), filepath.Join(dir, "ca.crt")
	w.ServerName, w.Period, w.Retry = "example.com", time.Millisecond, time.Millisecond // httptest's own name
	w.Changed = func(healthy bool, why error) {
		text := "healthy"
		if !healthy {
			text = why.Error()
		}
		o.changes <- text
	}
	o.Watch = &w
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(w.CAFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *observed) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// await waits for a change that says want, and returns the state file then.
func (o *observed) await(t *testing.T, want string) {
	t.Helper()
	for {
		select {
		case got := <-o.changes:
			if strings.Contains(got, want) {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("nothing said %q", want)
		}
	}
}

func (o *observed) state(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(o.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStateFollowsTheServer(t *testing.T) {
	o := observe(t)
	stop := o.start(t)
	o.await(t, "healthy")
	if got := o.state(t); got != "1\n" {
		t.Errorf("healthy: %q", got)
	}
	o.status.Store(http.StatusInternalServerError)
	o.await(t, "answers 500")
	if got := o.state(t); got != "0\n" {
		t.Errorf("not healthy: %q", got)
	}
	o.status.Store(http.StatusOK)
	o.await(t, "healthy")
	stop()
	if got := o.state(t); got != "0\n" {
		t.Errorf("a watch that ended leaves %q", got)
	}
}

// Who has the address is said as long as the server is healthy, and only then.
func TestOwnerIsSaid(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1": "1\n", "192.0.2.10": "0\n"} {
		o := observe(t)
		o.Address, o.OwnerFile = netip.MustParseAddr(address), filepath.Join(t.TempDir(), "owner")
		owner := func() string {
			text, _ := os.ReadFile(o.OwnerFile) // nothing is said yet
			return string(text)
		}
		o.status.Store(http.StatusInternalServerError)
		stop := o.start(t)
		o.await(t, "answers 500")
		if got := owner(); got != "0\n" {
			t.Errorf("%s, not healthy: %q", address, got)
		}
		o.status.Store(http.StatusOK)
		o.await(t, "healthy")
		if got := owner(); got != want {
			t.Errorf("%s, healthy: %q", address, got)
		}
		stop()
		if got := owner(); got != "0\n" {
			t.Errorf("%s: a watch that ended leaves %q", address, got)
		}
	}
}

// A server that somebody else's authority vouches for, or none that is known, is not healthy.
func TestStrangersAreNotHealthy(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*observed) error
		want    string
	}{
		"no authority yet": {func(o *observed) error { return os.Remove(o.CAFile) }, "no such file"},
		"no certificate":   {func(o *observed) error { return os.WriteFile(o.CAFile, []byte("x"), 0o644) }, "holds no certificate"},
		"another name":     {func(o *observed) error { o.ServerName = "kubernetes"; return nil }, "not kubernetes"},
		"nobody there":     {func(o *observed) error { o.Endpoint = closedPort(); return nil }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			o := observe(t)
			if err := c.prepare(o); err != nil {
				t.Fatal(err)
			}
			defer o.start(t)()
			o.await(t, c.want)
			if got := o.state(t); got != "0\n" {
				t.Errorf("state %q", got)
			}
		})
	}
}

// The authority appears while the watch runs, as it does on first boot.
func TestAuthorityAppears(t *testing.T) {
	o := observe(t)
	ca, err := os.ReadFile(o.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.CAFile); err != nil {
		t.Fatal(err)
	}
	defer o.start(t)()
	o.await(t, "no such file")
	if err := os.WriteFile(o.CAFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	o.await(t, "healthy")
}

func TestOneFailureIsForgiven(t *testing.T) {
	o := observe(t)
	var asked atomic.Int64
	o.Failures = 3
	o.Beat = func() {
		switch asked.Add(1) {
		case 5:
			o.status.Store(http.StatusServiceUnavailable)
		case 6:
			o.status.Store(http.StatusOK)
		}
	}
	stop := o.start(t)
	o.await(t, "healthy")
	for asked.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	stop()
	close(o.changes)
	for c := range o.changes {
		t.Errorf("one failure of three changed the state: %s", c)
	}
}

func TestClear(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	for range 2 { // absent is fine
		if err := Clear(file); err != nil {
			t.Error(err)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := l.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

func closedPort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:1"
	}
	defer l.Close()
	return l.Addr().String()
}
