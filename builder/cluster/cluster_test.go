// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// starter returns the starter file of a cluster.
func starter(t *testing.T, controlPlanes, workers int) string {
	t.Helper()
	text, err := Starter(StarterOptions{Name: "demo", ControlPlanes: controlPlanes, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// parse reads a cluster file that has to be right, beside the given files.
func parse(t *testing.T, text string, files ...string) *Source {
	t.Helper()
	s, err := Parse("cluster.yaml", place(t, files...), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// place writes files, given as name and content in turns, and returns their directory.
func place(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// someCA is PEM text with an authority that signs nothing here.
func someCA(t *testing.T) string {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Now: now}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := m.Authority(pki.Spec{Name: pki.CA, CommonName: "mirrors"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.CertPEM())
}

// rendered renders into dir, which has to work.
func rendered(t *testing.T, s *Source, dir string) *Result {
	t.Helper()
	r, err := Render(t.Context(), s, Options{Dir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// actions returns what happened to each file that did not stay as it was.
func actions(r *Result) map[string]Action {
	out := map[string]Action{}
	for _, c := range r.Changes {
		if c.Action != Unchanged {
			out[c.File] = c.Action
		}
	}
	return out
}

// host is a rendered config, read by Ignition's own parser.
type host struct{ types.Config }

func readHost(t *testing.T, dir, name string) host {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	cfg, report, err := v3_5.Parse(text)
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%s: %v: %s", name, err, report.String())
	}
	return host{cfg}
}

// file returns the content of a file in a config, and whether there is one.
func (h host) file(t *testing.T, path string) (string, bool) {
	t.Helper()
	for _, f := range h.Storage.Files {
		if f.Path != path {
			continue
		}
		data, err := ignition.Data(f.Contents)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), true
	}
	return "", false
}

// document returns the node document of a config.
func (h host) document(t *testing.T) *node.Node {
	t.Helper()
	text, ok := h.file(t, node.Path)
	if !ok {
		t.Fatal("the config has no node document")
	}
	n, err := node.Parse("node.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStarterPassesCheck(t *testing.T) {
	for _, c := range []struct{ controlPlanes, workers, warnings int }{{1, 0, 0}, {3, 2, 0}, {2, 0, 1}, {80, 80, 1}} {
		s := parse(t, starter(t, c.controlPlanes, c.workers))
		if len(s.Cluster.ControlPlanes()) != c.controlPlanes || len(s.Cluster.Hosts) != c.controlPlanes+c.workers || len(s.Warnings) != c.warnings {
			t.Errorf("%+v: %d hosts, warnings %v", c, len(s.Cluster.Hosts), s.Warnings)
		}
	}
	for _, o := range []StarterOptions{{Name: "", ControlPlanes: 1}, {Name: "A", ControlPlanes: 1}, {Name: "a"}, {Name: "a", ControlPlanes: 81}, {Name: "a", ControlPlanes: 1, Workers: -1}} {
		if text, err := Starter(o); err == nil {
			t.Errorf("%+v: %s", o, text)
		}
	}
}

// someManifest is a file with objects.
const someManifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: own}\n"

// Every line that is commented out in the starter is part of the format, too.
func TestStarterCommentsPassCheck(t *testing.T) {
	var lines []string
	skip := []string{"# vlan", "# bond", "# loadBalancer", "# name:", "# kubernetesVersion"}
	for line := range strings.SplitSeq(starter(t, 3, 2), "\n") {
		body := strings.TrimLeft(line, " ")
		key, _, isKey := strings.Cut(strings.TrimPrefix(body, "# "), ":")
		option := isKey && strings.HasPrefix(body, "#") && !strings.Contains(key, " ") || strings.HasPrefix(body, "#   ")
		for _, s := range skip {
			option = option && !strings.HasPrefix(body, s)
		}
		if option {
			line = strings.Replace(line, "# ", "", 1)
		}
		lines = append(lines, line)
	}
	text := strings.Join(lines, "\n")
	snippet := "variant: fcos\nversion: 1.6.0\n"
	s := parse(t, text, "network.yaml", someManifest, "mirror-ca.pem", someCA(t), "mirror.credentials", "user:pass\n", "common.bu", snippet, "worker.bu", snippet)
	if len(s.Cluster.Registries) != 1 || len(s.Cluster.TimeServers) != 1 || s.Cluster.Callback.URL == "" || len(s.Cluster.Roles.Worker.Butane) != 1 || s.Cluster.Etcd.ElectionTimeout == 0 {
		t.Errorf("options were not read from:\n%s", text)
	}
}

func TestRenderTwice(t *testing.T) {
	s, dir := parse(t, starter(t, 3, 1)), filepath.Join(t.TempDir(), "demo")
	r := rendered(t, s, dir)
	for _, c := range r.Changes {
		if c.Action != Added {
			t.Errorf("the first time %s is %s", c.File, c.Action)
		}
		st, err := os.Stat(filepath.Join(dir, c.File))
		if err != nil {
			t.Fatal(err)
		}
		public := c.File == IndexFile || c.File == ".gitignore" || strings.HasSuffix(c.File, ".crt")
		if !public && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", c.File, st.Mode())
		}
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", st.Mode(), err)
	}
	again := rendered(t, parse(t, starter(t, 3, 1)), dir)
	if got := actions(again); len(got) != 0 || len(again.Changes) != len(r.Changes) {
		t.Errorf("the second time: %v", got)
	}
	ix, err := ReadIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(ix.Hosts) != 4 || ix.Endpoint != "192.168.100.10:6443" || ix.Kubeconfig != KubeconfigFile || !ix.Hosts[0].Founder || ix.Hosts[3].Founder {
		t.Errorf("%+v", ix)
	}
	for i, h := range ix.Hosts {
		n := readHost(t, dir, h.Ignition).document(t)
		if n.Node.Name != h.Name || n.Role != h.Role || n.Node.Address != h.Address || len(n.Cluster.Members()) != 3 || n.VIP.Address != "192.168.100.10" {
			t.Errorf("host %d: %+v", i, n)
		}
	}
}
