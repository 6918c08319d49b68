// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// callbacks collects the events that are posted to a URL.
type callbacks struct {
	mu     sync.Mutex
	events []status.Event
}

func (c *callbacks) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e status.Event
	if err := json.NewDecoder(r.Body).Decode(&e); err == nil && r.Header.Get("Authorization") == "Bearer "+secretCallback {
		c.events = append(c.events, e)
	}
}

// TestRenewFailureIsTold lets renewing fail hour after hour: the console and the callback say so
// once a day, and neither shows a secret.
func TestRenewFailureIsTold(t *testing.T) {
	c := &callbacks{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	e, _, errs := env(t, "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\nnode: {name: cp-1}\n"+
		"bootstrapTokens: [{token: "+secretToken+"}]\npki: {certificateKey: "+secretKey+"}\ncallback: {url: '"+srv.URL+"', token: "+secretCallback+"}\n")
	e.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{}, errors.New("careless: " + secretToken + " " + secretKey + "\n" + secretCallback)
	}
	renew := func(want int) {
		t.Helper()
		if got := Main(t.Context(), e, []string{"renew"}); got != ExitFailed {
			t.Fatal(got)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := strings.Count(read(t, e.Console), "\n"); n != want || len(c.events) != want {
			t.Fatalf("%d lines and %d events, want %d:\n%s", n, len(c.events), want, read(t, e.Console))
		}
	}
	renew(1)
	first := read(t, e.Console)
	renew(1)
	put(t, e.Console, "") // the next line is written over the first one of this file
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(filepath.Join(e.Root, renewTold), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	if Main(t.Context(), e, []string{"renew"}); len(c.events) != 2 || read(t, e.Console) == "" {
		t.Errorf("the next day: %d events, console %q", len(c.events), read(t, e.Console))
	}
	if !regexp.MustCompile(`^imgbuild: renew \S+ failed t=\d+\.\ds: .*careless: \[redacted\]`).MatchString(first) {
		t.Errorf("console: %s", first)
	}
	if ev := c.events[0]; ev.State != status.Failed || ev.Phase == nil || ev.Phase.Name != "renew" || ev.Role != "control-plane" || !strings.Contains(ev.Error, "careless") {
		t.Errorf("%+v", ev)
	}
	posted, err := json.Marshal(c.events)
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{"console": first, "stderr": errs.String(), "callback": string(posted)} {
		for _, s := range []string{secretToken, secretKey, secretCallback} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows a secret:\n%s", place, text)
			}
		}
	}
}

// A document that somebody broke since keeps no failure from the callback.
func TestRenewFailureOfTheDocumentIsTold(t *testing.T) {
	c := &callbacks{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	e, _, errs := env(t, "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\ncolour: "+secretCallback+
		"\ncallback: {url: '"+srv.URL+"', token: "+secretCallback+"}\n")
	if got := Main(t.Context(), e, []string{"renew"}); got != ExitDocument {
		t.Fatal(got, errs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) != 1 || c.events[0].State != status.Failed || !strings.Contains(c.events[0].Error, "colour") || strings.Contains(c.events[0].Error, secretCallback) {
		t.Errorf("%+v", c.events)
	}
}

// A run that is cut short has not failed.
func TestRenewInterruptedIsNotTold(t *testing.T) {
	e, _, _ := env(t, document)
	ctx, cancel := context.WithCancel(t.Context())
	e.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		cancel()
		return kubeadm.Host{}, ctx.Err()
	}
	if got := Main(ctx, e, []string{"renew"}); got != ExitInterrupted || read(t, e.Console) != "" {
		t.Errorf("%d %q", got, read(t, e.Console))
	}
}

// Verbs of a finished node know the document's secrets.
func TestVerbsHideSecrets(t *testing.T) {
	for _, args := range [][]string{{"renew"}, {"follow"}, {"reset", "--yes"}} {
		e, out, errs := env(t, document+"pki: {certificateKey: "+secretKey+"}\n")
		e.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
			return kubeadm.Host{}, errors.New("careless: " + secretKey)
		}
		if got := Main(t.Context(), e, args); got != ExitFailed || !strings.Contains(errs.String(), "careless: [redacted]") {
			t.Errorf("%q: %d %s", args, got, errs)
		}
		if strings.Contains(errs.String()+out.String(), secretKey) {
			t.Errorf("%q shows a secret", args)
		}
	}
}

// Status says who renews the kubelet's certificate.
func TestStatusOfTheKubeletsCertificate(t *testing.T) {
	e, _, errs := env(t, document)
	e.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: "cp-1", Address: netip.MustParseAddr("192.0.2.11"), KubernetesVersion: "v1.36.3"}, nil
	}
	e.RestartUnit = func(context.Context, string) error { return nil }
	put(t, filepath.Join(e.Root, "proc/self"), "")
	makeCertificates(t, e)
	if got := Main(t.Context(), e, []string{"renew"}); got != ExitOK {
		t.Fatal(got, errs)
	}
	kubelet := func(role, mode string) (name string) {
		put(t, filepath.Join(e.Root, node.Path), strings.Replace(document, "control-plane", role, 1)+
			"pki: {mode: "+mode+"}\ncluster: {endpoint: '192.0.2.10:6443'}\njoin: {caVerification: token}\n")
		for _, x := range e.expiries() {
			if strings.HasPrefix(x.name, "kubelet") {
				name += x.name
			}
		}
		return name
	}
	const itself = "kubelet (renews itself)"
	for _, role := range []string{"control-plane", "worker"} {
		for mode, want := range map[string]string{"shared": itself, "generate": itself, "external": "kubelet"} {
			if got := kubelet(role, mode); got != want {
				t.Errorf("%s %s: %q, want %q", mode, role, got, want)
			}
		}
	}
	if err := os.Remove(filepath.Join(e.Root, kubeadm.PKIDir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if got := kubelet("control-plane", "shared"); got != "kubelet" {
		t.Errorf("a control plane without the authority's key: %q", got)
	}
	if got := kubelet("worker", "shared"); got != itself {
		t.Errorf("a worker, which never has it: %q", got)
	}
}

// A machine that needs another certificate to come up is not kept waiting.
func TestRenewSoonAfterABoot(t *testing.T) {
	timer := read(t, "../../../assets/units/firstboot-renew.timer")
	var latest time.Duration
	for _, key := range []string{"OnBootSec", "RandomizedDelaySec"} {
		m := regexp.MustCompile(`(?m)^` + key + `=(\d+)min$`).FindStringSubmatch(timer)
		if m == nil {
			t.Fatalf("%s is missing:\n%s", key, timer)
		}
		d, err := time.ParseDuration(m[1] + "m")
		if err != nil {
			t.Fatal(err)
		}
		latest += d
	}
	if latest > 5*time.Minute {
		t.Errorf("the first renewal may be %s after the boot", latest)
	}
}
