// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

const (
	etcUnits    = "/etc/systemd/system"
	vendorUnits = "/usr/lib/systemd/system"
	// presetFile sorts after the one Ignition writes (20-ignition.preset), so that the
	// host's choices win over "disable *" (systemd.preset(5)).
	presetFile = "/usr/lib/systemd/system-preset/90-imgbuild.preset"
)

func (c *composer) units() error {
	if c.Profile.Debug {
		if err := c.debugShell(); err != nil {
			return err
		}
	}
	links, err := EnableUnits(c.t, c.Profile.Units, "step:units")
	if err != nil {
		return err
	}
	c.report.Enabled = links
	var b strings.Builder
	b.WriteString("# What this image enables; everything else is off unless the host's configuration says so.\n")
	for _, u := range c.Profile.Units.Enable {
		fmt.Fprintf(&b, "enable %s\n", u)
	}
	b.WriteString("disable *\n")
	for _, n := range c.t.Below(path.Dir(presetFile)) {
		c.t.Delete(n.Path)
	}
	return c.put("units", presetFile, b.String())
}

// EnableUnits makes the links that "systemctl enable" and "mask" would make in t, and
// the default target. It returns the links made for each enabled unit.
func EnableUnits(t *tree.Tree, u profile.Units, origin string) (map[string][]string, error) {
	e := enabler{t: t, origin: origin, links: map[string][]string{}}
	for _, name := range u.Enable {
		e.enable(name, 0)
	}
	for _, name := range u.Mask {
		if _, file := e.find(name); file == "" {
			e.problemf("mask %s: no such unit", name)
			continue
		}
		e.link(name, path.Join(etcUnits, name), "/dev/null")
	}
	if u.Default != "" {
		_, file := e.find(u.Default)
		if file == "" {
			e.problemf("default %s: no such unit", u.Default)
		} else {
			e.link(u.Default, path.Join(etcUnits, "default.target"), file)
		}
	}
	return e.links, errors.Join(e.problems...)
}

type enabler struct {
	t        *tree.Tree
	origin   string
	links    map[string][]string
	problems []error
}

func (e *enabler) problemf(format string, args ...any) {
	e.problems = append(e.problems, fmt.Errorf(format, args...))
}

// find returns the node of a unit and its path; for an instance, the template's.
func (e *enabler) find(name string) (*tree.Node, string) {
	for _, dir := range []string{etcUnits, vendorUnits} {
		for _, file := range []string{name, template(name)} {
			p := path.Join(dir, file)
			final, err := e.t.Resolve(p)
			if err != nil {
				continue
			}
			if n := e.t.Lookup(final); n != nil && n.Kind == tree.Regular {
				return n, p
			}
		}
	}
	return nil, ""
}

// template returns "getty@.service" for "getty@tty1.service", other names unchanged.
func template(name string) string {
	prefix, rest, ok := strings.Cut(name, "@")
	if !ok {
		return name
	}
	return prefix + "@" + path.Ext(rest)
}

func (e *enabler) enable(name string, depth int) {
	if _, done := e.links[name]; done || depth > 8 {
		return
	}
	n, file := e.find(name)
	if n == nil {
		e.problemf("enable %s: no such unit in %s or %s", name, etcUnits, vendorUnits)
		return
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		e.problems = append(e.problems, err)
		return
	}
	in := ParseInstall(string(data))
	if in.empty() {
		e.problemf("enable %s: the unit has no [Install] section; it is started by what needs it, drop it from the list", name)
		return
	}
	if in.DefaultInstance != "" && strings.Contains(name, "@.") {
		name = strings.Replace(name, "@.", "@"+in.DefaultInstance+".", 1)
	}
	e.links[name] = []string{}
	for suffix, targets := range map[string][]string{".wants": in.WantedBy, ".requires": in.RequiredBy, ".upholds": in.UpheldBy} {
		for _, target := range targets {
			e.link(name, path.Join(etcUnits, target+suffix, name), file)
		}
	}
	for _, alias := range in.Alias {
		e.link(name, path.Join(etcUnits, alias), file)
	}
	for _, also := range in.Also {
		// A companion the profile removed stays removed.
		if n, _ := e.find(also); n != nil {
			e.enable(also, depth+1)
		}
	}
	slices.Sort(e.links[name])
}

func (e *enabler) link(unit, p, target string) {
	if old := e.t.Lookup(p); old != nil && old.Kind == tree.Regular {
		e.problemf("%s: link %s would replace a file from %s", unit, p, old.Origin)
		return
	}
	if err := e.t.Put(tree.Node{Path: p, Kind: tree.Symlink, Mode: 0o777, Target: target, Origin: e.origin}); err != nil {
		e.problems = append(e.problems, err)
		return
	}
	e.links[unit] = append(e.links[unit], p)
}

// Install is the [Install] section of a unit file (systemd.unit(5)).
type Install struct {
	WantedBy, RequiredBy, UpheldBy, Alias, Also []string
	DefaultInstance                             string
}

func (in Install) empty() bool {
	return len(in.WantedBy)+len(in.RequiredBy)+len(in.UpheldBy)+len(in.Alias)+len(in.Also) == 0
}

// ParseInstall reads the [Install] section. An empty assignment clears a list, a
// trailing backslash continues a line, # and ; begin comment lines.
func ParseInstall(text string) Install {
	var in Install
	lists := map[string]*[]string{
		"WantedBy": &in.WantedBy, "RequiredBy": &in.RequiredBy, "UpheldBy": &in.UpheldBy, "Alias": &in.Alias, "Also": &in.Also,
	}
	section, pending := "", ""
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" && pending == "" || line != "" && strings.ContainsRune("#;", rune(line[0])) {
			continue
		}
		line = pending + line
		pending = ""
		if head, ok := strings.CutSuffix(line, `\`); ok {
			pending = strings.TrimSpace(head) + " "
			continue
		}
		if line[0] == '[' {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Install]" {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "DefaultInstance" {
			in.DefaultInstance = cmp.Or(value, in.DefaultInstance)
		}
		if list := lists[key]; list != nil {
			if value == "" {
				*list = nil
			}
			*list = append(*list, strings.Fields(value)...)
		}
	}
	return in
}
