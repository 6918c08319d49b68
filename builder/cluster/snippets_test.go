// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

const fcos = "variant: fcos\nversion: 1.6.0\n"

// snippetProblems checks text with one snippet, own.bu.
func snippetProblems(t *testing.T, text, snippet string) (strict.Problems, string) {
	t.Helper()
	dir := place(t, "own.bu", snippet, "manifest.yaml", someManifest, "ca.pem", someCA(t), "auth", "robot:hush\n")
	_, err := Parse("cluster.yaml", dir, []byte(text))
	var ps strict.Problems
	if err != nil && !errors.As(err, &ps) {
		t.Fatal(err)
	}
	return ps, dir
}

// Every file that a host's config has of its own is refused in a snippet, whatever it comes from.
func TestSnippetsLeaveTheConfigAlone(t *testing.T) {
	text := strings.Replace(base, "hosts:\n", "timeServers: [ntp.example.org]\npodNetwork: {manifests: [manifest.yaml]}\n"+
		"registries: [{host: docker.io, mirrors: [{url: 'https://m', caFile: ca.pem, credentialsFile: auth}]}]\nbutane: [own.bu]\nhosts:\n", 1)
	for _, mode := range []string{"shared", "generate", "external"} {
		text := strings.Replace(text, "mode: shared", "mode: "+mode, 1)
		s := parse(t, text, "own.bu", fcos, "manifest.yaml", someManifest, "ca.pem", someCA(t), "auth", "robot:hush\n")
		m, seen := s.standIns(), map[string]bool{}
		for i := range s.Cluster.Hosts {
			files, err := s.hostFiles(&s.Cluster.Hosts[i], &m, s.Cluster.standInKeys(&s.Cluster.Hosts[i]))
			if err != nil || len(files) < 6 {
				t.Fatal(err, files)
			}
			for _, f := range files {
				if seen[f.path] {
					continue
				}
				seen[f.path] = true
				for _, kind := range []string{"files: [{path: %s, overwrite: true, contents: {inline: x}}]", "links: [{path: %s, target: /x}]"} {
					ps, dir := snippetProblems(t, text, fcos+"storage:\n  "+strings.ReplaceAll(kind, "%s", f.path)+"\n")
					if len(ps) != 1 || ps[0].File != filepath.Join(dir, "own.bu") || ps[0].Line != 4 || !strings.Contains(ps[0].Message, "writes "+f.path+", which is written from cluster.yaml") {
						t.Errorf("%s, %s: %v", mode, f.path, ps)
					}
				}
			}
		}
	}
}

func TestSnippetConflicts(t *testing.T) {
	for _, c := range []struct{ snippet, want string }{
		{"storage:\n  files:\n    - path: /etc/../etc/hosts\n      contents: {inline: x}\n", ""}, // Ignition refuses it, in other words
		{"storage:\n  files:\n    - path: /usr/local/bin/x\n      contents: {inline: x}\n", "own.bu:5:13: writes /usr/local/bin/x, and /usr is sealed"},
		{"storage:\n  links:\n    - path: /lib/systemd/x\n      target: /x\n", "own.bu:5:13: writes /lib/systemd/x, and /usr is sealed"},
		{"storage:\n  directories:\n    - path: /usr\n", "own.bu:5:13: writes /usr, and /usr is sealed"},
		{"storage:\n  links:\n    - path: /etc/systemd/system/firstboot.service\n      target: /dev/null\n", "own.bu:5:13: writes /etc/systemd/system/firstboot.service in the place of the image's own unit"},
		{"storage:\n  files:\n    - path: /etc/kubernetes/pki/ca.key\n", "own.bu:5:13: writes /etc/kubernetes/pki/ca.key, which"},
		{"storage:\n  links:\n    - path: /etc/kubernetes/pki\n      target: /x\n", "own.bu:5:13: writes /etc/kubernetes/pki, which"},
		{"systemd:\n  units:\n    - name: kubelet.service\n      mask: true\n", "own.bu:5:13: masks, disables or replaces the image's own kubelet.service; change it with a drop-in"},
		{"systemd:\n  units:\n    - name: firstboot.service\n      enabled: false\n", "own.bu:5:13: masks, disables"},
		{"systemd:\n  units:\n    - name: keepalived.service\n      contents: '[Service]'\n", "own.bu:5:13: masks, disables"},
		{"ignition:\n  config:\n    replace:\n      source: https://example.org/x.ign\n", "own.bu:6:15: replaces the config"},
		{"systemd:\n  units:\n    - name: kubelet.service\n      enabled: true\n      dropins: [{name: 10-own.conf, contents: '[Service]'}]\n", "-"},
		{"systemd:\n  units:\n    - name: own.service\n      mask: true\n", "-"},
		{"storage:\n  files:\n    - path: /etc/systemd/system/kubelet.service.d/10-own.conf\n      contents: {inline: x}\n", "-"},
		{"storage:\n  files:\n    - path: /opt/bin/x\n      contents: {inline: x}\n  directories:\n    - path: /etc/kubernetes/pki\n", "-"},
		{"ignition:\n  config:\n    merge: [{source: 'https://example.org/x.ign'}]\n", "-"},
		{"storage:\n  files:\n    - path: /etc/hosts\n      append: [{inline: x}]\n", "-"},
		{"storage:\n  files:\n    - path: /etc/hosts\n      mode: 0600\n      append: [{inline: x}]\n", "own.bu:5:13: writes /etc/hosts"},
		{"storage:\n  files:\n    - path: /etc/hostname\n      append: [{inline: x}]\n", "own.bu:5:13: writes /etc/hostname"},
	} {
		for _, text := range []string{with("butane: [own.bu]"), with("roles: {controlPlane: {butane: [own.bu]}}"), alone + "roles: {worker: {butane: [own.bu]}}\n"} {
			ps, _ := snippetProblems(t, text, fcos+c.snippet)
			if c.want == "-" && len(ps) > 0 || c.want != "-" && (len(ps) == 0 || !strings.Contains(ps.Error(), c.want)) {
				t.Errorf("%s\n%v, want %s", c.snippet, ps, c.want)
			}
			if len(ps) > 1 && c.want != "" {
				t.Errorf("more than one: %v", ps)
			}
		}
	}
	// What is added to /etc/hosts comes behind what is there.
	dir := t.TempDir()
	rendered(t, parse(t, with("butane: [own.bu]"), "own.bu", fcos+"storage: {files: [{path: /etc/hosts, append: [{inline: '192.0.2.9 other'}]}]}\n"), dir)
	h := readHost(t, dir, "hosts/w-1.ign")
	i := slices.IndexFunc(h.Storage.Files, func(f types.File) bool { return f.Path == "/etc/hosts" })
	if text, _ := h.file(t, "/etc/hosts"); !strings.Contains(text, "192.0.2.11 cp-1\n") || len(h.Storage.Files[i].Append) != 1 {
		t.Errorf("%+v", h.Storage.Files[i])
	}
}

// The image's own units are those in assets.
func TestImageUnits(t *testing.T) {
	entries, err := os.ReadDir("../../assets/units")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".conf" { // a drop-in for one of Debian's
			names = append(names, e.Name())
		}
	}
	if !slices.Equal(names, imageUnits) {
		t.Errorf("assets have %q\nwe have %q", names, imageUnits)
	}
}

// Butane quotes values, which can be secret, and have backticks in them.
func TestSnippetMessagesShowNoValue(t *testing.T) {
	for _, value := range []string{"hush", "ab`hush", "`hush", "hush`", "a`hush`b", "a\\n`hush"} {
		for _, snippet := range []string{"storage: {files: [{path: /f, mode: \"%\"}]}", "storage:\n  files:\n    - path: /f\n      mode: \"%\"\n      overwrite: \"%\"\n", "storage: \"%\"", "systemd: {units: [{name: a.service, enabled: \"%\"}]}"} {
			ps, _ := snippetProblems(t, with("butane: [own.bu]"), fcos+strings.ReplaceAll(snippet, "%", value)+"\n")
			if len(ps) == 0 || strings.Contains(ps.Error(), "hush") || strings.Contains(ps.Error(), "hus") {
				t.Errorf("%s\n%v", strings.ReplaceAll(snippet, "%", value), ps)
			}
		}
	}
}

// Butane reads the first document and drops the others without a word.
func TestSnippetIsOneDocument(t *testing.T) {
	for text, line := range map[string]int{
		fcos + "---\n" + fcos + "storage: {files: [{path: /f}]}\n": 4, fcos + "---\n---\nx\n": 5, "---\n" + fcos + "--- x\n": 4,
		fcos + "---\n": 0, "---\n" + fcos + "...\n": 0, fcos + "---\n# nothing\n": 0,
	} {
		ps, dir := snippetProblems(t, with("butane: [own.bu]"), text)
		if line == 0 && len(ps) > 0 || line > 0 && (len(ps) != 1 || ps[0].Line != line || ps[0].File != filepath.Join(dir, "own.bu") || !strings.Contains(ps[0].Message, "second document")) {
			t.Errorf("%q: %v", text, ps)
		}
	}
}
