// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// sysusers applies one sysusers.d(5) file. An entry without a number must have been
// given one by the profile; one whose number differs from an existing account is an
// error. Ranges and file paths as ids are refused: no package in Debian's set uses them.
func (a *accounts) sysusers(file, text string) error {
	var problems []error
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f, err := splitQuoted(line)
		if err == nil {
			err = a.sysusersLine(f)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", file, i+1, err))
		}
	}
	return errors.Join(problems...)
}

func (a *accounts) sysusersLine(f []string) error {
	for len(f) < 6 {
		f = append(f, "-")
	}
	for i := range f {
		if f[i] == "-" {
			f[i] = ""
		}
	}
	kind, name, id := strings.TrimSuffix(f[0], "!"), f[1], f[2]
	switch kind {
	case "g":
		return a.declareGroup(name, id)
	case "u":
		return a.declareUser(name, id, f[3], f[4])
	case "m":
		g, ok := a.groups[id]
		if !ok {
			return fmt.Errorf("membership of %s in unknown group %s", name, id)
		}
		g.members = append(g.members, name)
		a.groups[id] = g
		return nil
	case "r":
		return nil // a range for dynamic ids: none are handed out
	}
	return fmt.Errorf("entry type %q is not one of g, u, m, r", f[0])
}

func (a *accounts) declareGroup(name, id string) error {
	g, known := a.groups[name]
	if id == "" {
		if !known {
			return fmt.Errorf("group %s has no fixed id; add it to the profile's groups", name)
		}
		return nil
	}
	gid, err := parseID(id)
	if err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	if known && g.gid != gid {
		return fmt.Errorf("group %s is %d here and %d elsewhere", name, gid, g.gid)
	}
	if !known {
		a.groups[name] = group{name: name, gid: gid}
	}
	return nil
}

func (a *accounts) declareUser(name, id, gecos, home string) error {
	u, known := a.users[name]
	if id == "" {
		if !known {
			return fmt.Errorf("user %s has no fixed id; add it to the profile's users", name)
		}
		u.gecos = cmp.Or(u.gecos, gecos)
		a.users[name] = u
		return nil
	}
	uidText, gidText, hasGID := strings.Cut(id, ":")
	uid, err := parseID(uidText)
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	gid := uid
	if hasGID {
		if gid, err = parseID(gidText); err != nil {
			g, ok := a.groups[gidText]
			if !ok {
				return fmt.Errorf("user %s: unknown group %s", name, gidText)
			}
			gid = g.gid
		}
	}
	if known {
		if u.uid != uid {
			return fmt.Errorf("user %s is %d here and %d elsewhere", name, uid, u.uid)
		}
		return nil
	}
	if _, ok := a.groups[name]; !ok && !hasGID {
		a.groups[name] = group{name: name, gid: gid}
	}
	a.users[name] = user{name, uid, gid, gecos, cmp.Or(home, "/"), noLogin}
	return nil
}

// splitQuoted splits on blanks, keeping double-quoted words together.
func splitQuoted(line string) ([]string, error) {
	var out []string
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		if line[0] != '"' {
			i := strings.IndexAny(line, " \t")
			if i < 0 {
				i = len(line)
			}
			out, line = append(out, line[:i]), line[i:]
			continue
		}
		end := strings.IndexByte(line[1:], '"')
		if end < 0 {
			return nil, fmt.Errorf("unterminated quote in %q", line)
		}
		out, line = append(out, line[1:1+end]), line[end+2:]
	}
	return out, nil
}
