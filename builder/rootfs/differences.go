// SPDX-License-Identifier: Apache-2.0

package rootfs

// Aspect is what about a path may differ. The zero value is invalid.
type Aspect string

// The aspects a Difference can explain.
const (
	// Missing: a package ships it, the image does not have it.
	Missing Aspect = "missing"
	// Replaced: the image has something else at the path.
	Replaced Aspect = "replaced"
	// SetID: the set-uid or set-gid bit is gone.
	SetID Aspect = "set-id"
	// Added: no package ships it.
	Added Aspect = "added"
)

// Difference explains why an image differs from what packages ship.
type Difference struct {
	// Path is a pattern as in Removal; it covers everything below what it matches.
	Path   string
	Aspect Aspect
	// Step is the name of the step that makes the difference.
	Step   string
	Reason string
}

// Differences are those that do not depend on a profile. The profile's removals, files,
// directories, links, alternatives and units are differences, too: Explain adds them.
var Differences = []Difference{
	{"/boot", Missing, "kernel-modules", "the kernel boots from the unified kernel image"},
	{"/usr/lib/modules", Missing, "kernel-modules", "only selected modules are in the image"},
	{"/usr/lib/modules", Replaced, "kernel-modules", "modules are stored decompressed or as shipped, and indexed for the selection"},
	{"/usr/lib/modules", Added, "kernel-modules", "modules are stored decompressed or as shipped, and indexed for the selection"},
	{"/usr/share/ca-certificates", Missing, "ca-bundle", "programs read the bundle"},
	{CABundle, Added, "ca-bundle", "what update-ca-certificates would have written"},
	{"/usr/share/base-passwd", Missing, "accounts", "templates, their content is in /etc"},
	{"/etc/{passwd,group,shadow,gshadow,subuid,subgid}", Added, "accounts", "what the maintainer scripts of base-passwd and systemd-sysusers would have written"},
	{"/var/*", Missing, "state", "/var is the state partition; directories are made by systemd-tmpfiles"},
	{"/usr/lib/tmpfiles.d/imgbuild-state.conf", Added, "state", "makes the directories that packages ship under /var"},
	{"/**", SetID, "set-id", "nobody logs in, so nothing grants privileges to users"},
	{"/{home,root,srv,mnt,opt}", Replaced, "mount-points", "they belong to the host and are on the state partition"},
	{"/{home,root,srv,mnt,opt}", Added, "mount-points", "they belong to the host and are on the state partition"},
	{"/{proc,sys,dev,run,tmp,efi}", Added, "mount-points", "something is mounted over them"},
	{RolesFile, Added, "identity", "firstboot checks the node's role against it"},
	{"/usr/lib/os-release", Replaced, "identity", "the image is not plain Debian"},
	{"/etc/os-release", Replaced, "identity", "the image is not plain Debian"},
	{"/etc/{hosts,nsswitch.conf,shells,fstab,resolv.conf,localtime,mtab}", Replaced, "identity", "what maintainer scripts or an installer would have written"},
	{"/etc/{machine-id,hosts,nsswitch.conf,shells,fstab,resolv.conf,localtime,mtab}", Added, "identity", "what maintainer scripts or an installer would have written"},
	{presetFile, Added, "units", "the profile's units as a preset"},
	{"/usr/lib/systemd/system-preset", Missing, "units", "packages' own presets: the profile decides"},
}
