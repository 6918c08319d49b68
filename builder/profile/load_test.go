// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imgbuild/imgbuild/builder/fault"
)

const sampleBase = `name: base
abstract: true
description: what every node has
image: {id: node, version: "1.0"}
debian:
  suite: trixie
  packages: [systemd, udev]
  omit:
    - {package: debconf, reason: no scripts run}
kernel:
  package: linux-image-amd64
  modules: ["drivers/{net,block}/**"]
  arguments: [quiet, console=ttyS0]
initrd:
  packages: [systemd]
  files: [/usr/bin/udevadm]
  modules: [fs/erofs/erofs]
alternatives: {/usr/sbin/iptables: /usr/sbin/iptables-nft}
users: [{name: etcd, uid: 900}]
groups: [{name: kvm, gid: 901, members: [etcd]}]
files:
  - {path: /etc/motd, source: etc/motd}
units: {enable: [systemd-networkd.service], default: multi-user.target}
layout: {esp: 512MiB, root: 1GiB, sectorSize: 512}
delivery: verity
`

const sampleChild = `name: controlplane
extends: base
description: a control plane
roles: [control-plane]
image: {id: node-cp}
debian:
  packages: [keepalived, udev]
components: [etcd]
alternatives: {/usr/sbin/ip6tables: /usr/sbin/ip6tables-nft}
files:
  - {path: /etc/empty, content: "", mode: "0600", owner: "etcd:901"}
units: {enable: [keepalived.service]}
`

// checkout is a file system with the two samples; more replaces or adds files.
func checkout(more map[string]string) fstest.MapFS {
	files := map[string]string{
		"profiles/base.yaml": sampleBase, "profiles/controlplane.yaml": sampleChild, "profiles/lock.amd64.yaml": "x",
		"assets/etc/motd": "hello", "assets/components/etcd/go.mod": "", "assets/components/coredns/go.mod": "",
	}
	maps.Copy(files, more)
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func TestLoadMerges(t *testing.T) {
	p, err := Load(checkout(nil), "controlplane")
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		Name: "controlplane", Extends: "base", Description: "a control plane", Roles: []string{"control-plane"},
		Image:  Image{ID: "node-cp", Version: "1.0"},
		Debian: Debian{Suite: "trixie", Packages: []string{"systemd", "udev", "keepalived"}, Omit: []Omission{{"debconf", "no scripts run"}}},
		Kernel: Kernel{Package: "linux-image-amd64", Modules: []string{"drivers/{net,block}/**"}, Arguments: []string{"quiet", "console=ttyS0"}},
		Initrd: Initrd{Packages: []string{"systemd"}, Files: []string{"/usr/bin/udevadm"}, Modules: []string{"fs/erofs/erofs"}},

		Components:   []string{"etcd"},
		Files:        []File{{Path: "/etc/motd", Source: "etc/motd"}, {Path: "/etc/empty", Mode: "0600", Owner: "etcd:901"}},
		Users:        []User{{Name: "etcd", UID: 900}},
		Groups:       []Group{{Name: "kvm", GID: 901, Members: []string{"etcd"}}},
		Units:        Units{Enable: []string{"systemd-networkd.service", "keepalived.service"}, Default: "multi-user.target"},
		Alternatives: map[string]string{"/usr/sbin/iptables": "/usr/sbin/iptables-nft", "/usr/sbin/ip6tables": "/usr/sbin/ip6tables-nft"},
		Layout:       Layout{ESP: "512MiB", Root: "1GiB", SectorSize: 512},
		Delivery:     "verity",
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestList(t *testing.T) {
	got, err := List(checkout(nil))
	if err != nil || !slices.Equal(got, []string{"base", "controlplane"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// The profiles of the repository itself load.
func TestRealProfiles(t *testing.T) {
	root := os.DirFS("../..")
	names, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatal("the repository has no profiles")
	}
	for _, name := range names {
		if _, err := Load(root, name); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadProblems(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string // a replacement in sampleChild
		want     string
	}{
		"unknown key":          {"roles:", "rolse:", `profiles/controlplane.yaml:4:1: rolse: is not a known key; did you mean "roles"?; allowed: name, extends,`},
		"unknown nested key":   {"packages: [keepalived", "package: [keepalived", `controlplane.yaml:7:3: debian.package: is not a known key; did you mean "packages"?`},
		"repeated key":         {"roles: [control-plane]", "roles: [control-plane]\nroles: [worker]", `:5:1: roles: was already given on line 4`},
		"wrong type":           {"roles: [control-plane]", "roles: control-plane", `:4:8: roles: value "control-plane": is a single value, not a list; allowed: a list of text`},
		"mapping for text":     {"{id: node-cp}", "{id: [a]}", `image.id: is a list, not text`},
		"null":                 {"image: {id: node-cp}", "image:", `image: is empty`},
		"anchor":               {"roles: [control-plane]", "roles: &x [control-plane]", "anchors and aliases are not supported"},
		"truth value for text": {"{id: node-cp}", "{id: true}", `value "true": is a truth value, not text`},
		"enumeration":          {"[control-plane]", "[controlplane]", `:4:9: roles[0]: value "controlplane": is not a role; allowed: control-plane, worker`},
		"name":                 {"name: controlplane", "name: cp", `:1:7: name: value "cp": is not the name of the file; allowed: controlplane`},
		"parent":               {"extends: base", "extends: bsae", `:2:10: extends: value "bsae": there is no such profile; did you mean "base"?; allowed: base, controlplane`},
		"cycle":                {"extends: base", "extends: controlplane", `extends: value "controlplane": leads back to itself: controlplane -> controlplane`},
		"component":            {"components: [etcd]", "components: [etdc]", `:8:14: components[0]: value "etdc": is not a component (a directory below assets/components); did you mean "etcd"?`},
		"asset":                {`content: ""`, "source: etc/mtod", `:11:32: files[1].source: value "etc/mtod": is not a file below assets/; did you mean "etc/motd"?`},
		"asset outside":        {`content: ""`, "source: ../secret", `is not a clean relative path`},
		"asset directory":      {`content: ""`, "source: etc", `is not a file below assets/`},
		"source and content":   {`content: ""`, `content: "", source: etc/motd`, "files[1].content: value \"\": is given beside source"},
		"neither":              {`content: "", `, "", `:11:5: files[1]: has neither source nor content`},
		"mode":                 {`"0600"`, `"0680"`, `files[1].mode: value "0680": is not an octal file mode; allowed: 0000 to 7777`},
		"mode too large":       {`"0600"`, `"17777"`, `is not an octal file mode`},
		"owner":                {`"etcd:901"`, `"etcd:"`, `files[1].owner: value "etcd:": is not an owner`},
		"relative path":        {"/etc/empty", "etc/empty", `files[1].path: value "etc/empty": is not an absolute path`},
		"package name":         {"[keepalived", "[Keepalived", `debian.packages[2]: value "Keepalived": is not a Debian package name`},
		"wanted and omitted":   {"[keepalived", "[debconf", `base.yaml:9:17: debian.omit[0].package: value "debconf": is wanted under debian.packages and omitted`},
		"unit":                 {"keepalived.service", "keepalived", `units.enable[1]: value "keepalived": is not the name of a systemd unit`},
		"masked":               {"{enable: [keepalived.service]}", "{mask: [systemd-networkd.service]}", `units.mask[0]: value "systemd-networkd.service": is enabled and masked at once`},
		"alternative":          {"/usr/sbin/ip6tables-nft", "ip6tables-nft", `value "ip6tables-nft": is not an absolute path`},
		"not yaml":             {"roles: [control-plane]", "roles: [", "controlplane.yaml:"},
		"two documents":        {"components: [etcd]", "---\nname: x", "a second document starts here"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(sampleChild, c.from, c.to, 1)
			if text == sampleChild {
				t.Fatalf("%q is not in the sample", c.from)
			}
			_, err := Load(checkout(map[string]string{"profiles/controlplane.yaml": text}), "controlplane")
			check(t, err, c.want)
		})
	}
}

// goWords are traces of how profiles are decoded; a user never needs to know.
var goWords = regexp.MustCompile(`[a-z]+\.[A-Z][a-z]+|!!|unmarshal|struct|\[\]string`)

func check(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error does not contain %q:\n%v", want, err)
	}
	if fault.ClassOf(err) != fault.Config {
		t.Errorf("class %d, want Config", fault.ClassOf(err))
	}
	if err != nil && goWords.MatchString(err.Error()) {
		t.Errorf("a Go type shows:\n%v", err)
	}
}

func TestLoadBaseProblems(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"in the parent's file": {"suite: trixie", "suite: Trixie", `profiles/base.yaml:6:10: debian.suite: value "Trixie"`},
		"required":             {"  package: linux-image-amd64\n", "", "kernel.package: is required, here or in a profile this one extends"},
		"reason":               {"reason: no scripts run", `reason: ""`, "debian.omit[0].reason: value \"\": is required; say why"},
		"partition unit":       {"512MiB", "512MB", `layout.esp: value "512MB": is not a size; allowed: a whole number followed by KiB, MiB, GiB or TiB`},
		"whole MiB":            {"512MiB", "600000KiB", `is not a whole number of MiB; partitions are aligned to it (next larger: 586MiB)`},
		"FAT32":                {"512MiB", "16MiB", `is too small for FAT32; allowed: 33MiB or more`},
		"FAT32 on 4Kn":         {"512MiB, root: 1GiB, sectorSize: 512", "128MiB, root: 1GiB, sectorSize: 4096", `is too small for FAT32; allowed: 257MiB or more`},
		"root":                 {"root: 1GiB", "root: 1MiB", "is too small for a root file system"},
		"sector size":          {"sectorSize: 512", "sectorSize: 520", `layout.sectorSize: value "520": is not a sector size; allowed: 512, 4096`},
		"sector size type":     {"sectorSize: 512", "sectorSize: 4k", `layout.sectorSize: value "4k": is not a whole number`},
		"delivery":             {"delivery: verity", "delivery: oci", `delivery: value "oci": is not a way to deliver control-plane programs; allowed: verity`},
		"user and group ids":   {"gid: 901", "gid: 900", `group id 900 belongs to "kvm" already`},
		"uid range":            {"uid: 900", "uid: -1", `users[0].uid: value "-1": is out of range; allowed: 0 to 4294967295`},
		"glob":                 {"drivers/{net,block}/**", "drivers/[net", `kernel.modules[0]: value "drivers/[net": element "[net" is not a valid pattern`},
		"compressed glob":      {"[quiet, console=ttyS0]", "[quiet, console=ttyS0]\n  compressed: [fs/xfs/xfs, \"fs/[x\"]", `kernel.compressed[1]: value "fs/[x": element "[x" is not a valid pattern`},
		"absolute module":      {"fs/erofs/erofs", "/fs/erofs/erofs", "initrd.modules[0]: value \"/fs/erofs/erofs\": is absolute"},
		"relative initrd file": {"/usr/bin/udevadm", "usr/bin/udevadm", "initrd.files[0]: value \"usr/bin/udevadm\": is not an absolute path or pattern"},
		"argument with blank":  {"quiet, ", "quiet splash, ", `kernel.arguments[0]: value "quiet splash": holds a blank outside quotes`},
		"bool":                 {"abstract: true", "abstract: yes", `abstract: value "yes": is not a truth value; allowed: true, false`},
		"mirror":               {"suite: trixie", "suite: trixie\n  mirror: ftp://x", `debian.mirror: value "ftp://x": is not an http, https or file URL`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(sampleBase, c.from, c.to, 1)
			if text == sampleBase {
				t.Fatalf("%q is not in the sample", c.from)
			}
			_, err := Load(checkout(map[string]string{"profiles/base.yaml": text}), "controlplane")
			check(t, err, c.want)
		})
	}
}

func TestLoadReportsEverythingInOrder(t *testing.T) {
	child := strings.NewReplacer("roles:", "rolse:", `"0600"`, `"9"`, "components: [etcd]", "components: [nope]", "content: ", "contents: ").Replace(sampleChild)
	base := strings.Replace(sampleBase, "uid: 900", "uid: x", 1)
	_, err := Load(checkout(map[string]string{"profiles/controlplane.yaml": child, "profiles/base.yaml": base}), "controlplane")
	at := -1
	for _, want := range []string{"base.yaml:19:27: users[0].uid", "controlplane.yaml:4:1: rolse", "nope", "contents: is not a known key", `"9"`} {
		check(t, err, want)
		i := strings.Index(err.Error(), want)
		if i < at {
			t.Errorf("%q is not in the order of the files:\n%v", want, err)
		}
		at = i
	}
	if n := strings.Count(err.Error(), "contents"); n != 1 {
		t.Errorf("one problem is reported %d times:\n%v", n, err)
	}
}

func TestLoadUnknown(t *testing.T) {
	_, err := Load(checkout(nil), "contrlplane")
	check(t, err, `profile "contrlplane": there is no such profile; did you mean "controlplane"?; known: base, controlplane`)
	_, err = Load(checkout(nil), "../etc/passwd")
	check(t, err, "there is no such profile")
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"512MiB": 512 << 20, "1GiB": 1 << 30, "4KiB": 4096, "0MiB": 0, "2TiB": 2 << 40, "8388607TiB": 8388607 << 40} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "512", "512MB", "512M", "-1MiB", "+1MiB", "1.5GiB", "1 GiB", "MiB", "8388608TiB", "99999999999999999999KiB", "0x1MiB"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", bad, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(sampleChild)
	f.Add(sampleBase)
	f.Add("name: controlplane\nextends: base\n? [a]\n: b\n<<: {x: y}\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Load(checkout(map[string]string{"profiles/controlplane.yaml": text}), "controlplane")
		if err == nil && p.Name != "controlplane" {
			t.Errorf("profile %+v", p)
		}
		if err != nil && fault.ClassOf(err) != fault.Config {
			t.Errorf("class of %v", err)
		}
	})
}
