// SPDX-License-Identifier: Apache-2.0

// Package profile defines what a node image should be: the YAML files under profiles/,
// their inheritance, defaults and validation. It decides nothing about how an image is
// built and reads nothing but the profile files and the asset names they refer to.
package profile

// Profile is what one file describes, or a chain of them after merging.
type Profile struct {
	// Name is the profile's own name and the base name of its file.
	Name string `yaml:"name"`
	// Extends names the parent profile; a root profile has none.
	Extends string `yaml:"extends,omitempty"`
	// Abstract profiles exist to be extended and cannot be built.
	Abstract bool `yaml:"abstract,omitempty"`
	// Description says in a sentence what the image is for.
	Description string `yaml:"description"`

	// Roles lists the node document roles this image may take, by default all. firstboot
	// refuses another.
	Roles []string `yaml:"roles,omitempty"`

	// Image is the identity of the result.
	Image Image `yaml:"image"`
	// Debian says which packages the root file system is made of.
	Debian Debian `yaml:"debian"`
	// Kernel selects the kernel, its modules and its command line.
	Kernel Kernel `yaml:"kernel"`
	// Initrd selects what the initial RAM disk is composed of.
	Initrd Initrd `yaml:"initrd"`

	// Components are built from Go modules (a directory below assets/components each) into /usr.
	Components []string `yaml:"components,omitempty"`
	// Releases are programs taken as their projects release them, in place of components
	// built from source. They have the same places in the image.
	Releases []Release `yaml:"releases,omitempty"`
	// Files are placed after packages and components, in order.
	Files []File `yaml:"files,omitempty"`
	// Directories are placed with the files.
	Directories []Directory `yaml:"directories,omitempty"`
	// Symlinks are placed with the files.
	Symlinks []Symlink `yaml:"symlinks,omitempty"`
	// Users are the system accounts beside those that packages ship.
	Users []User `yaml:"users,omitempty"`
	// Groups are the system groups beside those that packages ship.
	Groups []Group `yaml:"groups,omitempty"`
	// Units says what systemd starts.
	Units Units `yaml:"units,omitempty"`
	// Alternatives maps a link to its target, in place of update-alternatives.
	Alternatives map[string]string `yaml:"alternatives,omitempty"`
	// Remove lists paths or globs (** crosses directories) taken out of what the packages
	// ship. The file-by-file comparison test reads the same list.
	Remove []Removal `yaml:"remove,omitempty"`
	// Layout holds the sizes of the partitions.
	Layout Layout `yaml:"layout"`
	// Delivery says where control-plane programs run from: verity is the host's /usr.
	Delivery string `yaml:"delivery"`
	// Debug adds a console shell; it shows in the image's name and manifest.
	Debug bool `yaml:"debug,omitempty"`
}

// Image is the identity of the result, as os-release(5) has it.
type Image struct {
	// ID becomes IMAGE_ID.
	ID string `yaml:"id"`
	// Version becomes IMAGE_VERSION.
	Version string `yaml:"version"`
}

// Debian names the archive's suite and the packages to take from it. Dependencies are
// resolved when the lock is written; Recommends are never followed.
type Debian struct {
	// Mirror is the base URL of the archive, the directory that holds dists/ and pool/;
	// usually left to the command line, the environment or the host's apt sources.
	Mirror string `yaml:"mirror,omitempty"`
	// Suite is the code name of the release; its updates and security suites come with it.
	Suite string `yaml:"suite"`
	// Packages are wanted by name.
	Packages []string `yaml:"packages"`
	// Omit lists packages that a dependency names but the image does not need.
	Omit []Omission `yaml:"omit,omitempty"`
}

// Omission leaves a dependency out on purpose.
type Omission struct {
	// Package is the name of what is left out. A dependency that it could satisfy counts
	// as satisfied.
	Package string `yaml:"package"`
	// Reason says why the image works without it.
	Reason string `yaml:"reason"`
}

// Kernel selects the kernel package, its modules and the fixed part of the command line.
type Kernel struct {
	// Package is the kernel's package or metapackage.
	Package string `yaml:"package"`
	// Modules are globs below the kernel directory of /usr/lib/modules/<version>/, without
	// .ko suffixes; dependencies are added. What matches none is left out.
	Modules []string `yaml:"modules"`
	// Compressed are globs of those modules that stay as the package ships them (.ko.xz),
	// which saves about four fifths of their size; the others are stored unpacked,
	// which saves the time to unpack them. It is for modules that only some machines load.
	// A glob that matches no module of the image is an error. The modules of the initrd
	// are never compressed.
	Compressed []string `yaml:"compressed,omitempty"`
	// Arguments are those of the command line, one each; the root hash is added.
	Arguments []string `yaml:"arguments"`
}

// Initrd selects what the initial RAM disk is composed of.
type Initrd struct {
	// Packages are resolved like those of the root file system, but only their files that
	// a glob selects are taken.
	Packages []string `yaml:"packages"`
	// Files are globs over the trees of those packages; ELF dependencies are added.
	Files []string `yaml:"files"`
	// Modules are globs as under kernel.
	Modules []string `yaml:"modules"`
	// Components are built programs to include.
	Components []string `yaml:"components,omitempty"`
	// Assets are placed like the files of the root file system.
	Assets []File `yaml:"assets,omitempty"`
	// Symlinks are placed with the assets.
	Symlinks []Symlink `yaml:"symlinks,omitempty"`
	// Units says what systemd starts in the initial RAM disk.
	Units Units `yaml:"units,omitempty"`
}

// Release is an official artefact, described in assets/pins/releases.yaml and pinned by
// the lock.
type Release struct {
	// Name of the project's artefact there.
	Name string `yaml:"name"`
	// Version is one of those described.
	Version string `yaml:"version"`
}

// File places an asset or literal content.
type File struct {
	// Path is where it goes, absolute.
	Path string `yaml:"path"`
	// Source is a path below assets/; exclusive with content.
	Source string `yaml:"source,omitempty"`
	// Content is the text of the file, which may be empty; exclusive with source.
	Content string `yaml:"content,omitempty"`
	// Mode is octal, by default 0644.
	Mode string `yaml:"mode,omitempty"`
	// Owner is user or user:group, by name or number, by default root:root.
	Owner string `yaml:"owner,omitempty"`
}

// Directory creates a directory.
type Directory struct {
	// Path is where it goes, absolute.
	Path string `yaml:"path"`
	// Mode is octal, by default 0755.
	Mode string `yaml:"mode,omitempty"`
	// Owner is as for files.
	Owner string `yaml:"owner,omitempty"`
}

// Symlink creates a symbolic link.
type Symlink struct {
	// Path is where it goes, absolute.
	Path string `yaml:"path"`
	// Target is the text of the link, absolute or relative to its directory.
	Target string `yaml:"target"`
}

// User is a system account. No account can log in with a password.
type User struct {
	// Name of the account.
	Name string `yaml:"name"`
	// UID is fixed, so that files on the state partition keep their owner across images.
	UID uint32 `yaml:"uid"`
	// Group is the primary group, by default one of the same name and id.
	Group string `yaml:"group,omitempty"`
	// Home is the home directory, by default /nonexistent.
	Home string `yaml:"home,omitempty"`
	// Gecos is the description in the account's entry.
	Gecos string `yaml:"gecos,omitempty"`
}

// Group is a system group.
type Group struct {
	// Name of the group.
	Name string `yaml:"name"`
	// GID is fixed, as for users.
	GID uint32 `yaml:"gid"`
	// Members are the accounts that have it as a supplementary group.
	Members []string `yaml:"members,omitempty"`
}

// Units says what systemd starts. Presets of the packages are not consulted: what is
// not enabled here is not enabled.
type Units struct {
	// Enable lists units to start as their [Install] section says.
	Enable []string `yaml:"enable,omitempty"`
	// Mask lists units that cannot be started at all.
	Mask []string `yaml:"mask,omitempty"`
	// Default is what default.target links to.
	Default string `yaml:"default,omitempty"`
}

// Removal takes paths out, with a reason a reviewer can judge.
type Removal struct {
	// Path is a path or a glob; a directory goes with everything below it.
	Path string `yaml:"path"`
	// Reason says why the image works without it.
	Reason string `yaml:"reason"`
}

// Layout holds partition sizes as quantities ("512MiB"); whole mebibytes only.
type Layout struct {
	// ESP is the size of the EFI system partition.
	ESP string `yaml:"esp"`
	// Root is the capacity of each root slot.
	Root string `yaml:"root"`
	// SectorSize is that of the disk in bytes.
	SectorSize int `yaml:"sectorSize"`
}
