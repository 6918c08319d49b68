// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	noslug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// slug is the anchor GitHub gives a heading.
func slug(title string) string {
	return strings.ReplaceAll(strings.ToLower(noslug.ReplaceAllString(title, "")), " ", "-")
}

// prose takes code blocks out of a document.
func prose(text string) string {
	var out []string
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "```") {
			inside = !inside
		} else if !inside {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestLinksResolve(t *testing.T) {
	docs := documents(t)
	anchors := map[string]map[string]bool{}
	for name, text := range docs {
		anchors[name] = map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
			anchors[name][slug(m[1])] = true
		}
	}
	seen := 0
	for name, text := range docs {
		for _, m := range link.FindAllStringSubmatch(prose(text), -1) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: %s: %v", name, m[1], err)
				continue
			}
			if u.Scheme != "" {
				continue
			}
			seen++
			target := name
			if u.Path != "" {
				target = path.Join(path.Dir(name), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
				continue
			}
			if u.Fragment != "" && !anchors[target][u.Fragment] {
				t.Errorf("%s: %s has no heading #%s", name, target, u.Fragment)
			}
		}
	}
	if seen < 30 {
		t.Fatalf("only %d links found", seen)
	}
}

func TestEveryPageIsReachable(t *testing.T) {
	docs := documents(t)
	reached := map[string]bool{"README.md": true}
	for todo := []string{"README.md"}; len(todo) > 0; todo = todo[1:] {
		for _, m := range link.FindAllStringSubmatch(prose(docs[todo[0]]), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			target := path.Join(path.Dir(todo[0]), file)
			if _, ok := docs[target]; ok && !reached[target] {
				reached[target] = true
				todo = append(todo, target)
			}
		}
	}
	for name := range docs {
		if strings.HasPrefix(name, "docs/") && !reached[name] {
			t.Errorf("no chain of links leads from README.md to %s", name)
		}
	}
}

// foreign are things that belong to somebody's machine and not into a document.
var foreign = regexp.MustCompile(`/(work|Users|home/[a-z]\w*|root|tmp)/|\.(local|lan|internal|corp)\b(:|/)|deb\.debian\.org|proxy\.golang\.org|localhost\.localdomain`)

var address = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b`)

// addresses that may be shown: documentation (RFC 5737), loopback, kubeadm's default ranges.
var shown = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.96.0.0/12"),
}

func TestNothingOfAMachine(t *testing.T) {
	for name, text := range documents(t) {
		for i, line := range strings.Split(text, "\n") {
			for _, p := range machineTraces(line) {
				t.Errorf("%s:%d: %q belongs to a machine, not to a document", name, i+1, p)
			}
		}
	}
}

func machineTraces(line string) []string {
	found := foreign.FindAllString(line, -1)
	for _, a := range address.FindAllString(line, -1) {
		ip, err := netip.ParseAddr(a)
		ok := err != nil // a version with four numbers
		for _, p := range shown {
			ok = ok || p.Contains(ip)
		}
		if !ok {
			found = append(found, a)
		}
	}
	return found
}

func TestMachineTraces(t *testing.T) {
	for line, want := range map[string]int{
		"see /home/anna/x": 1, "10.1.2.3 and 192.0.2.7": 1, "https://mirror.example.org/debian": 0,
		"http://files.lan/a": 1, "/var/home and cluster.local": 0, "version 1.2.3.4567": 0,
	} {
		if got := machineTraces(line); len(got) != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	if slug("What `imgbuild` does, 2nd") != "what-imgbuild-does-2nd" {
		t.Errorf("slug %q", slug("What `imgbuild` does, 2nd"))
	}
}
