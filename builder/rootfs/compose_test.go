// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

const (
	passwdMaster = "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	groupMaster  = "root:*:0:\nshadow:*:42:\nnogroup:*:65534:\n"
)

// shipped makes a package of files by path. "->" starts a link, a trailing slash marks a
// directory.
func shipped(name string, files map[string]string) Package {
	return Package{Name: name, AddTo: func(t *tree.Tree) error {
		for p, text := range files {
			n := tree.Node{Path: p, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte(text)), Origin: "deb:" + name}
			if target, ok := strings.CutPrefix(text, "->"); ok {
				n.Kind, n.Target, n.Mode, n.Content = tree.Symlink, target, 0o777, tree.Content{}
			}
			if strings.HasSuffix(p, "/") {
				n.Kind, n.Mode, n.Content = tree.Directory, 0o755, tree.Content{}
			}
			if strings.Contains(p, "setuid") {
				n.Mode = 0o4755
			}
			if err := t.Put(n); err != nil {
				return err
			}
		}
		return nil
	}}
}

func base() Package {
	return shipped("base-passwd", map[string]string{
		"/usr/share/base-passwd/passwd.master":           passwdMaster,
		"/usr/share/base-passwd/group.master":            groupMaster,
		"/usr/lib/systemd/system/multi-user.target":      "",
		"/usr/lib/systemd/system-preset/90-other.preset": "enable everything.service\n",
	})
}

func minimal(p *profile.Profile) *profile.Profile {
	if p == nil {
		p = &profile.Profile{}
	}
	p.Name = "test"
	p.Image = profile.Image{ID: "imgbuild-test", Version: "1.2.3"}
	p.Units.Default = "multi-user.target"
	return p
}

func mustCompose(t *testing.T, in Inputs) (*tree.Tree, *Report) {
	t.Helper()
	in.Architecture = "amd64"
	root, report, err := Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	return root, report
}

func text(t *testing.T, root *tree.Tree, p string) string {
	t.Helper()
	n := root.Lookup(p)
	if n == nil {
		t.Fatalf("%s is missing", p)
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestComposeMinimal(t *testing.T) {
	root, report := mustCompose(t, Inputs{Profile: minimal(nil), Packages: []Package{base()}})
	if got, want := text(t, root, "/etc/passwd"), "root:x:0:0:root:/root:/usr/sbin/nologin\n"; !strings.HasPrefix(got, want) {
		t.Errorf("passwd = %q, want it to start with %q", got, want)
	}
	if n := root.Lookup("/etc/shadow"); n.Mode != 0o640 || n.GID != 42 {
		t.Errorf("shadow has mode %04o and group %d", n.Mode, n.GID)
	}
	if got := text(t, root, "/etc/machine-id"); got != "" {
		t.Errorf("machine-id = %q, want it empty", got)
	}
	release := text(t, root, "/usr/lib/os-release")
	for _, want := range []string{"ID=imgbuild\n", "IMAGE_ID=imgbuild-test\n", "IMAGE_VERSION=1.2.3\n", "ARCHITECTURE=x86-64\n", "VARIANT_ID=test\n"} {
		if !strings.Contains(release, want) {
			t.Errorf("os-release lacks %q:\n%s", want, release)
		}
	}
	for p, target := range map[string]string{"/home": "var/home", "/root": "var/roothome", "/etc/resolv.conf": "../run/systemd/resolve/resolv.conf"} {
		if n := root.Lookup(p); n == nil || n.Target != target {
			t.Errorf("%s = %+v, want a link to %s", p, n, target)
		}
	}
	if n := root.Lookup("/tmp"); n == nil || n.Mode != 0o1777 {
		t.Errorf("/tmp = %+v, want mode 1777", n)
	}
	if root.Lookup("/usr/lib/systemd/system-preset/90-other.preset") != nil {
		t.Error("a package's preset is in the image")
	}
	if got := text(t, root, presetFile); !strings.HasSuffix(got, "disable *\n") {
		t.Errorf("preset = %q", got)
	}
	if len(report.Users) != 2 || report.Users[0] != "root:0" {
		t.Errorf("report: users %v", report.Users)
	}
}

func TestRolesOfTheImage(t *testing.T) {
	for want, list := range map[string][]string{"worker\n": {"worker"}, "control-plane\nworker\n": nil} {
		p := minimal(nil)
		p.Roles = list
		root, _, err := Compose(Inputs{Profile: p, Architecture: "amd64", Packages: []Package{base()}})
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, root, RolesFile); got != want {
			t.Errorf("profile with roles %q: the image lists %q, want %q", list, got, want)
		}
	}
}

func TestOnlyDebugImagesHaveAShell(t *testing.T) {
	link := etcUnits + "/multi-user.target.wants/" + debugUnit
	root, _ := mustCompose(t, Inputs{Profile: minimal(nil), Packages: []Package{base()}})
	if root.Lookup(link) != nil {
		t.Error("an ordinary image starts the debug shell")
	}
	root, _ = mustCompose(t, Inputs{Profile: minimal(&profile.Profile{Debug: true}), Packages: []Package{base()}})
	if n := root.Lookup(link); n == nil || !strings.Contains(text(t, root, n.Target), "ExecStart=-/bin/sh") {
		t.Error("a debug image does not start the debug shell")
	}
	if got := text(t, root, "/usr/lib/os-release"); !strings.Contains(got, "VARIANT_ID=test-debug\n") {
		t.Errorf("os-release of a debug image does not say so:\n%s", got)
	}
}

func TestRemovals(t *testing.T) {
	pkg := shipped("pkg", map[string]string{
		"/usr/share/doc/pkg/copyright": "x", "/usr/share/doc/pkg/more/text": "x",
		"/usr/bin/keep": "x", "/usr/bin/drop": "x", "/usr/lib/pkg/only/file": "x", "/usr/lib/pkg/other": "x",
	})
	p := minimal(&profile.Profile{Remove: []profile.Removal{
		{Path: "/usr/share/doc", Reason: "documentation"}, {Path: "/usr/bin/dr*", Reason: "test"}, {Path: "/usr/lib/pkg/only/file", Reason: "test"},
	}})
	root, report := mustCompose(t, Inputs{Profile: p, Packages: []Package{base(), pkg}})
	for _, gone := range []string{"/usr/share/doc", "/usr/share/doc/pkg/more", "/usr/bin/drop", "/usr/lib/pkg/only"} {
		if root.Lookup(gone) != nil {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, kept := range []string{"/usr/bin/keep", "/usr/lib/pkg/other"} {
		if root.Lookup(kept) == nil {
			t.Errorf("%s is gone", kept)
		}
	}
	if report.Removed["/usr/bin/dr*"] != 1 {
		t.Errorf("report: %v", report.Removed)
	}
	p.Remove = append(p.Remove, profile.Removal{Path: "/usr/bin/typo", Reason: "test"})
	if _, _, err := Compose(Inputs{Profile: p, Packages: []Package{base(), pkg}}); err == nil || !strings.Contains(err.Error(), `remove "/usr/bin/typo" matches nothing`) {
		t.Errorf("error %v", err)
	}
}

func TestStateMovesToTmpfiles(t *testing.T) {
	root, report := mustCompose(t, Inputs{Profile: minimal(nil), Packages: []Package{base(), shipped("pkg", map[string]string{
		"/var/lib/pkg/": "", "/var/lock": "->/run/lock",
	})}})
	for _, n := range root.Nodes() {
		if strings.HasPrefix(n.Path, "/var/") {
			t.Errorf("%s is in the image", n.Path)
		}
	}
	got := text(t, root, "/usr/lib/tmpfiles.d/imgbuild-state.conf")
	for _, want := range []string{"d /var/lib/pkg 0755 0 0 -\n", "L /var/lock - - - - /run/lock\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("tmpfiles lacks %q:\n%s", want, got)
		}
	}
	if len(report.StateDirs) != 2 { // /var/lib and /var/lib/pkg
		t.Errorf("report: %v", report.StateDirs)
	}
	_, _, err := Compose(Inputs{Profile: minimal(nil), Packages: []Package{base(), shipped("pkg", map[string]string{"/var/lib/pkg/db": "x"})}})
	if err == nil || !strings.Contains(err.Error(), "/var/lib/pkg/db (deb:pkg) is a file under /var") {
		t.Errorf("error %v", err)
	}
}

func TestSetIDBitsAreCleared(t *testing.T) {
	root, _ := mustCompose(t, Inputs{Profile: minimal(nil), Packages: []Package{base(), shipped("pkg", map[string]string{"/usr/bin/setuid": "x"})}})
	if n := root.Lookup("/usr/bin/setuid"); n.Mode != 0o755 {
		t.Errorf("mode %04o, want 0755", n.Mode)
	}
}

func TestFilesOfTheProfile(t *testing.T) {
	p := minimal(&profile.Profile{
		Users:       []profile.User{{Name: "svc", UID: 700}},
		Directories: []profile.Directory{{Path: "/etc/svc", Mode: "0750", Owner: "svc"}},
		Files: []profile.File{
			{Path: "/etc/svc/config", Source: "etc/svc.conf", Mode: "0600", Owner: "svc:shadow"},
			{Path: "/etc/svc/literal", Content: "hello\n"},
		},
		Symlinks:     []profile.Symlink{{Path: "/etc/svc/link", Target: "config"}},
		Alternatives: map[string]string{"/usr/bin/tool": "/usr/bin/tool-real"},
	})
	in := Inputs{Profile: p, Assets: fstest.MapFS{"etc/svc.conf": {Data: []byte("from an asset\n")}},
		Packages: []Package{base(), shipped("tool", map[string]string{"/usr/bin/tool-real": "x"})}}
	root, _ := mustCompose(t, in)
	for _, c := range []struct {
		path     string
		kind     tree.Kind
		mode     uint32
		uid, gid uint32
		text     string
		target   string
	}{
		{"/etc/svc", tree.Directory, 0o750, 700, 700, "", ""},
		{"/etc/svc/config", tree.Regular, 0o600, 700, 42, "from an asset\n", ""},
		{"/etc/svc/literal", tree.Regular, 0o644, 0, 0, "hello\n", ""},
		{"/etc/svc/link", tree.Symlink, 0o777, 0, 0, "", "config"},
		{"/usr/bin/tool", tree.Symlink, 0o777, 0, 0, "", "/usr/bin/tool-real"},
	} {
		n := root.Lookup(c.path)
		if n == nil {
			t.Errorf("%s is missing", c.path)
			continue
		}
		if n.Kind != c.kind || n.Mode != c.mode || n.UID != c.uid || n.GID != c.gid || n.Target != c.target {
			t.Errorf("%s = %+v", c.path, n)
		}
		if c.kind == tree.Regular && text(t, root, c.path) != c.text {
			t.Errorf("%s = %q, want %q", c.path, text(t, root, c.path), c.text)
		}
	}
	p.Files = append(p.Files, profile.File{Path: "/x", Source: "missing"}, profile.File{Path: "/y", Mode: "9"}, profile.File{Path: "/z", Owner: "ghost"})
	_, _, err := Compose(in)
	for _, want := range []string{"file /x: asset", `/y: mode "9"`, `/z: owner "ghost"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestCABundleIsOrderedAndComplete(t *testing.T) {
	a, b := certificate(t, "A"), certificate(t, "B")
	root, _ := mustCompose(t, Inputs{Profile: minimal(nil), Packages: []Package{base(), shipped("ca-certificates", map[string]string{
		"/usr/share/ca-certificates/mozilla/b.crt": b, "/usr/share/ca-certificates/mozilla/a.crt": a + "\n\n",
	})}})
	if got := text(t, root, CABundle); got != strings.TrimSpace(a)+"\n"+strings.TrimSpace(b)+"\n" {
		t.Errorf("bundle is not a then b:\n%s", got)
	}
	if root.Lookup("/usr/share/ca-certificates") != nil {
		t.Error("the single certificates are still in the image")
	}
	_, _, err := Compose(Inputs{Profile: minimal(nil), Packages: []Package{base(), shipped("ca-certificates", map[string]string{
		"/usr/share/ca-certificates/mozilla/x.crt": "not a certificate",
	})}})
	if err == nil || !strings.Contains(err.Error(), "x.crt: want exactly one PEM block") {
		t.Errorf("error %v", err)
	}
}

func certificate(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCompareNoticesWhatNothingExplains(t *testing.T) {
	put := func(tr *tree.Tree, p, text string, mode uint32, origin string) {
		if err := tr.Put(tree.Node{Path: p, Kind: tree.Regular, Mode: mode, Content: tree.Bytes([]byte(text)), Origin: origin}); err != nil {
			t.Fatal(err)
		}
	}
	image, packages := tree.New(), tree.New()
	for p, c := range map[string]struct{ ship, have string }{
		"/same": {"a", "a"}, "/changed": {"a", "b"}, "/lost": {"a", ""}, "/new": {"", "a"}, "/gone/explained": {"a", ""},
	} {
		if c.ship != "" {
			put(packages, p, c.ship, 0o644, "deb:x")
		}
		if c.have != "" {
			put(image, p, c.have, 0o644, "step:x")
		}
	}
	put(packages, "/setuid", "a", 0o4755, "deb:x")
	put(image, "/setuid", "a", 0o755, "deb:x")
	unexplained, unused, err := Compare(image, packages, []Difference{
		{Path: "/gone", Aspect: Missing}, {Path: "/never", Aspect: Missing},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range unexplained {
		got = append(got, u.Path+" "+string(u.Aspect))
	}
	if want := "/changed replaced, /lost missing, /setuid set-id, /new added"; strings.Join(got, ", ") != want {
		t.Errorf("unexplained %v, want %s", got, want)
	}
	if len(unused) != 1 || unused[0].Path != "/never" {
		t.Errorf("unused %v", unused)
	}
}
