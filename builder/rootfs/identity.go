// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/builder/profile"
)

// identity writes the small files that name the system and tell libc where names are
// looked up.
func (c *composer) identity() error {
	put := func(p, content string) error { return c.put("identity", p, content) }
	return errors.Join(
		put("/usr/lib/os-release", OSRelease(c.Profile, c.Architecture)),
		c.link("identity", "/etc/os-release", "../usr/lib/os-release"),
		// Empty, not missing: systemd writes the id into the overlay on the first boot
		// and does not treat that boot as an unconfigured system (machine-id(5)).
		put("/etc/machine-id", ""),
		put(RolesFile, roles(c.Profile)),
		put("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
		put("/etc/nsswitch.conf", nsswitch),
		put("/etc/shells", "# Nobody logs in.\n"),
		put("/etc/fstab", "# Mounts are made by the initrd.\n"),
		c.link("identity", "/etc/mtab", "../proc/self/mounts"),
		c.link("identity", "/etc/localtime", "../usr/share/zoneinfo/Etc/UTC"),
		// The servers resolved learned, not its stub: pods inherit this file, and a stub
		// address in it would send CoreDNS's upstream queries back to itself.
		c.link("identity", "/etc/resolv.conf", "../run/systemd/resolve/resolv.conf"),
	)
}

// RolesFile lists the roles the image may take, one per line; firstboot refuses to give the
// node another.
const RolesFile = "/usr/lib/imgbuild/roles"

func roles(p *profile.Profile) string {
	list := p.Roles
	if len(list) == 0 {
		list = profile.Roles
	}
	return strings.Join(list, "\n") + "\n"
}

const nsswitch = `passwd: files
group: files
shadow: files
gshadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
`

// OSRelease returns the content of os-release(5) for a profile.
func OSRelease(p *profile.Profile, arch string) string {
	variant := p.Name
	if p.Debug {
		variant += "-debug"
	}
	pretty := fmt.Sprintf("imgbuild %s (%s)", p.Image.Version, variant)
	fields := [][2]string{
		{"NAME", "imgbuild"},
		{"PRETTY_NAME", pretty},
		{"ID", "imgbuild"},
		{"ID_LIKE", "debian"},
		{"VERSION_ID", p.Image.Version},
		{"VARIANT", variant},
		{"VARIANT_ID", variant},
		{"IMAGE_ID", p.Image.ID},
		{"IMAGE_VERSION", p.Image.Version},
		{"ARCHITECTURE", machineArch(arch)},
		{"DEFAULT_HOSTNAME", "localhost"},
		{"HOME_URL", "https://github.com/imgbuild/imgbuild"},
	}
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s=%s\n", f[0], quote(f[1]))
	}
	return b.String()
}

// machineArch maps Debian's architecture names to systemd's (ConditionArchitecture=).
func machineArch(arch string) string {
	switch arch {
	case "amd64":
		return "x86-64"
	case "arm64":
		return "arm64"
	}
	return arch
}

// quote renders a shell assignment's value as os-release(5) wants it.
func quote(s string) string {
	plain := s != ""
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
}
