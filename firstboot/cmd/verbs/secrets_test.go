// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/preflight"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// usable are the files of a machine on which preflight finds nothing to object to.
var usable = map[string]string{
	"/proc/swaps":                                  "Filename\n",
	"/sys/fs/cgroup/cgroup.controllers":            "cpuset cpu io memory pids\n",
	"/proc/filesystems":                            "nodev\toverlay\n",
	"/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
	"/sys/module/vxlan/refcnt":                     "0\n",
	"/proc/sys/net/ipv4/ip_forward":                "1\n",
	"/proc/meminfo":                                "MemTotal: 4026532 kB\n",
	"/var/keep":                                    "",
	"/proc/sys/kernel/osrelease":                   "test",
	"/usr/lib/modules/test/modules.dep":            moduleIndex(),
	"/etc/machine-id":                              "0123456789abcdef0123456789abcdef\n",
}

// moduleIndex lists what kube-proxy needs.
func moduleIndex() string {
	return "/" + strings.Join(preflight.ProxyModules(node.ProxyNFTables), ".ko:\n/") + ".ko:\n"
}

const (
	secretToken    = "bcdefg.fedcba9876543210"
	secretKey      = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	secretCallback = "callback-token-that-nobody-else-has"
)

// keysBelow returns every line of every private key that a run made.
func keysBelow(t *testing.T, root string) (lines []string, first string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, "etc/kubernetes"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".key") {
			return err
		}
		text, err := os.ReadFile(path)
		first = string(text)
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
				lines = append(lines, line)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, first
}

// TestNoSecretGetsOut runs first boot up to a failure that quotes every secret there is, as a
// careless program could, and looks for each of them in everything the run produced.
func TestNoSecretGetsOut(t *testing.T) {
	var mu sync.Mutex
	var posted []string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || r.Header.Get("Authorization") != "Bearer "+secretCallback {
			t.Errorf("%v %v", err, r.Header)
		}
		posted = append(posted, string(body))
	}))
	defer srv.Close()
	e, out, errs := env(t, "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\nnode: {name: cp-1}\n"+
		"bootstrapTokens: [{token: "+secretToken+"}]\npki: {certificateKey: "+secretKey+"}\ncallback: {url: '"+srv.URL+"', token: "+secretCallback+"}\n")
	for path, text := range usable {
		put(t, filepath.Join(e.Root, path), text)
	}
	asked := false
	err := e.run(t.Context(), filepath.Join(e.Root, node.Path), func(s *phases.State) {
		s.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
			return kubeadm.Host{Hostname: "cp-1", Address: netip.MustParseAddr("192.0.2.11"), KubernetesVersion: "v1.36.3"}, nil
		}
		s.StartUnit = func(context.Context, string) error {
			asked = true
			_, key := keysBelow(t, e.Root)
			text := "careless: " + secretToken + " " + secretKey + " " + secretCallback + "\n" + key
			s.Log.Info(text)
			return errors.New(text)
		}
	})
	if err == nil || !asked {
		t.Fatalf("first boot did not fail where it was to: %v", err)
	}
	e.complain(err)
	mu.Lock()
	defer mu.Unlock()
	places := map[string]string{"console": read(t, e.Console), "status": read(t, filepath.Join(e.Root, status.Path)), "stdout": out.String(),
		"log": errs.String(), "journal": read(t, filepath.Join(e.Root, phase.JournalPath)), "callback": strings.Join(posted, "\n")}
	secrets, _ := keysBelow(t, e.Root)
	if len(secrets) < 20 {
		t.Fatalf("the run made only %d lines of keys", len(secrets))
	}
	_, half, _ := strings.Cut(secretToken, ".")
	secrets = append(secrets, secretToken, half, secretKey, secretCallback)
	for place, text := range places {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s shows a secret", place)
			}
		}
		if place != "stdout" && !strings.Contains(text, "careless") {
			t.Errorf("%s does not show the failure:\n%s", place, text)
		}
	}
	var last status.Event
	if err := json.Unmarshal([]byte(posted[len(posted)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.State != status.Failed || last.Error == "" || !slices.ContainsFunc(last.Log, func(l string) bool { return strings.Contains(l, "phase=kubelet-start") }) {
		t.Errorf("the last event does not say what happened: %+v", last)
	}
	transitions := map[string]bool{}
	for _, p := range posted {
		var ev status.Event
		if err := json.Unmarshal([]byte(p), &ev); err == nil && ev.Phase != nil {
			transitions[ev.Phase.Name+" "+string(ev.Phase.State)] = true
		}
	}
	for _, want := range []string{"preflight running", "preflight " + string(phase.Done), "identity " + string(phase.Done), "certs running", "certs " + string(phase.Done), "kubelet-start running", "kubelet-start retrying"} {
		if !transitions[want] {
			t.Errorf("the transition %q was not posted; posted: %v", want, transitions)
		}
	}
}
