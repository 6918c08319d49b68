// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestParseMemory(t *testing.T) {
	m, err := parseMemory(strings.Split(strings.TrimSpace(`
MemTotal:        4000 kB
MemFree:          500 kB
MemAvailable:    3000 kB
HugePages_Total:       0
process 1 systemd Rss: 12 kB
process 1 systemd Pss: 8 kB
process 1 systemd Anonymous: 4 kB
process 70 kube-apiserver Rss: 300 kB
process 70 kube-apiserver Pss: 250 kB
process 71 kube-apiserver Rss: 100 kB
process 71 kube-apiserver Pss: 50 kB
process 9 two words Pss: 1 kB`), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Program{{"kube-apiserver", 400 << 10, 300 << 10, 0}, {"systemd", 12 << 10, 8 << 10, 4 << 10}, {"two words", 0, 1 << 10, 0}}
	if m.Total != 4000<<10 || m.Available != 3000<<10 || m.Used != 1000<<10 || !slices.Equal(m.Programs, want) {
		t.Errorf("%+v", m)
	}
	for _, bad := range [][]string{nil, {"MemTotal: 4 kB", "MemAvailable: 2 kB"}, {"MemTotal: x kB"}} {
		if m, err := parseMemory(bad); err == nil {
			t.Errorf("%q became %+v", bad, m)
		}
	}
}

// The script that runs in machines reports this very process, as the kernel sees it.
func TestAgentReportsMemory(t *testing.T) {
	sh := exec.Command("sh", "guest/agent.sh")
	sh.Stdin = strings.NewReader(askMemory + "\n")
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseMemory(strings.Split(string(out), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Programs, func(p Program) bool { return p.Name == strings.TrimSpace(string(name)) })
	if i < 0 || m.Programs[i].RSS < 1<<20 || m.Programs[i].RSS < m.Programs[i].PSS || m.Programs[i].Anonymous == 0 || m.Used <= 0 {
		t.Errorf("of %q: %+v", name, m)
	}
}
