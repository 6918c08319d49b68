// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
)

// RootSet returns the name of the set that a profile's root file system is made of.
func RootSet(profile string) string { return "root/" + profile }

// InitrdSet returns the name of the set that a profile's initial RAM disk is made of.
func InitrdSet(profile string) string { return "initrd/" + profile }

// ToolSet returns the name of the set that a locked program runs from.
func ToolSet(tool string) string { return "tool/" + tool }

// Check reports everything that p names and the lock does not pin, in one error of class
// MissingPin: the profile was changed after the lock was written.
func (l *Lock) Check(p *profile.Profile) error {
	missing := l.missingFrom(RootSet(p.Name), append([]string{p.Kernel.Package}, p.Debian.Packages...))
	missing = append(missing, l.missingFrom(InitrdSet(p.Name), p.Initrd.Packages)...)
	for _, list := range [][]string{p.Components, p.Initrd.Components} {
		for _, c := range list {
			if _, err := l.Module(c); err != nil {
				missing = append(missing, "component "+c)
			}
		}
	}
	for _, r := range p.Releases {
		if _, err := l.Release(r.Name, r.Version); err != nil {
			missing = append(missing, "release "+r.Name+" "+r.Version)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.MissingPin, "run 'imgbuild lock', which resolves them and shows what else changes",
		"profile %s names %s that the lock for %s does not pin:\n  %s", p.Name, count(len(missing)), l.Architecture, strings.Join(missing, "\n  "))
}

func count(n int) string {
	if n == 1 {
		return "something"
	}
	return fmt.Sprintf("%d things", n)
}
