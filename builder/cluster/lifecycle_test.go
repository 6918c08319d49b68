// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// hostsOf returns base with only the named hosts, and new ones at the end.
func hostsOf(keep string, added ...string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(base), "\n") {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "- {name: "), ","); strings.HasPrefix(line, "- ") && ok && !slices.Contains(strings.Fields(keep), name) {
			continue
		}
		lines = append(lines, line)
	}
	for i, name := range added {
		lines = append(lines, fmt.Sprintf("- {name: %s, role: control-plane, address: 192.0.2.%d, match: {serial: %s}}", name, 40+i, name))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestHostsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	own := func(text string) string { text, _, _ = strings.Cut(text, "\nrendered:"); return text } // what is secret
	secrets, ca := own(read(t, dir, SecretsFile)), read(t, dir, "pki/ca.key")

	// A worker goes and one comes: only what names them changes.
	r := rendered(t, parse(t, hostsOf("cp-1 cp-2 cp-3")+"- {name: w-2, role: worker, address: 192.0.2.22, match: {serial: S2}, network: {interface: eth0}}\n"), dir)
	got := actions(r)
	if got["hosts/w-1.ign"] != Removed || got["hosts/w-2.ign"] != Added || got["hosts/cp-1.ign"] != Changed || got[KubeconfigFile] != "" || got["roles/worker.ign"] != Removed {
		t.Errorf("%v", got)
	}
	for _, c := range r.Changes {
		if c.File == "hosts/cp-1.ign" && !slices.Equal(c.Detail, []string{"/etc/hosts changed"}) {
			t.Errorf("cp-1: %q", c.Detail)
		}
	}
	next := strings.Join(r.Next, "\n")
	if !strings.Contains(next, "kubectl delete node w-1") || !strings.Contains(next, "boot worker w-2") {
		t.Error(next)
	}
	if _, err := os.Stat(filepath.Join(dir, "hosts/w-1.ign")); err == nil {
		t.Error("the config of w-1 is still there")
	}
	if own(read(t, dir, SecretsFile)) != secrets || read(t, dir, "pki/ca.key") != ca {
		t.Error("secrets changed")
	}

	// A control plane that is new never starts a cluster.
	founders := func(text string) string {
		rendered(t, parse(t, text), dir)
		return strings.Join(readHost(t, dir, "hosts/cp-3.ign").document(t).Cluster.Founders, " ")
	}
	if got := founders(hostsOf("cp-2 cp-3", "cp-4")); got != "cp-2 cp-3" {
		t.Errorf("founders %q", got)
	}
	if got := founders(hostsOf("cp-3", "cp-4", "cp-5")); got != "cp-3" {
		t.Errorf("founders %q", got)
	}
	rendered(t, parse(t, hostsOf("", "cp-4", "cp-5", "cp-6")), dir)
	if got := readHost(t, dir, "hosts/cp-5.ign").document(t).Cluster.Founders; !slices.Equal(got, []string{"cp-4"}) {
		t.Errorf("founders %q", got)
	}
	// All at once would leave nothing to join.
	if _, err := Render(t.Context(), parse(t, hostsOf("", "cp-7", "cp-8", "cp-9")), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), "nothing to join") {
		t.Error(err)
	}
}

func TestReplacedHost(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	r := rendered(t, parse(t, strings.Replace(base, "52:54:00:00:00:11", "52:54:00:00:00:99", 1)), dir)
	got := actions(r)
	if got["hosts/w-1.ign"] != Changed || got[IndexFile] != Changed || got["roles/worker.ign"] != Changed || len(got) != 3 {
		t.Errorf("%v", got)
	}
	if len(r.Next) != 1 || !strings.Contains(r.Next[0], "old machine of worker w-1 off") {
		t.Errorf("%q", r.Next)
	}
	// What only changes is not a new machine.
	r = rendered(t, parse(t, strings.Replace(base, "name: w-1,", "name: w-1, labels: {a: b},", 1)), dir)
	if len(r.Next) != 1 || !strings.Contains(r.Next[0], "w-1 off") { // back to the first machine
		t.Errorf("%q", r.Next)
	}
	if r = rendered(t, parse(t, strings.Replace(base, "name: w-1,", "name: w-1, labels: {a: c},", 1)), dir); len(r.Next) != 0 {
		t.Errorf("%q", r.Next)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	r, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now, DryRun: true})
	if err != nil || len(r.Changes) == 0 {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestLostSecretsAreNotMadeAnew(t *testing.T) {
	for _, lost := range []string{SecretsFile, "pki/ca.key", "pki/ca.crt", "pki/sa.key", "pki/etcd/ca.key"} {
		dir := t.TempDir()
		rendered(t, parse(t, base), dir)
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), lost) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: %v", lost, err)
		}
	}
}

// The index can be lost, or damaged, or of another version: who may start the cluster is in
// secrets.yaml, and configs that are there are those of an earlier rendering.
func TestIndexIsMadeAnew(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"lost":    func(t *testing.T, dir string) { drop(t, dir, IndexFile) },
		"damaged": func(t *testing.T, dir string) { put(t, dir, IndexFile, []byte("{")) },
		"newer":   func(t *testing.T, dir string) { put(t, dir, IndexFile, []byte(`{"apiVersion": "imgbuild.io/v9"}`)) },
		"restored from a backup of what must not be lost": func(t *testing.T, dir string) { drop(t, dir, IndexFile); drop(t, dir, "hosts") },
	} {
		dir := t.TempDir()
		rendered(t, parse(t, hostsOf("cp-1 w-1")), dir)
		spoil(t, dir)
		rendered(t, parse(t, base), dir)
		if got := readHost(t, dir, "hosts/cp-2.ign").document(t).Cluster.Founders; !slices.Equal(got, []string{"cp-1"}) {
			t.Errorf("%s: founders %q", name, got)
		}
		if ix, err := ReadIndex(dir); err != nil || len(ix.Hosts) != 4 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// With configs there, an authority that is not was lost as well.
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	drop(t, dir, IndexFile)
	drop(t, dir, "pki")
	if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Error(err)
	}
}

func drop(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// What a power cut kept from being removed is removed the next time: the index, which is written
// last, still names it, also where secrets.yaml does not. What others put beside ours stays.
func TestLeftoversGo(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	index, config, role := read(t, dir, IndexFile), read(t, dir, "hosts/w-1.ign"), read(t, dir, roleFile(node.Worker))
	rendered(t, parse(t, hostsOf("cp-1 cp-2 cp-3")), dir)
	put(t, dir, IndexFile, []byte(index))
	put(t, dir, "hosts/w-1.ign", []byte(config))
	put(t, dir, roleFile(node.Worker), []byte(role))
	others := []string{"hosts/w-2.ign", "hosts/notes.txt", "pki/hosts/w-1/mine.key", "pki/hosts/w-2/kubelet.key"}
	for _, name := range others {
		put(t, dir, name, []byte("mine"))
	}
	r := rendered(t, parse(t, hostsOf("cp-1 cp-2 cp-3")), dir)
	if got := actions(r); got["hosts/w-1.ign"] != Removed || got[roleFile(node.Worker)] != Removed || got[IndexFile] != Changed || len(got) != 3 {
		t.Errorf("%v", got)
	}
	if next := strings.Join(r.Next, "\n"); !strings.Contains(next, "kubectl delete node w-1") {
		t.Errorf("what to do was lost with the rendering that was cut: %s", next)
	}
	put(t, dir, roleFile(node.Worker), []byte("mine"))
	if got := actions(rendered(t, parse(t, hostsOf("cp-1 cp-2 cp-3")), dir)); len(got) > 0 {
		t.Errorf("%v", got)
	}
	for _, name := range append(others, roleFile(node.Worker)) {
		if read(t, dir, name) != "mine" {
			t.Errorf("%s is gone", name)
		}
	}
}

// A first rendering takes no file that somebody else made; users' own .gitignore stays.
func TestForeignFilesStay(t *testing.T) {
	for _, name := range []string{".gitignore", KubeconfigFile, "hosts/cp-1.ign", "hosts/other.ign", "roles/notes", "pki/hosts/w-9/kubelet.key"} {
		dir := t.TempDir()
		put(t, dir, name, []byte("mine"))
		if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || read(t, dir, name) != "mine" {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	put(t, dir, ".gitignore", []byte("*\n!cluster.json\n"))
	rendered(t, parse(t, base), dir)
	if got := read(t, dir, ".gitignore"); got != "*\n!cluster.json\n" {
		t.Errorf(".gitignore is %q", got)
	}
}

// A rendering that was cut off at any file is completed by the next one.
func TestRenderAfterCut(t *testing.T) {
	full := t.TempDir()
	files := rendered(t, parse(t, base), full).Changes
	for n := range files {
		dir := t.TempDir()
		for _, c := range files[:n] {
			put(t, dir, c.File, []byte(read(t, full, c.File)))
		}
		rendered(t, parse(t, base), dir)
		for _, c := range files[:n] {
			if c.File != IndexFile && read(t, dir, c.File) != read(t, full, c.File) && strings.HasSuffix(c.File, ".key") {
				t.Errorf("cut after %d files: %s was made anew", n, c.File)
			}
		}
		if got := actions(rendered(t, parse(t, base), dir)); len(got) > 0 {
			t.Errorf("cut after %d files: not complete: %v", n, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	for text, want := range map[string]string{
		with("name: other"): "holds the secrets of cluster \"demo\"", with("pki: {mode: generate}"): `pki.mode: value "generate": was shared when hosts were rendered`,
	} {
		if _, err := Render(t.Context(), parse(t, text), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now.Add(200000 * time.Hour)}); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Error(err)
	}
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), "another rendering") {
		t.Error(err)
	}
}

func TestKubeconfigIsRenewed(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	cert := func() time.Time {
		_, auth, err := kubeconfig.Current([]byte(read(t, dir, KubeconfigFile)))
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.ParseCert(auth.ClientCertificateData)
		if err != nil {
			t.Fatal(err)
		}
		return c.NotAfter
	}
	first := cert()
	for _, c := range []struct {
		after   time.Duration
		renewed bool
	}{{5000 * time.Hour, false}, {7000 * time.Hour, true}} {
		if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now.Add(c.after)}); err != nil {
			t.Fatal(err)
		}
		if got := cert().After(first); got != c.renewed {
			t.Errorf("after %v: renewed is %v", c.after, got)
		}
	}
}
