// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"slices"
)

// accounts checks users and groups: names, and that no id means two things. A user
// without a group key has one of its own name and id, which takes part in the check.
func (c *checker) accounts() {
	groups := map[string]uint32{}
	names := map[uint32]string{}
	claim := func(path, name string, gid uint32) {
		if old, ok := groups[name]; ok && old != gid {
			c.problem(path, fmt.Sprintf("group %q has the id %d already", name, old))
		} else if other, ok := names[gid]; ok && other != name {
			c.problem(path, fmt.Sprintf("group id %d belongs to %q already", gid, other))
		}
		groups[name], names[gid] = gid, name
	}
	for i, g := range c.p.Groups {
		p := at("groups", i)
		c.account(p, g.Name)
		if _, twice := groups[g.Name]; twice {
			c.problem(p+".name", "is defined twice")
			continue
		}
		claim(p+".gid", g.Name, g.GID)
	}
	users := map[string]bool{}
	ids := map[uint32]string{}
	for i, u := range c.p.Users {
		p := at("users", i)
		c.account(p, u.Name)
		if users[u.Name] {
			c.problem(p+".name", "is defined twice")
			continue
		}
		if other, ok := ids[u.UID]; ok {
			c.problem(p+".uid", fmt.Sprintf("belongs to user %q already", other))
		}
		users[u.Name], ids[u.UID] = true, u.Name
		if u.Home != "" {
			c.absolute(p+".home", u.Home)
		}
		if u.Group == "" {
			claim(p+".uid", u.Name, u.UID)
		} else {
			c.match(p+".group", u.Group, accountName, "is not a group name")
		}
	}
	for i, g := range c.p.Groups {
		for j, m := range g.Members {
			if !accountName.MatchString(m) {
				c.problem(fmt.Sprintf("groups[%d].members[%d]", i, j), "is not a user name")
			} else if slices.Contains(g.Members[:j], m) {
				c.problem(fmt.Sprintf("groups[%d].members[%d]", i, j), "is listed twice")
			}
		}
	}
}

func (c *checker) account(p, name string) {
	if !accountName.MatchString(name) {
		c.problem(p+".name", "is not an account name", accountName.String())
	}
}
