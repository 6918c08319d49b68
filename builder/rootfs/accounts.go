// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

const (
	noLogin     = "/usr/sbin/nologin"
	masterDir   = "/usr/share/base-passwd"
	sysusersDir = "/usr/lib/sysusers.d"
)

type user struct {
	name     string
	uid, gid uint32
	gecos    string
	home     string
	shell    string
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// accounts are the users and groups of an image, by name.
type accounts struct {
	users  map[string]user
	groups map[string]group
}

// accounts writes passwd, group, shadow and gshadow (passwd(5), shadow(5)). The base
// comes from base-passwd, packages add theirs through sysusers.d, and the profile gives
// every dynamically numbered one a fixed id, so that ids never move between images.
func (c *composer) accounts() error {
	a := accounts{users: map[string]user{}, groups: map[string]group{}}
	if err := a.readMaster(c.t); err != nil {
		return err
	}
	for _, g := range c.Profile.Groups {
		a.groups[g.Name] = group{g.Name, g.GID, g.Members}
	}
	for _, u := range c.Profile.Users {
		a.addProfileUser(u.Name, u.UID, u.Group, u.Home, u.Gecos)
	}
	var problems []error
	for _, n := range c.t.Below(sysusersDir) {
		if path.Dir(n.Path) != sysusersDir || path.Ext(n.Path) != ".conf" || n.Kind != tree.Regular {
			continue
		}
		data, err := n.Content.ReadAll()
		if err != nil {
			return err
		}
		problems = append(problems, a.sysusers(n.Path, string(data)))
	}
	problems = append(problems, a.check())
	if err := errors.Join(problems...); err != nil {
		return err
	}
	c.ids = a
	c.t.Remove(masterDir)
	return a.write(c)
}

func (a *accounts) addProfileUser(name string, uid uint32, grp, home, gecos string) {
	gid := uid
	if grp == "" {
		a.groups[name] = group{name: name, gid: gid}
	} else {
		gid = a.groups[grp].gid
	}
	a.users[name] = user{name, uid, gid, gecos, cmp.Or(home, "/nonexistent"), noLogin}
}

// readMaster reads base-passwd's templates. Every shell becomes nologin.
func (a *accounts) readMaster(t *tree.Tree) error {
	passwd, err := masterLines(t, "passwd.master", 7)
	if err != nil {
		return err
	}
	groups, err := masterLines(t, "group.master", 4)
	if err != nil {
		return err
	}
	for _, f := range groups {
		gid, err := parseID(f[2])
		if err != nil {
			return fmt.Errorf("group.master: group %s: %w", f[0], err)
		}
		a.groups[f[0]] = group{name: f[0], gid: gid}
	}
	for _, f := range passwd {
		uid, err1 := parseID(f[2])
		gid, err2 := parseID(f[3])
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("passwd.master: user %s: %w", f[0], err)
		}
		a.users[f[0]] = user{f[0], uid, gid, f[4], f[5], noLogin}
	}
	return nil
}

func masterLines(t *tree.Tree, name string, fields int) ([][]string, error) {
	p := path.Join(masterDir, name)
	n := t.Lookup(p)
	if n == nil {
		return nil, fmt.Errorf("%s is missing; the package base-passwd must be in the image", p)
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		return nil, err
	}
	var out [][]string
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		f := strings.Split(line, ":")
		if len(f) != fields {
			return nil, fmt.Errorf("%s:%d: %q has %d fields, want %d", p, i+1, line, len(f), fields)
		}
		out = append(out, f)
	}
	return out, nil
}

func parseID(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("id %q is not a number", s)
	}
	return uint32(v), nil
}

// check refuses two names with one id: files of one would belong to the other.
func (a *accounts) check() error {
	var problems []error
	uids, gids := map[uint32]string{}, map[uint32]string{}
	for _, u := range a.sortedUsers() {
		if other, dup := uids[u.uid]; dup {
			problems = append(problems, fmt.Errorf("users %s and %s share uid %d", other, u.name, u.uid))
		}
		uids[u.uid] = u.name
	}
	for _, g := range a.sortedGroups() {
		if other, dup := gids[g.gid]; dup {
			problems = append(problems, fmt.Errorf("groups %s and %s share gid %d", other, g.name, g.gid))
		}
		gids[g.gid] = g.name
		for _, m := range g.members {
			if _, ok := a.users[m]; !ok {
				problems = append(problems, fmt.Errorf("group %s: member %s is not a user of the image", g.name, m))
			}
		}
	}
	return errors.Join(problems...)
}

func (a *accounts) sortedUsers() []user {
	out := make([]user, 0, len(a.users))
	for _, u := range a.users {
		out = append(out, u)
	}
	slices.SortFunc(out, func(x, y user) int { return cmp.Or(cmp.Compare(x.uid, y.uid), strings.Compare(x.name, y.name)) })
	return out
}

func (a *accounts) sortedGroups() []group {
	out := make([]group, 0, len(a.groups))
	for _, g := range a.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(x, y group) int { return cmp.Or(cmp.Compare(x.gid, y.gid), strings.Compare(x.name, y.name)) })
	return out
}

// write renders the four files. "!*" matches no password and stays locked whatever
// tool "unlocks" the account by removing the exclamation mark.
func (a *accounts) write(c *composer) error {
	var passwd, shadow, grp, gshadow strings.Builder
	for _, u := range a.sortedUsers() {
		fmt.Fprintf(&passwd, "%s:x:%d:%d:%s:%s:%s\n", u.name, u.uid, u.gid, u.gecos, u.home, u.shell)
		fmt.Fprintf(&shadow, "%s:!*:::::::\n", u.name)
		c.report.Users = append(c.report.Users, fmt.Sprintf("%s:%d", u.name, u.uid))
	}
	for _, g := range a.sortedGroups() {
		members := strings.Join(g.members, ",")
		fmt.Fprintf(&grp, "%s:x:%d:%s\n", g.name, g.gid, members)
		fmt.Fprintf(&gshadow, "%s:!*::%s\n", g.name, members)
		c.report.Groups = append(c.report.Groups, fmt.Sprintf("%s:%d", g.name, g.gid))
	}
	shadowGID := a.groups["shadow"].gid
	file := func(p string, mode, gid uint32, content string) error {
		return c.t.Put(tree.Node{Path: p, Kind: tree.Regular, Mode: mode, GID: gid, Content: tree.Bytes([]byte(content)), Origin: "step:accounts"})
	}
	return errors.Join(
		file("/etc/passwd", 0o644, 0, passwd.String()),
		file("/etc/group", 0o644, 0, grp.String()),
		file("/etc/shadow", 0o640, shadowGID, shadow.String()),
		file("/etc/gshadow", 0o640, shadowGID, gshadow.String()),
		file("/etc/subuid", 0o644, 0, ""),
		file("/etc/subgid", 0o644, 0, ""),
	)
}

// owner resolves "user[:group]"; a bare user brings its primary group.
func (a *accounts) owner(s string) (uint32, uint32, error) {
	if s == "" {
		return 0, 0, nil
	}
	name, grp, hasGroup := strings.Cut(s, ":")
	u, ok := a.users[name]
	if !ok {
		return 0, 0, fmt.Errorf("owner %q: the image has no user %q", s, name)
	}
	if !hasGroup {
		return u.uid, u.gid, nil
	}
	g, ok := a.groups[grp]
	if !ok {
		return 0, 0, fmt.Errorf("owner %q: the image has no group %q", s, grp)
	}
	return u.uid, g.gid, nil
}
