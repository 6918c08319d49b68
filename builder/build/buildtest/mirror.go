// SPDX-License-Identifier: Apache-2.0

package buildtest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Mirror is a Debian mirror on the loopback interface.
type Mirror struct {
	// URL is what --mirror takes.
	URL    string
	server *httptest.Server

	mu       sync.Mutex
	files    map[string][]byte // by path below the archive
	answer   map[string]http.HandlerFunc
	requests []string
}

func newMirror(t testing.TB, packages []Package) *Mirror {
	m := &Mirror{files: map[string][]byte{}, answer: map[string]http.HandlerFunc{}}
	for _, p := range packages {
		m.files[p.Pin.Path] = p.Bytes
	}
	m.server = httptest.NewServer(m)
	t.Cleanup(m.server.Close)
	m.URL = m.server.URL + "/debian"
	return m
}

// ServeHTTP serves the packages.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/debian/")
	m.mu.Lock()
	m.requests = append(m.requests, path)
	data, ok := m.files[path]
	answer := m.answer[path]
	m.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case !ok:
		http.NotFound(w, r)
	default:
		http.ServeContent(w, r, path, modified, strings.NewReader(string(data)))
	}
}

// Answer makes a handler answer requests for a package.
func (m *Mirror) Answer(p Package, h http.HandlerFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer[p.Pin.Path] = h
}

// Requests returns the paths that were asked for since the last call.
func (m *Mirror) Requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.requests
	m.requests = nil
	return out
}
