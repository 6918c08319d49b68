// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"strings"
	"testing"
)

func newAccounts() *accounts {
	return &accounts{
		users:  map[string]user{"root": {name: "root", home: "/root", shell: noLogin}},
		groups: map[string]group{"root": {name: "root"}, "adm": {name: "adm", gid: 4}},
	}
}

func TestSysusers(t *testing.T) {
	a := newAccounts()
	a.addProfileUser("pinned", 998, "", "", "")
	a.groups["log"] = group{name: "log", gid: 999}
	err := a.sysusers("test.conf", `
# a comment
u! pinned - "A Service" /nonexistent
u  fixed  33  "With a number" /srv/fixed /bin/bash
u  shares 34:adm - /
u  both   35:36
g  log    -     -
g  adm    4
m  fixed  adm
r  -      500-900
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]user{
		"pinned": {"pinned", 998, 998, "A Service", "/nonexistent", noLogin},
		"fixed":  {"fixed", 33, 33, "With a number", "/srv/fixed", noLogin},
		"shares": {"shares", 34, 4, "", "/", noLogin},
		"both":   {"both", 35, 36, "", "/", noLogin},
	} {
		if a.users[name] != want {
			t.Errorf("user %s = %+v, want %+v", name, a.users[name], want)
		}
	}
	if got := a.groups["adm"].members; len(got) != 1 || got[0] != "fixed" {
		t.Errorf("members of adm = %v, want [fixed]", got)
	}
	if err := a.check(); err != nil {
		t.Error(err)
	}
}

func TestSysusersRefuses(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"user without id":  {"u new - -", "test.conf:1: user new has no fixed id"},
		"group without id": {"g new -", "test.conf:1: group new has no fixed id"},
		"other group id":   {"g adm 5", "group adm is 5 here and 4 elsewhere"},
		"other user id":    {"u root 1", "user root is 1 here and 0 elsewhere"},
		"bad id":           {"u x 1x", `id "1x" is not a number`},
		"unknown group":    {"u x 7:nope", "unknown group nope"},
		"membership":       {"m root nope", "unknown group nope"},
		"type":             {"z x 1", `entry type "z"`},
		"quote":            {`u x 1 "open`, "unterminated quote"},
	} {
		t.Run(name, func(t *testing.T) {
			err := newAccounts().sysusers("test.conf", c.line)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestSharedIDsAreRefused(t *testing.T) {
	a := newAccounts()
	a.addProfileUser("one", 700, "", "", "")
	a.addProfileUser("two", 700, "", "", "")
	a.groups["lonely"] = group{name: "lonely", gid: 701, members: []string{"nobody-here"}}
	err := a.check()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"users one and two share uid 700", "groups one and two share gid 700", "member nobody-here is not a user"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestOwner(t *testing.T) {
	a := newAccounts()
	a.addProfileUser("svc", 700, "", "", "")
	for s, want := range map[string][2]uint32{"": {0, 0}, "root": {0, 0}, "svc": {700, 700}, "svc:adm": {700, 4}} {
		uid, gid, err := a.owner(s)
		if err != nil || uid != want[0] || gid != want[1] {
			t.Errorf("owner(%q) = %d:%d, %v; want %d:%d", s, uid, gid, err, want[0], want[1])
		}
	}
	for _, s := range []string{"nobody", "root:nope"} {
		if _, _, err := a.owner(s); err == nil {
			t.Errorf("owner(%q): no error", s)
		}
	}
}

func FuzzSysusers(f *testing.F) {
	f.Add("u! a - \"b c\" /d\ng x 5\nm a x\n")
	f.Fuzz(func(t *testing.T, text string) {
		a := newAccounts()
		if a.sysusers("fuzz", text) != nil {
			return
		}
		for name, u := range a.users {
			if u.name != name || u.shell != noLogin {
				t.Errorf("user %q = %+v", name, u)
			}
		}
	})
}
