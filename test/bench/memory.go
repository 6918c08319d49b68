// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Machine is the memory of a running machine, seen from inside. Sizes are bytes.
type Machine struct {
	Name string `json:"name"`
	// Total is what the kernel manages, Available what programs could still get without
	// swapping (proc_meminfo(5)). Used is the difference.
	Total     int64 `json:"total"`
	Available int64 `json:"available"`
	Used      int64 `json:"used"`
	// Programs are ordered by size, the largest first.
	Programs []Program `json:"programs"`
}

// Program is the memory of all processes of one name (proc_pid_smaps(5)).
type Program struct {
	// Name is as the kernel has it, cut after 15 bytes.
	Name string `json:"name"`
	// RSS counts pages that several processes map in each of them, PSS divides them among
	// these. Anonymous memory has no file behind it and cannot be dropped.
	RSS       int64 `json:"rss"`
	PSS       int64 `json:"pss"`
	Anonymous int64 `json:"anonymous"`
}

// memory asks the agent behind conn.
func memory(conn net.Conn, name string) (Machine, error) {
	var lines []string
	if err := ask(conn, askMemory, func(l string) { lines = append(lines, l) }); err != nil {
		return Machine{}, err
	}
	m, err := parseMemory(lines)
	m.Name = name
	return m, err
}

// parseMemory reads the agent's answer: lines of /proc/meminfo, and lines of the form
// "process PID NAME Rss: 123 kB".
func parseMemory(lines []string) (m Machine, err error) {
	programs := map[string]*Program{}
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) < 3 || f[len(f)-1] != "kB" {
			continue // names may hold spaces, other lines hold no size
		}
		kib, err := strconv.ParseInt(f[len(f)-2], 10, 64)
		if err != nil {
			return m, fmt.Errorf("%q: %w", line, err)
		}
		size := kib << 10
		switch key := f[len(f)-3]; {
		case f[0] == "MemTotal:":
			m.Total = size
		case f[0] == "MemAvailable:":
			m.Available = size
		case f[0] == "process" && len(f) >= 6:
			name := strings.Join(f[2:len(f)-3], " ")
			if programs[name] == nil {
				programs[name] = &Program{Name: name}
			}
			p := programs[name]
			switch key {
			case "Rss:":
				p.RSS += size
			case "Pss:":
				p.PSS += size
			case "Anonymous:":
				p.Anonymous += size
			}
		}
	}
	if m.Total == 0 || m.Available == 0 || len(programs) == 0 {
		return m, fmt.Errorf("the machine said nothing of its memory in %d lines", len(lines))
	}
	m.Used = m.Total - m.Available
	for _, p := range programs {
		m.Programs = append(m.Programs, *p)
	}
	slices.SortFunc(m.Programs, func(a, b Program) int {
		if a.PSS != b.PSS {
			return int(max(-1, min(1, b.PSS-a.PSS)))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return m, nil
}

// shown is how many programs the table lists.
const shown = 12

// table prints the largest programs.
func (m Machine) table(w io.Writer) error {
	fmt.Fprintf(w, "\nMemory of %s: %s of %s used; its programs in MB\n", m.Name, format(float64(m.Used), "bytes"), format(float64(m.Total), "bytes"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "RSS\tPSS\tANONYMOUS\t")
	for _, p := range m.Programs[:min(shown, len(m.Programs))] {
		fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t  %s\n", float64(p.RSS)/1e6, float64(p.PSS)/1e6, float64(p.Anonymous)/1e6, p.Name)
	}
	return t.Flush()
}
