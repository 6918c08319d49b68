// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// The names are those that Ignition's engine registers, read from its source; ours leave out
// what is not a place to run.
func TestPlatformsAreThoseOfIgnition(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coreos/ignition/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "internal/providers/*/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	registered := regexp.MustCompile(`(?m)^\s+Name:\s+"([a-z]+)",$`)
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range registered.FindAllStringSubmatch(string(text), -1) {
			if m[1] != "cmdline" && m[1] != "system" {
				names = append(names, m[1])
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < 20 || !slices.Equal(names, platformNames()) {
		t.Errorf("Ignition has %v\nwe have %v", names, platformNames())
	}
}

func TestUserDataIsCountedAsPlatformsDo(t *testing.T) {
	config := []byte(strings.Repeat("0123456789", 300))
	for name, want := range map[string]int{"aws": 3000, "openstack": 4000, "metal": 3000} {
		if got := platforms[name].size(config); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if got := platforms["vmware"].size(config); got > 200 || got%4 != 0 {
		t.Errorf("vmware: %d bytes", got)
	}
}

// Every platform with a limit takes a small cluster and refuses what is too large, before
// anything is written.
func TestUserDataLimits(t *testing.T) {
	for name, p := range platforms {
		if p.limit == 0 {
			continue
		}
		text := with("platform: " + name + "\nuserData: {secrets: all}\nbutane: [some.bu]")
		dir := func(n int) string {
			return place(t, "some.bu", "variant: fcos\nversion: 1.6.0\nstorage: {files: [{path: /f, contents: {inline: '"+noise(n)+"'}}]}\n")
		}
		if _, err := Parse("cluster.yaml", dir(10), []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := Parse("cluster.yaml", dir(p.limit), []byte(text))
		if err == nil || !strings.Contains(err.Error(), "platform "+name+" takes") || fault.ClassOf(err) != fault.Config {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Secrets reach a cloud only when the file says so, for each host's own platform.
func TestSecretsNeedConsent(t *testing.T) {
	generate := strings.Replace(base, "mode: shared", "mode: generate", 1)
	for _, c := range []struct{ text, platform, secrets, want string }{
		{base, "metal", "refuse", ""}, {base, "vmware", "refuse", ""},
		{base, "aws", "refuse", "private keys"}, {base, "aws", "tokens", "private keys"}, {base, "aws", "all", ""},
		{generate, "aws", "refuse", "bootstrap tokens"}, {generate, "aws", "tokens", "the key that decrypts"}, {generate, "aws", "all", ""},
		{strings.Replace(base, "name: w-1,", "name: w-1, platform: gcp,", 1), "metal", "tokens", ""},
		{strings.Replace(base, "name: w-1,", "name: w-1, platform: gcp,", 1), "metal", "refuse", "hosts[3].platform: value \"gcp\": would put bootstrap tokens"},
	} {
		text := strings.Replace(c.text, "hosts:\n", "platform: "+c.platform+"\nuserData: {secrets: "+c.secrets+"}\nhosts:\n", 1)
		_, err := Parse("cluster.yaml", t.TempDir(), []byte(text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v, want %q", c.platform, c.secrets, err, c.want)
		}
	}
}

// One config for all hosts of a role is not made where it would not fit.
func TestRoleConfigsFitToo(t *testing.T) {
	var text strings.Builder
	text.WriteString(with("platform: aws\nuserData: {secrets: all}"))
	for i := range 150 {
		serial, label := sha256.Sum256([]byte{byte(i)}), sha256.Sum256([]byte{byte(i), 0})
		fmt.Fprintf(&text, "- {name: w-%d, role: worker, match: {serial: s%x}, labels: {a: l%x}, address: 192.0.2.%d, network: {addressing: dhcp}}\n", 100+i, serial, label[:30], 30+i)
	}
	dir := t.TempDir()
	r := rendered(t, parse(t, text.String()), dir)
	if next := strings.Join(r.Next, "\n"); !strings.Contains(next, "use the config of each worker: one for all has") {
		t.Errorf("%q", r.Next)
	}
	if _, err := os.Stat(filepath.Join(dir, roleFile(node.Worker))); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
