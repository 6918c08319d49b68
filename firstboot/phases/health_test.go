// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A component that is not healthy says at length why; asking it again needs no handshake.
func TestHealthKeepsItsConnection(t *testing.T) {
	var opened, asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, strings.Repeat("[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n", 200))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	client := probeClient(time.Minute)
	t.Cleanup(client.CloseIdleConnections)
	for range 3 {
		err := health(t.Context(), client, server.URL+"/livez")
		var answer *statusError
		if !errors.As(err, &answer) || !strings.Contains(answer.body, "bootstrap-roles") || len(answer.body) > 512 {
			t.Fatalf("%v", err)
		}
	}
	if asked.Load() != 3 || opened.Load() != 1 {
		t.Errorf("%d questions on %d connections, want 3 on 1", asked.Load(), opened.Load())
	}
}

func TestBreather(t *testing.T) {
	for _, c := range []struct{ took, least, most time.Duration }{
		{0, time.Second, time.Second},
		{2 * time.Second, 4 * time.Second, 5 * time.Second},
		{time.Minute, 5 * time.Second, 5 * time.Second},
	} {
		if got := breather(time.Now().Add(-c.took)); got < c.least || got > c.most {
			t.Errorf("after a look of %s: %s, want %s to %s", c.took, got, c.least, c.most)
		}
	}
}
