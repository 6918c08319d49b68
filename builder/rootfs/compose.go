// SPDX-License-Identifier: Apache-2.0

// Package rootfs composes the root file system of a node image: locked packages plus
// declarative steps that do what maintainer scripts would have done. Compose is a pure
// function of its inputs. No program of the image runs, so an image for one
// architecture is composed on any other.
//
// Steps are data (Steps); what differs on purpose from what packages ship is data too
// (Differences and the profile's removals), and Compare holds an image to it.
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Package is one unpacked Debian package.
type Package struct {
	Name, Version string
	// AddTo puts what the package ships into a tree, with the origin "deb:<name>".
	AddTo func(*tree.Tree) error
}

// Inputs is everything a root file system is a function of.
type Inputs struct {
	Profile      *profile.Profile
	Architecture string // Debian's name: amd64, arm64
	// Packages in dependency order; base-files before all others.
	Packages []Package
	// Modules holds the selected kernel modules and their index below /usr/lib/modules
	// (see package kmod). Nil for an image without a kernel, as tests make.
	Modules *tree.Tree
	// Components are built programs, already at their final paths.
	Components []tree.Node
	// Extra are nodes the build itself makes: the base image, the manifest.
	Extra []tree.Node
	// Assets resolves the sources of the profile's files.
	Assets fs.FS
}

// Report says what composing did, for size reports and the manifest.
type Report struct {
	// Removed counts the nodes each removal of the profile took out, by its path.
	Removed map[string]int
	// Accounts lists every user and group as "name:id".
	Users, Groups []string
	// Enabled lists units with the links that enable them.
	Enabled map[string][]string
	// StateDirs are the directories below /var that packages ship and that
	// systemd-tmpfiles creates on the state partition instead.
	StateDirs []string
}

// Step is one named part of composing.
type Step struct {
	Name    string
	Purpose string
	run     func(*composer) error
}

// Steps lists what Compose does, in order.
var Steps = []Step{
	{"packages", "lay packages out over each other", (*composer).packages},
	{"ca-bundle", "join the trusted certificates into one file", (*composer).caBundle},
	{"accounts", "users and groups from base-passwd, sysusers.d and the profile, none with a password", (*composer).accounts},
	{"removals", "take out what a node never uses, each with its reason", (*composer).removals},
	{"state", "move what packages ship under /var to tmpfiles.d: /var is the state partition", (*composer).state},
	{"set-id", "clear set-uid and set-gid bits: nobody logs in", (*composer).setID},
	{"kernel-modules", "place the selected modules and their index", (*composer).kernelModules},
	{"components", "place the programs built from Go modules", (*composer).components},
	{"mount-points", "directories the running system mounts over", (*composer).mountPoints},
	{"alternatives", "the links update-alternatives would have made", (*composer).alternatives},
	{"identity", "os-release, an empty machine-id, hosts and name service files", (*composer).identity},
	{"files", "files, directories and links of the profile", (*composer).files},
	{"units", "enable and mask units, write the preset that says the same", (*composer).units},
}

type composer struct {
	Inputs
	t      *tree.Tree
	report Report
	ids    accounts
}

// Compose runs every step and returns the tree. Problems within a step are collected;
// the first step with problems ends the run.
func Compose(in Inputs) (*tree.Tree, *Report, error) {
	c := &composer{Inputs: in, t: tree.New(), report: Report{Removed: map[string]int{}, Enabled: map[string][]string{}}}
	for _, s := range Steps {
		if err := s.run(c); err != nil {
			return nil, nil, fmt.Errorf("root file system, step %s: %w", s.Name, err)
		}
	}
	return c.t, &c.report, nil
}

func (c *composer) packages() error {
	var problems []error
	for _, p := range c.Packages {
		problems = append(problems, p.AddTo(c.t))
	}
	return errors.Join(problems...)
}

func (c *composer) components() error {
	var problems []error
	for _, n := range c.Components {
		problems = append(problems, c.t.Put(n))
	}
	for _, n := range c.Extra {
		problems = append(problems, c.t.Put(n))
	}
	return errors.Join(problems...)
}

// kernelModules replaces what the kernel package ships by the selection. The kernel
// image itself is not in the root: it boots from the UKI.
func (c *composer) kernelModules() error {
	if c.Modules == nil {
		return nil
	}
	c.t.Remove("/usr/lib/modules")
	c.t.Remove("/boot")
	for _, n := range c.Modules.Nodes() {
		if n.Path == "/" {
			continue
		}
		if n.Kind == tree.Directory && c.t.Lookup(n.Path) != nil {
			continue
		}
		if err := c.t.Put(*n); err != nil {
			return err
		}
	}
	return nil
}

// mountPoints exist in the read-only root because something is mounted over them.
var mountPoints = []struct {
	path string
	mode uint32
}{
	{"/proc", 0o555}, {"/sys", 0o555}, {"/dev", 0o755}, {"/run", 0o755}, {"/tmp", 0o1777},
	{"/var", 0o755}, {"/etc", 0o755}, {"/efi", 0o755},
}

// stateLinks are directories that belong to the host rather than to the image. They
// live on the state partition; the initrd makes them before Ignition adds users.
var stateLinks = map[string]string{
	"/home": "var/home", "/root": "var/roothome", "/srv": "var/srv", "/mnt": "var/mnt", "/opt": "var/opt",
}

func (c *composer) mountPoints() error {
	for _, m := range mountPoints {
		if c.t.Lookup(m.path) != nil {
			continue
		}
		if err := c.t.Put(tree.Node{Path: m.path, Kind: tree.Directory, Mode: m.mode, Origin: "step:mount-points"}); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(stateLinks)) {
		c.t.Remove(p)
		if err := c.link("mount-points", p, stateLinks[p]); err != nil {
			return err
		}
	}
	return nil
}

// put places literal bytes owned by root.
func (c *composer) put(step, p, content string) error {
	return c.t.Put(tree.Node{Path: p, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte(content)), Origin: "step:" + step})
}

func (c *composer) link(step, p, target string) error {
	return c.t.Put(tree.Node{Path: p, Kind: tree.Symlink, Mode: 0o777, Target: target, Origin: "step:" + step})
}
