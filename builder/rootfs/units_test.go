// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func TestParseInstall(t *testing.T) {
	in := ParseInstall(`[Unit]
WantedBy=not-here.target
[Install]
# WantedBy=comment.target
; WantedBy=comment.target
WantedBy=a.target b.target
WantedBy=
WantedBy = multi-user.target \
  graphical.target
RequiredBy=r.target
UpheldBy=u.target
Alias=other.service
Also=one.socket two.socket
DefaultInstance=tty1
[X-Custom]
Alias=not-here.service
`)
	for _, c := range []struct {
		name string
		got  []string
		want string
	}{
		{"WantedBy", in.WantedBy, "multi-user.target graphical.target"},
		{"RequiredBy", in.RequiredBy, "r.target"},
		{"UpheldBy", in.UpheldBy, "u.target"},
		{"Alias", in.Alias, "other.service"},
		{"Also", in.Also, "one.socket two.socket"},
		{"DefaultInstance", []string{in.DefaultInstance}, "tty1"},
	} {
		if got := strings.Join(c.got, " "); got != c.want {
			t.Errorf("%s = %q, want %q", c.name, got, c.want)
		}
	}
}

// unitTree holds units by name; a text that starts with "->" is a link.
func unitTree(t *testing.T, units map[string]string) *tree.Tree {
	t.Helper()
	out := tree.New()
	for name, text := range units {
		n := tree.Node{Path: vendorUnits + "/" + name, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte(text)), Origin: "deb:test"}
		if target, ok := strings.CutPrefix(text, "->"); ok {
			n.Kind, n.Target, n.Content = tree.Symlink, target, tree.Content{}
		}
		if err := out.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestEnableMakesTheLinksOfSystemctl(t *testing.T) {
	root := unitTree(t, map[string]string{
		"net.service":       "[Install]\nWantedBy=multi-user.target\nAlias=dbus-net.service\nAlso=net.socket gone.service\n",
		"net.socket":        "[Install]\nRequiredBy=sockets.target\n",
		"getty@.service":    "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
		"real.service":      "[Install]\nUpheldBy=multi-user.target\n",
		"linked.service":    "->real.service",
		"multi-user.target": "",
		"noisy.service":     "",
	})
	links, err := EnableUnits(root, profile.Units{
		Enable: []string{"net.service", "getty@.service", "getty@ttyS0.service", "linked.service"},
		Mask:   []string{"noisy.service"}, Default: "multi-user.target",
	}, "step:units")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"multi-user.target.wants/net.service":      "/usr/lib/systemd/system/net.service",
		"dbus-net.service":                         "/usr/lib/systemd/system/net.service",
		"sockets.target.requires/net.socket":       "/usr/lib/systemd/system/net.socket",
		"getty.target.wants/getty@tty1.service":    "/usr/lib/systemd/system/getty@.service",
		"getty.target.wants/getty@ttyS0.service":   "/usr/lib/systemd/system/getty@.service",
		"multi-user.target.upholds/linked.service": "/usr/lib/systemd/system/linked.service",
		"noisy.service":                            "/dev/null",
		"default.target":                           "/usr/lib/systemd/system/multi-user.target",
	}
	for _, n := range root.Nodes() {
		rel, ok := strings.CutPrefix(n.Path, etcUnits+"/")
		if !ok || n.Kind != tree.Symlink {
			continue
		}
		if want[rel] != n.Target {
			t.Errorf("%s -> %s, want %q", rel, n.Target, want[rel])
		}
		delete(want, rel)
	}
	for rel := range want {
		t.Errorf("no link %s", rel)
	}
	if got := links["net.service"]; !slices.Contains(got, etcUnits+"/dbus-net.service") {
		t.Errorf("links of net.service: %v", got)
	}
}

func TestEnableReportsEveryMistake(t *testing.T) {
	root := unitTree(t, map[string]string{"static.service": "[Unit]\n"})
	_, err := EnableUnits(root, profile.Units{
		Enable: []string{"missing.service", "static.service"}, Mask: []string{"typo.service"}, Default: "no.target",
	}, "test")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"enable missing.service: no such unit", "enable static.service: the unit has no [Install]", "mask typo.service", "default no.target"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func FuzzParseInstall(f *testing.F) {
	f.Add("[Install]\nWantedBy=a.target\\\n b.target\n")
	f.Add("[Install]\n\\\n[\n=\nAlias=")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range ParseInstall(text).WantedBy {
			if name == "" || strings.ContainsAny(name, " \n\t") {
				t.Errorf("WantedBy holds %q", name)
			}
		}
	})
}
