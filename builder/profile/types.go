// SPDX-License-Identifier: Apache-2.0

// Package profile defines what a node image should be: the YAML files under profiles/,
// their inheritance, defaults and validation. It decides nothing about how an image is
// built and reads nothing but the profile files and the asset names they refer to.
package profile

// Profile is one decoded and merged profile. Lists are appended along the inheritance
// chain (parents first), maps are merged by key, scalars of the child win.
type Profile struct {
	// Name is the profile's own name and the base name of its file.
	Name string `yaml:"name"`
	// Extends names the parent profile; empty for a root profile.
	Extends string `yaml:"extends,omitempty"`
	// Abstract profiles exist to be extended and cannot be built.
	Abstract    bool   `yaml:"abstract,omitempty"`
	Description string `yaml:"description"`

	// Roles lists the node document roles this image may take (control-plane, worker).
	Roles []string `yaml:"roles,omitempty"`

	Image  Image  `yaml:"image"`
	Debian Debian `yaml:"debian"`
	Kernel Kernel `yaml:"kernel"`
	Initrd Initrd `yaml:"initrd"`

	// Components are built from Go modules (assets/components/<name>) into /usr.
	Components []string `yaml:"components,omitempty"`
	// Files are placed after packages and components, in order.
	Files []File `yaml:"files,omitempty"`
	// Directories and symlinks are placed with the files.
	Directories []Directory `yaml:"directories,omitempty"`
	Symlinks    []Symlink   `yaml:"symlinks,omitempty"`
	Users       []User      `yaml:"users,omitempty"`
	Groups      []Group     `yaml:"groups,omitempty"`
	Units       Units       `yaml:"units,omitempty"`
	// Alternatives maps a link to its target, in place of update-alternatives.
	Alternatives map[string]string `yaml:"alternatives,omitempty"`
	// Remove lists paths or globs (** crosses directories) taken out of what the packages
	// ship, each with the reason. The file-by-file comparison test reads the same list.
	Remove []Removal `yaml:"remove,omitempty"`
	Layout Layout    `yaml:"layout"`
	// Delivery says where control-plane programs run from: "verity" (the host's /usr).
	Delivery string `yaml:"delivery"`
	// Debug adds a console shell; it shows in the image's name and manifest.
	Debug bool `yaml:"debug,omitempty"`
}

// Image is the identity of the result.
type Image struct {
	// ID becomes IMAGE_ID in os-release.
	ID string `yaml:"id"`
	// Version becomes IMAGE_VERSION.
	Version string `yaml:"version"`
}

// Debian names the archive suites and the packages to take from them. Dependencies are
// resolved when the lock is written; Recommends are never followed.
type Debian struct {
	// Mirror is the base URL of the archive; usually left to the command line,
	// the environment or the host's apt sources.
	Mirror string `yaml:"mirror,omitempty"`
	Suite  string `yaml:"suite"`
	// Packages are wanted by name.
	Packages []string `yaml:"packages"`
	// Omit lists packages that a dependency names but the image does not need.
	Omit []Omission `yaml:"omit,omitempty"`
}

// Omission leaves a dependency out on purpose.
type Omission struct {
	Package string `yaml:"package"`
	Reason  string `yaml:"reason"`
}

// Kernel selects the kernel package, its modules and the fixed part of the command line.
type Kernel struct {
	Package string `yaml:"package"`
	// Modules are globs below the kernel directory of /usr/lib/modules/<version>/,
	// without .ko suffixes; dependencies are added. What matches none is left out.
	Modules   []string `yaml:"modules"`
	Arguments []string `yaml:"arguments"`
}

// Initrd selects what the initial RAM disk is composed of.
type Initrd struct {
	Packages []string `yaml:"packages"`
	// Files are globs over the trees of those packages; ELF dependencies are added.
	Files   []string `yaml:"files"`
	Modules []string `yaml:"modules"`
	// Components are built programs to include (ignition).
	Components []string `yaml:"components,omitempty"`
	Assets     []File   `yaml:"assets,omitempty"`
	// Symlinks and enabled units are as in the root file system.
	Symlinks []Symlink `yaml:"symlinks,omitempty"`
	Units    Units     `yaml:"units,omitempty"`
}

// File places an asset or literal content.
type File struct {
	Path string `yaml:"path"`
	// Source is a path below assets/; exclusive with Content.
	Source  string `yaml:"source,omitempty"`
	Content string `yaml:"content,omitempty"`
	// Mode is octal, default 0644.
	Mode  string `yaml:"mode,omitempty"`
	Owner string `yaml:"owner,omitempty"` // user[:group], default root:root
}

// Directory creates a directory.
type Directory struct {
	Path  string `yaml:"path"`
	Mode  string `yaml:"mode,omitempty"`
	Owner string `yaml:"owner,omitempty"`
}

// Symlink creates a symbolic link.
type Symlink struct {
	Path   string `yaml:"path"`
	Target string `yaml:"target"`
}

// User is a system account. No account can log in with a password.
type User struct {
	Name  string `yaml:"name"`
	UID   uint32 `yaml:"uid"`
	Group string `yaml:"group,omitempty"` // default: a group of the same name and id
	Home  string `yaml:"home,omitempty"`  // default: /nonexistent
	Gecos string `yaml:"gecos,omitempty"`
}

// Group is a system group.
type Group struct {
	Name    string   `yaml:"name"`
	GID     uint32   `yaml:"gid"`
	Members []string `yaml:"members,omitempty"`
}

// Units says what systemd starts. Presets of the packages are not consulted: what is
// not enabled here is not enabled.
type Units struct {
	Enable  []string `yaml:"enable,omitempty"`
	Mask    []string `yaml:"mask,omitempty"`
	Default string   `yaml:"default,omitempty"` // default.target
}

// Removal takes paths out, with a reason a reviewer can judge.
type Removal struct {
	Path   string `yaml:"path"`
	Reason string `yaml:"reason"`
}

// Layout holds partition sizes as quantities ("512MiB"); whole mebibytes only.
type Layout struct {
	ESP string `yaml:"esp"`
	// Root is the capacity of each root slot.
	Root string `yaml:"root"`
	// SectorSize is 512 or 4096.
	SectorSize int `yaml:"sectorSize"`
}
