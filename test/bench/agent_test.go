// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
)

// Butane makes the same files and units of the snippet that a single machine gets.
func TestAgentSnippet(t *testing.T) {
	dir := t.TempDir()
	name, err := agentSnippet(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	out, report, err := butane.TranslateBytes(text, common.TranslateBytesOptions{})
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%v\n%s\n%s", err, report.String(), text)
	}
	var config types.Config
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	g, err := agent()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Storage.Files) != len(g.Files) || len(config.Systemd.Units) != len(g.Units) {
		t.Fatalf("%d files and %d units, want %d and %d", len(config.Storage.Files), len(config.Systemd.Units), len(g.Files), len(g.Units))
	}
	for i, f := range config.Storage.Files {
		data, err := ignition.Data(f.Contents)
		if want := g.Files[i]; err != nil || f.Path != want.Path || *f.Mode != want.Mode || string(data) != string(want.Data) {
			t.Errorf("%s, mode %o, %v:\n%s", f.Path, *f.Mode, err, data)
		}
	}
	for i, u := range config.Systemd.Units {
		if want := g.Units[i]; u.Name != want.Name || !*u.Enabled || *u.Contents != want.Contents {
			t.Errorf("unit %s:\n%s", u.Name, *u.Contents)
		}
	}
}

func TestAsk(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		request := make([]byte, len("memory\n"))
		if _, err := there.Read(request); err == nil && string(request) == "memory\n" {
			_, _ = there.Write([]byte("a\nb\n")) // the test sees what is missing
		}
	}()
	var lines []string
	if err := ask(here, askMemory, func(l string) { lines = append(lines, l) }); err != nil || !slices.Equal(lines, []string{"a", "b"}) {
		t.Errorf("%q, %v", lines, err)
	}
}
