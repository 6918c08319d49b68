// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPagesAreCurrent(t *testing.T) {
	want, err := pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%v; run make generate", err)
			continue
		}
		if string(got) != text {
			t.Errorf("%s is not what the code says; run make generate", name)
		}
	}
	have, err := present(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range have {
		if _, ok := want[name]; !ok {
			t.Errorf("%s describes nothing that exists; run make generate", name)
		}
	}
}

// The pages must hold what readers come for; a renderer that lost it would still agree
// with itself.
func TestPagesSayWhatMatters(t *testing.T) {
	all, err := pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"cli/imgbuild.md":             {"`--cache-dir`", "`-o`, `--output`", "(imgbuild-plan.md)", "## Flags of every verb"},
		"cli/imgbuild-cache-prune.md": {"`--unused`", "720h"},
		"cli/firstboot.md":            {"## run", "--from-ignition", "130  a signal ended the run"},
		"node.md": {"| `serviceSubnet` (optional) | text | `10.96.0.0/12` |", "`ECDSA-P256`, `ECDSA-P384`", "`8760h`", "1-255; 0 derives it from the address",
			"`direct`, `vip` with a `vip`", "[Networking](#networking)", "| `ttl` (optional) | duration | `24h` |"},
		"component.md": {"`unimport` (optional) | list of text", "[Program](#program)"},
		"status.md":    {"imgbuild: phase NAME STATE TOOK", "`bootTime` | RFC 3339 time", "## Event"},
		"phases.md":    {"| `etcd` | etcd's static pod is in place | certs, base-image | control-plane | 2m30s | 1 | refuse |", "certs --> kubeconfig", "| `swap` | error |", "| `product-uuid` | warning |"},
	} {
		text := all[directory+"/"+name]
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
}

func TestMarkdown(t *testing.T) {
	got := markdown("Text.\n\n# Head\n\nCode:\n\n\ta\n\t  b\n\nMore.\n")
	want := "Text.\n\n## Head\n\nCode:\n\n```text\na\n  b\n```\n\nMore.\n\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
