// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hook is a callback's server. It answers as answer says, and keeps what it took.
type hook struct {
	mu     sync.Mutex
	answer func(Event) int
	took   []float64
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var e Event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	code := h.answer(e)
	if code < 300 {
		h.took = append(h.took, e.At)
	}
	w.WriteHeader(code)
}

// calling is a callback that waits for nothing, with what it logs.
func calling(t *testing.T, url, ca string) (*Callback, *bytes.Buffer) {
	t.Helper()
	c, err := NewCallback(url, ca, "callback-bearer-token")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c.Pause, c.Flush, c.Log = time.Millisecond, time.Minute, slog.New(slog.NewTextHandler(&said, nil))
	return c, &said
}

func send(c *Callback, count int) {
	for i := range count {
		c.Send(Event{At: float64(i)})
	}
}

// Until the network is there no event is given up.
func TestCallbackWaitsForTheServer(t *testing.T) {
	away := 40
	h := &hook{answer: func(Event) int {
		if away > 0 {
			away--
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}}
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, said := calling(t, srv.URL, "")
	send(c, 20)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if len(h.took) != 20 {
		t.Fatalf("%d events got through: %v", len(h.took), h.took)
	}
	for i, at := range h.took {
		if at != float64(i) {
			t.Fatalf("not in order: %v", h.took)
		}
	}
	if strings.Count(said.String(), "\n") != 1 {
		t.Errorf("the first failure is not said once:\n%s", said)
	}
}

// Of a full queue the oldest events are given up, and counted.
func TestCallbackQueueIsBounded(t *testing.T) {
	var open atomic.Bool
	h := &hook{answer: func(Event) int {
		if !open.Load() {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}}
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, _ := calling(t, srv.URL, "")
	const sent = 3 * queueLength
	send(c, sent)
	open.Store(true)
	err := c.Close()
	if err == nil {
		t.Fatal("nothing was lost")
	}
	lost := c.lost + c.dropped
	if len(h.took)+lost != sent || len(h.took) > queueLength+1 || len(h.took) < queueLength-1 || h.took[len(h.took)-1] != sent-1 {
		t.Errorf("%d got through, %d were lost of %d: %v", len(h.took), lost, sent, h.took)
	}
	for i := 1; i < len(h.took); i++ {
		if h.took[i] <= h.took[i-1] {
			t.Fatalf("not in order: %v", h.took)
		}
	}
}

// An event that the server refuses does not keep the others from it.
func TestCallbackPassesByARefusedEvent(t *testing.T) {
	asked := map[float64]int{}
	h := &hook{answer: func(e Event) int {
		if asked[e.At]++; e.At == 1 {
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusOK
	}}
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, _ := calling(t, srv.URL, "")
	send(c, 3)
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "1 events did not get to the callback at "+strings.TrimPrefix(srv.URL, "http://")+": it answers 413 ") {
		t.Error(err)
	}
	if len(h.took) != 2 || asked[1] != tries {
		t.Errorf("%v, asked %v", h.took, asked)
	}
}

// What is wrong is said, and neither the URL's secrets nor the token.
func TestCallbackSaysWhatIsWrong(t *testing.T) {
	quiet := func(s *httptest.Server) *httptest.Server {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	h := &hook{answer: func(Event) int { return http.StatusForbidden }}
	strange, refusing := quiet(httptest.NewUnstartedServer(h)), quiet(httptest.NewUnstartedServer(h))
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: refusing.Certificate().Raw}))
	gone := httptest.NewServer(h)
	gone.Close()
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer silent.Close()
	defer close(hang)
	for name, c := range map[string]struct{ url, ca, want string }{
		"an authority that is not trusted": {strange.URL, "", "certificate"},
		"a wrong token":                    {refusing.URL, ca, "it answers 403 Forbidden"},
		"nobody there":                     {gone.URL, "", "connection refused"},
		"no answer":                        {silent.URL, "", "it did not answer in time"},
	} {
		cb, said := calling(t, c.url+"/hidden-path?key=hidden-query", c.ca)
		cb.Flush, cb.Pause = 2*time.Second, 20*time.Millisecond
		send(cb, 3)
		err := cb.Close()
		_, host, _ := strings.Cut(c.url, "://")
		if err == nil || !strings.Contains(err.Error(), "3 events did not get to the callback at "+host+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.url != silent.URL && (strings.Count(said.String(), "\n") != 1 || !strings.Contains(said.String(), "host="+host) || !strings.Contains(said.String(), c.want)) {
			t.Errorf("%s: the log says %q", name, said)
		}
		for _, secret := range []string{"hidden", "callback-bearer-token"} {
			if strings.Contains(err.Error()+said.String(), secret) {
				t.Errorf("%s: %q is shown: %v\n%s", name, secret, err, said)
			}
		}
	}
}

// An event goes to nobody whom a server's answer names: not in clear, and not as a GET.
func TestCallbackFollowsNoRedirect(t *testing.T) {
	var asked atomic.Int64
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer plain.Close()
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, plain.URL+"/hidden-path", code)
		}))
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
		c, said := calling(t, srv.URL, ca)
		send(c, 1)
		err := c.Close()
		srv.Close()
		if err == nil || !strings.Contains(err.Error(), "callback.url") || strings.Contains(err.Error()+said.String(), "hidden") {
			t.Errorf("%d: %v\n%s", code, err, said)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}

// Who waits for the last events can be told that nobody has the time.
func TestCallbackIsAbandoned(t *testing.T) {
	h := &hook{answer: func(Event) int { return http.StatusServiceUnavailable }}
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, _ := calling(t, srv.URL, "")
	send(c, 3)
	time.AfterFunc(50*time.Millisecond, c.Abandon)
	began := time.Now()
	if err := c.Close(); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
