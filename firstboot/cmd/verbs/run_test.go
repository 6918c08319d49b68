// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/status"
)

// A document that cannot be used is told to the callback that it names, over a connection that
// the document's own authority vouches for, also where that takes a while. What the problems quote
// is no secret.
func TestUnusableDocumentIsPosted(t *testing.T) {
	t.Parallel()
	a := &away{stay: 6 * time.Second, first: func() {}}
	srv := httptest.NewTLSServer(a)
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	e, out, errs := env(t, document+"roel: "+secretKey+"\ncluster: {name: "+secretCallback+"_}\npki: {certificateKey: "+secretKey+", algorithm: "+secretKey+"}\n"+
		"callback:\n  url: "+srv.URL+"\n  token: "+secretCallback+"\n  ca: |\n    "+strings.ReplaceAll(strings.TrimSpace(string(ca)), "\n", "\n    ")+"\n")
	if got := Main(t.Context(), e, []string{"run"}); got != ExitDocument {
		t.Fatalf("%d %s", got, errs)
	}
	if len(a.events) != 2 {
		t.Fatalf("%d events, %s", len(a.events), errs)
	}
	ev := a.events[1]
	if ev.State != status.Failed || ev.Node != hostname() || !strings.Contains(ev.Error, `did you mean "role"?`) || !strings.Contains(ev.Error, "is not a cluster name") {
		t.Errorf("%+v", ev)
	}
	posted, err := json.Marshal(a.events)
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{"console": read(t, e.Console), "status": read(t, filepath.Join(e.Root, status.Path)),
		"stdout": out.String(), "stderr": errs.String(), "callback": string(posted)} {
		for _, s := range []string{secretKey, secretCallback, "0123456789abcdef"} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows a secret:\n%s", place, text)
			}
		}
	}
}

// Nothing is sent to where the document does not clearly say.
func TestUnusableDocumentWithAnUnusableCallback(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer srv.Close()
	for text, want := range map[string]string{
		"{url: '" + strings.Replace(srv.URL, "//", "//user:hush-hush@", 1) + "'}": "callback.url: value \"http://...@",
		"{url: '" + srv.URL + "', ca: x}":                                         "callback.ca: value \"x\": holds no certificate",
		"{url: '" + srv.URL + "', ca: [x]}":                                       "callback.ca: is a list, not text",
		"{url: ['" + srv.URL + "']}":                                              "callback.url: is a list, not text",
		"{url: '" + srv.URL + "', url: 'http://other.example.org/'}":              "callback.url: was already given",
		"'" + srv.URL + "'":                                                       "callback: is a single value, not a mapping",
		"{url: '" + srv.URL + "'":                                                 "is not valid YAML",
	} {
		e, _, errs := env(t, document+"roel: x\ncallback: "+text+"\n")
		if got := Main(t.Context(), e, []string{"run"}); got != ExitDocument || !strings.Contains(errs.String(), want) || strings.Contains(errs.String(), "hush") {
			t.Errorf("%s: %d %s", text, got, errs)
		}
	}
	if asked != 0 {
		t.Errorf("it was asked %d times", asked)
	}
}

// Whoever is waited for does not keep a machine from being switched off.
func TestUnusableDocumentIsNotToldForever(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(&away{stay: time.Hour, first: cancel})
	defer srv.Close()
	e, _, errs := env(t, document+"roel: x\ncallback: {url: '"+srv.URL+"'}\n")
	begin := time.Now()
	if got := Main(ctx, e, []string{"run"}); got != ExitDocument || time.Since(begin) > 5*time.Second {
		t.Errorf("%d after %s: %s", got, time.Since(begin), errs)
	}
}
