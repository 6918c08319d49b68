// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// away is a callback's server that is not there for a while after it was first asked.
type away struct {
	callbacks
	once  sync.Once
	until time.Time
	first func()
	stay  time.Duration
}

func (a *away) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.once.Do(func() { a.until = time.Now().Add(a.stay); a.first() })
	if time.Now().Before(a.until) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	a.callbacks.ServeHTTP(w, r)
}

// finished is a machine whose first boot ran under another document.
func finished(t *testing.T, url string) (e *Env, log fmt.Stringer) {
	t.Helper()
	e, _, errs := env(t, document+"callback: {url: '"+url+"/hidden-path', token: "+secretCallback+"}\n")
	j, err := phase.OpenJournal(filepath.Join(e.Root, phase.JournalPath))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(phase.Entry{Phase: phases.Certs, Event: phase.EventDone, Document: "another"}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return e, errs
}

// A run that is not repeated tells its end to a server that is away for a moment.
func TestLastWordIsToldPatiently(t *testing.T) {
	t.Parallel()
	a := &away{stay: 7 * time.Second, first: func() {}}
	srv := httptest.NewServer(a)
	defer srv.Close()
	e, log := finished(t, srv.URL)
	if got := Main(t.Context(), e, []string{"run"}); got != ExitChanged {
		t.Fatal(got, log)
	}
	if n := len(a.events); n != 2 || a.events[n-1].State != status.Failed {
		t.Errorf("%+v", a.events)
	}
	if host := strings.TrimPrefix(srv.URL, "http://"); strings.Count(log.String(), "msg=callback host="+host+" ") != 1 || strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), "msg=reporting") {
		t.Errorf("the log says\n%s", log)
	}
}

// A run that is repeated is not held up, and says what the callback was not told.
func TestCallbackHoldsUpNoRepetition(t *testing.T) {
	t.Parallel()
	a := &away{stay: time.Hour, first: func() {}}
	srv := httptest.NewServer(a)
	defer srv.Close()
	e, _, errs := env(t, document+"callback: {url: '"+srv.URL+"', token: "+secretCallback+"}\n")
	put(t, filepath.Join(e.Root, phase.JournalPath), "damaged\n{}\n")
	began := time.Now()
	if got := Main(t.Context(), e, []string{"run"}); got != ExitFailed {
		t.Fatal(got, errs)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if !regexp.MustCompile(`msg=reporting problem="\d+ events did not get to the callback at ` + strings.TrimPrefix(srv.URL, "http://") + `: it answers 503 `).MatchString(errs.String()) {
		t.Errorf("the log says\n%s", errs)
	}
}

// Nobody waits for the callback's server to switch a machine off.
func TestLastWordIsAbandoned(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := &away{stay: time.Hour, first: func() { time.AfterFunc(time.Second, cancel) }}
	srv := httptest.NewServer(a)
	defer srv.Close()
	e, log := finished(t, srv.URL)
	began := time.Now()
	if got := Main(ctx, e, []string{"run"}); got != ExitChanged || time.Since(began) > 20*time.Second {
		t.Errorf("%d after %s: %s", got, time.Since(began), log)
	}
}

// What is not started again is what the unit says, and a success.
func TestLast(t *testing.T) {
	unit := read(t, "../../../assets/units/firstboot.service")
	m := regexp.MustCompile(`(?m)^RestartPreventExitStatus=(.*)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatal(unit)
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, true}, {errUsage, true}, {phase.ErrDocumentChanged, true}, {node.ErrAbsent, true},
		{errors.New("a phase failed"), false}, {context.Canceled, false}, {errNotReady, false},
	} {
		if got := last(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
		if code := ExitCode(c.err); code != ExitOK && strings.Contains(" "+m[1]+" ", fmt.Sprintf(" %d ", code)) != c.want {
			t.Errorf("%v: the unit says otherwise: %s", c.err, m[0])
		}
	}
}
