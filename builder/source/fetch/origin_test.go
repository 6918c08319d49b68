// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// testOrigin serves files, and misbehaves in the ways real origins do.
type testOrigin struct {
	*httptest.Server
	mu sync.Mutex
	// requests are the Range headers seen per path, "" for a plain request.
	requests map[string][]string
	handlers map[string]http.HandlerFunc
}

func newOrigin(t *testing.T) *testOrigin {
	o := &testOrigin{requests: map[string][]string{}, handlers: map[string]http.HandlerFunc{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.requests[r.URL.Path] = append(o.requests[r.URL.Path], r.Header.Get("Range"))
		h := o.handlers[r.URL.Path]
		o.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *testOrigin) handle(path string, h http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handlers[path] = h
}

func (o *testOrigin) seen(path string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.requests[path]...)
}

// file serves data properly: ranges, a strong ETag.
func file(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf("%q", store.DigestOf(data)[:8]))
		http.ServeContent(w, r, "f", time.Time{}, bytes.NewReader(data))
	}
}

// cut serves like next but drops the connection after n bytes of body, the first times
// times it is asked.
func cut(n, times int, next http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		times--
		breaks := times >= 0
		mu.Unlock()
		if !breaks {
			next(w, r)
			return
		}
		next(&cutter{ResponseWriter: w, left: n}, r)
		panic(http.ErrAbortHandler)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// failing answers with a status the first times times.
func failing(status, times int, next http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		times--
		fails := times >= 0
		mu.Unlock()
		if fails {
			http.Error(w, "no", status)
			return
		}
		next(w, r)
	}
}

func content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7, byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

func item(name string, data []byte, urls ...string) Item {
	return Item{Name: name, URLs: urls, Size: int64(len(data)), SHA256: store.DigestOf(data)}
}

func open(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func quick() Options {
	return Options{Backoff: time.Millisecond, Attempts: 3, Stall: 5 * time.Second}
}

// recorder is a progress sink that remembers what it was told.
type recorder struct {
	mu    sync.Mutex
	tasks map[string]*recorded
}

type recorded struct {
	progress.Task
	mu    *sync.Mutex
	total int64
	bytes int64
	notes []string
	done  int
	err   error
}

func (r *recorder) Start(name string, total int64) progress.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks == nil {
		r.tasks = map[string]*recorded{}
	}
	t := &recorded{mu: &r.mu, total: total}
	r.tasks[name] = t
	return t
}

func (t *recorded) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < 0 {
		panic("negative progress")
	}
	t.bytes += n
}

func (t *recorded) Note(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, s)
}

func (t *recorded) Done(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	t.err = err
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q: %v", p, err)
		}
	}
}
