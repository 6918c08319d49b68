// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/builder/vm"
)

//go:embed guest
var guestFiles embed.FS

// agentPort is where a measured machine takes requests. systemd listens there itself, so that
// a request costs a machine nothing until it is made.
const agentPort = 10353

// What a machine can be asked.
const (
	// askMemory is answered with /proc/meminfo and a line per value of each process.
	askMemory = "memory"
	// askKill is answered with a line right before keepalived is killed.
	askKill = "kill-keepalived"
)

// agent is what a machine needs to answer.
func agent() (g vm.Guest, err error) {
	read := func(name string) string {
		data, e := guestFiles.ReadFile("guest/" + name)
		if e != nil {
			err = e
		}
		return string(data)
	}
	g.Files = []vm.GuestFile{
		{Path: "/etc/bench/agent.sh", Mode: 0o755, Data: []byte(read("agent.sh"))},
		// A template is started by its socket and never enabled itself.
		{Path: "/etc/systemd/system/bench-agent@.service", Mode: 0o644, Data: []byte(read("agent@.service"))},
	}
	g.Units = []vm.GuestUnit{{Name: "bench-agent.socket", Contents: strings.ReplaceAll(read("agent.socket"), "@PORT@", strconv.Itoa(agentPort))}}
	return g, err
}

// agentSnippet writes the agent as a Butane snippet for cluster.yaml and returns its name.
func agentSnippet(dir string) (string, error) {
	type contents struct {
		Inline string `yaml:"inline"`
	}
	type file struct {
		Path     string   `yaml:"path"`
		Mode     int      `yaml:"mode"`
		Contents contents `yaml:"contents"`
	}
	type unit struct {
		Name     string `yaml:"name"`
		Enabled  bool   `yaml:"enabled"`
		Contents string `yaml:"contents"`
	}
	var doc struct {
		Variant string                 `yaml:"variant"`
		Version string                 `yaml:"version"`
		Storage struct{ Files []file } `yaml:"storage"`
		Systemd struct{ Units []unit } `yaml:"systemd"`
	}
	g, err := agent()
	if err != nil {
		return "", err
	}
	doc.Variant, doc.Version = "fcos", "1.6.0"
	for _, f := range g.Files {
		doc.Storage.Files = append(doc.Storage.Files, file{f.Path, f.Mode, contents{string(f.Data)}})
	}
	for _, u := range g.Units {
		doc.Systemd.Units = append(doc.Systemd.Units, unit{u.Name, true, u.Contents})
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return "", err
	}
	const name = "bench.bu"
	return name, os.WriteFile(filepath.Join(dir, name), text, 0o644)
}

// ask makes a request over a connection to an agent and calls line for each line of the answer.
func ask(conn net.Conn, request string, line func(string)) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, request); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		line(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("asking a machine for %s: %w", request, err)
	}
	return nil
}
