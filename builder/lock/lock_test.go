// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
)

func sample() *Lock {
	digest := strings.Repeat("0a", 32)
	pkg := func(name, version string) Package {
		return Package{Name: name, Version: version, Architecture: "amd64", Archive: "debian", Suite: "trixie", Path: "pool/main/x/" + name + ".deb", Size: 10, SHA256: digest, Source: name + " " + version}
	}
	return &Lock{
		Version: 1, Architecture: "amd64",
		Archives: []Archive{{Name: "debian", Suite: "trixie", Date: "Fri, 01 May 2026 11:00:00 UTC", InRelease: digest, SignedBy: []string{strings.Repeat("AB", 20)}}},
		Packages: []Package{pkg("kmod", "34"), pkg("libc6", "1:2.41"), pkg("systemd", "257~rc1")},
		Sets:     map[string][]string{"root/cp": {"libc6", "systemd"}, "initrd/cp": {"libc6", "systemd"}, "tool/kmod": {"libc6", "kmod"}},
		Modules:  []Module{{Component: "etcd", Path: "go.etcd.io/etcd", Version: "v3.6.0", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Size: 5, Recipe: digest}, {Component: "pause", Recipe: digest}},
		Releases: []Release{{Name: "kubelet", Version: "v1", Architecture: "amd64", URL: "https://x.test/k", SHA256: digest}},
	}
}

func TestSaveAndLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock.amd64.yaml")
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sample().Save(name); err != nil {
		t.Fatal(err)
	}
	got, err := Load(name)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("got %+v, %v", got, err)
	}
	first, _ := os.ReadFile(name)
	shuffled := sample()
	shuffled.Packages[0], shuffled.Packages[2] = shuffled.Packages[2], shuffled.Packages[0]
	shuffled.Modules[0], shuffled.Modules[1] = shuffled.Modules[1], shuffled.Modules[0]
	if again, err := shuffled.Encode(); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the order of entries shows in the file, %v:\n%s", err, again)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); len(left) != 0 {
		t.Errorf("temporary files stay behind: %q", left)
	}
}

func TestSaveKeepsTheOldFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	if err := sample().Save(name); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(name)
	bad := sample()
	bad.Packages[0].SHA256 = "x"
	if err := bad.Save(name); err == nil || !strings.Contains(err.Error(), "is unchanged") {
		t.Errorf("error %v", err)
	}
	if after, _ := os.ReadFile(name); !bytes.Equal(before, after) {
		t.Error("an invalid lock replaced a valid one")
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "lock.amd64.yaml"))
	if fault.ClassOf(err) != fault.MissingPin || !strings.Contains(err.Error(), "imgbuild lock") {
		t.Errorf("error %v", err)
	}
}

func TestDecodeProblems(t *testing.T) {
	data, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("0a", 32)
	for name, c := range map[string]struct{ from, to, want string }{
		"version":      {"version: 1\n", "version: 2\n", `l:3:10: version: value "2": is not the format this imgbuild reads; allowed: 1`},
		"architecture": {"\narchitecture: amd64", "\narchitecture: i386", `architecture: value "i386": is not known; allowed: amd64, arm64`},
		"unknown key":  {"signedBy:", "signdBy:", `archives[0].signdBy: is not a known key; did you mean "signedBy"?`},
		"fingerprint":  {"- " + strings.Repeat("AB", 20), "- abc", `archives[0].signedBy[0]: value "abc": is not a key fingerprint`},
		"digest":       {"sha256: " + digest, "sha256: " + digest[2:], "packages[0].sha256: value"},
		"upper case":   {"inRelease: " + digest, "inRelease: " + strings.ToUpper(digest), "archives[0].inRelease: value"},
		"size":         {"size: 10", "size: 0", `packages[0].size: value "0": is not a positive number`},
		"path":         {"path: pool/main/x/kmod.deb", "path: pool/../../kmod.deb", `packages[0].path: value "pool/../../kmod.deb": is not the path of a .deb below pool/`},
		"order":        {"- name: kmod", "- name: zmod", "packages[1].name: value \"libc6\": is out of order"},
		"twice":        {"- name: libc6", "- name: kmod", "packages[1].name: value \"kmod\": is pinned twice"},
		"not pinned":   {"- name: systemd", "- name: systemd2", "sets.root/cp[1]: value \"systemd\": is not pinned under packages"},
		"set name":     {"  root/cp:", "  boot/cp:", "sets.boot/cp: is not the name of a set; allowed: root/PROFILE"},
		"sum":          {"sum: h1:AAAA", "sum: h2:AAAA", "modules[0].sum: value"},
		"component":    {"component: pause", "component: etcd", "modules[1].component: value \"etcd\": is pinned twice"},
		"url":          {"https://x.test/k", "ftp://x.test/k", "releases[0].url: value"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(data), c.from, c.to, 1)
			if text == string(data) {
				t.Fatalf("%q is not in the sample:\n%s", c.from, data)
			}
			_, err := Decode("l", []byte(text))
			if fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error does not contain %q:\n%v", c.want, err)
			}
		})
	}
}

func TestSet(t *testing.T) {
	got, err := sample().Set("tool/kmod")
	if err != nil || len(got) != 2 || got[0].Name != "libc6" || got[1].Name != "kmod" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := sample().Set("tool/none"); fault.ClassOf(err) != fault.MissingPin || !strings.Contains(err.Error(), `no set "tool/none"`) {
		t.Errorf("error %v", err)
	}
	if _, err := sample().Module("none"); fault.ClassOf(err) != fault.MissingPin {
		t.Errorf("error %v", err)
	}
}

func TestCheck(t *testing.T) {
	p := &profile.Profile{Name: "cp", Kernel: profile.Kernel{Package: "systemd"}, Debian: profile.Debian{Packages: []string{"libc6"}},
		Initrd: profile.Initrd{Packages: []string{"systemd"}}, Components: []string{"etcd"}}
	if err := sample().Check(p); err != nil {
		t.Error(err)
	}
	p.Debian.Packages = append(p.Debian.Packages, "nftables", "kmod")
	p.Initrd.Packages = append(p.Initrd.Packages, "kmod")
	p.Components = append(p.Components, "coredns")
	err := sample().Check(p)
	if fault.ClassOf(err) != fault.MissingPin {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"4 things", "package nftables of root/cp", "package kmod of root/cp", "package kmod of initrd/cp", "component coredns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not contain %q:\n%v", want, err)
		}
	}
}

func TestCompare(t *testing.T) {
	old, new := sample(), sample()
	if d := Compare(old, new); len(d) != 0 {
		t.Errorf("equal locks differ: %v", d)
	}
	new.Packages[0].Version = "35"
	new.Packages[1].SHA256 = strings.Repeat("0b", 32)
	new.Packages[2].Name = "systemd2"
	new.Modules[0].Version = "v3.6.1"
	delete(new.Sets, "tool/kmod")
	want := Diff{
		{"package", "kmod", "34", "35"},
		{"package", "libc6", "1:2.41 0a0a0a0a0a0a0a0a0a0", "1:2.41 0b0b0b0b0b0b0b0b0b0"},
		{"package", "systemd", "257~rc1", ""},
		{"package", "systemd2", "", "257~rc1"},
		{"module", "etcd", "v3.6.0", "v3.6.1"},
		{"set", "tool/kmod", "2 packages", ""},
	}
	if d := Compare(old, new); !reflect.DeepEqual(d, want) {
		t.Errorf("got  %v\nwant %v", d, want)
	}
	if d := Compare(nil, sample()); len(d) != 1+3+2+1+3 || d[0].Old != "" || d[0].New == "" {
		t.Errorf("from nothing: %v", d)
	}
}

// The committed locks are valid.
func TestRealLocks(t *testing.T) {
	names, err := filepath.Glob("../../profiles/lock.*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no lock in the repository, %v", err)
	}
	for _, name := range names {
		l, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := l.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s is not what imgbuild lock writes, %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	data, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Decode("f", data)
		if err != nil {
			if fault.ClassOf(err) != fault.Config {
				t.Errorf("class of %v", err)
			}
			return
		}
		again, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		l2, err := Decode("again", again)
		if err != nil || Compare(l, l2) != nil {
			t.Errorf("a valid lock does not survive being saved: %v\n%s", err, again)
		}
		for name := range l.Sets {
			if _, err := l.Set(name); err != nil {
				t.Errorf("set %s of a valid lock: %v", name, err)
			}
		}
	})
}
