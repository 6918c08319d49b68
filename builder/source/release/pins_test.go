// SPDX-License-Identifier: Apache-2.0

package release

import (
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
)

const pinsOnDisk = "../../../" + FileName

// The pins that come with the product, written out once more: a change of a digest must be
// made in two places by someone who means it.
func TestShippedPins(t *testing.T) {
	p, err := Load(pinsOnDisk)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][3]string{ // version and the start of both digests
		"kubelet":     {"1.36.3", "46707a53209f826a", "57205a5daf588387"},
		"kubectl":     {"1.36.3", "ebbd080e7c2e2750", "3d86f24401c41ae5"},
		"kubeadm":     {"1.36.3", "bba1733c701bf70e", "276cfbdc43b10fef"},
		"etcd":        {"3.6.14", "ffe840ff9295808e", "fa1b80565ee6fc2d"},
		"cni-plugins": {"1.9.1", "b98f74a0f8522f0a", "56171987d3947707"},
		"runc":        {"1.4.3", "f6ae8efc0fa40079", "633301e2e32f8a5a"},
		"crictl":      {"1.36.0", "83855e114566a8a8", "68328594ccf780a8"},
		"containerd":  {"2.3.4", "9d68969855fbf676", "a985fbb7e18fc036"},
	} {
		r, err := p.Find(name, want[0])
		if err != nil {
			t.Error(err)
			continue
		}
		for i, arch := range []string{"amd64", "arm64"} {
			l, err := r.Lock(arch)
			if err != nil || !strings.HasPrefix(l.SHA256, want[i+1]) || l.Architecture != arch || l.Version != want[0] {
				t.Errorf("%s for %s: %+v, %v", name, arch, l, err)
			}
			if strings.ContainsAny(l.URL, "{}") || !strings.Contains(l.URL, want[0]) || !strings.Contains(l.URL, arch) {
				t.Errorf("%s for %s: URL %s", name, arch, l.URL)
			}
		}
	}
}

func TestURL(t *testing.T) {
	p, err := Load(pinsOnDisk)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := p.Find("cni-plugins", "1.9.1")
	l, _ := r.Lock("arm64")
	const want = "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz"
	if l.URL != want {
		t.Errorf("URL %s", l.URL)
	}
	it, err := r.Item("arm64", "http://127.0.0.1:1/m/")
	if err != nil || it.URLs[0] != "http://127.0.0.1:1/m/"+strings.TrimPrefix(want, "https://") {
		t.Errorf("mirrored: %v, %v", it.URLs, err)
	}
	if _, err := r.Item("arm64", "nonsense"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("bad mirror: %v", err)
	}
}

func TestFindSaysWhatIsPinned(t *testing.T) {
	p, err := Load(pinsOnDisk)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Find("etcd", "9.9.9")
	if fault.ClassOf(err) != fault.MissingPin || !strings.Contains(err.Error(), "3.6.14") {
		t.Errorf("version: %v", err)
	}
	_, err = p.Find("nonesuch", "1")
	if fault.ClassOf(err) != fault.MissingPin || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("name: %v", err)
	}
	r, _ := p.Find("etcd", "3.6.14")
	if _, err := r.Lock("riscv64"); fault.ClassOf(err) != fault.MissingPin || !strings.Contains(err.Error(), "amd64, arm64") {
		t.Errorf("architecture: %v", err)
	}
}

const digest = "46707a53209f826ad0f0d62371ac69cd00e78fd9a8176cf5f6f87f18f7f8b718"

func TestEveryProblemIsReported(t *testing.T) {
	const text = `version: 2
colour: red
releases:
  - name: Kube
    version: v1
    url: http://x.example/{q}
    archive: zip
    sha256:
      amd64: ABC
      mips: ` + digest + `
    files:
      - from: ../../etc/passwd
        path: /etc/passwd
  - name: a
    version: 1
    url: https://x.example/a
    sha256:
      amd64: ` + digest + `
    files:
      - from: x
        path: /usr/bin/
      - path: /usr/bin/../b
  - name: a
    version: 1
    url: https://x.example/{q}
`
	_, err := Decode("pins.yaml", []byte(text))
	if fault.ClassOf(err) != fault.Config {
		t.Fatal(err)
	}
	for _, want := range []string{
		`pins.yaml:1:10: version: value "2"`, "pins.yaml:2:1: colour", `:4:11: releases[0].name: value "Kube"`,
		`:5:14: releases[0].version: value "v1"`, `:6:10: releases[0].url: value`, `:7:14: releases[0].archive: value "zip"`,
		`:9:14: releases[0].sha256.amd64`, `:10:13: releases[0].sha256.mips`, `:12:15: releases[0].files[0].from`,
		`:13:15: releases[0].files[0].path`, "releases[1].files: has several", "releases[1].files[0].from", ":22:15: releases[1].files[1].path",
		"releases[2].version", "a 1 is pinned twice", "releases[2].url", "unknown placeholder", "releases[2].sha256: is missing", "releases[2].files: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("version: 1\nreleases:\n  - name: a\n    version: 1.2\n    url: https://x/{v}{a}\n    sha256: {amd64: " + digest + "}\n    files: [{path: /usr/bin/a}]\n"))
	f.Add([]byte("releases: [{}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode("pins.yaml", data)
		if err != nil {
			if fault.ClassOf(err) != fault.Config {
				t.Errorf("class %d: %v", fault.ClassOf(err), err)
			}
			return
		}
		// Whatever is accepted can be used, and writes below /usr only.
		for i := range p.Releases {
			r := &p.Releases[i]
			for arch := range r.SHA256 {
				if !slices.Contains(lock.Architectures, arch) {
					t.Errorf("architecture %q", arch)
				}
				if _, err := r.Item(arch, "http://m"); err != nil {
					t.Error(err)
				}
				if _, err := r.Key(arch); err != nil {
					t.Error(err)
				}
				for _, f := range r.Files {
					if to := r.target(f, arch); !strings.HasPrefix(to, "/usr/") || strings.Contains(to, "/../") || strings.HasSuffix(to, "/..") {
						t.Errorf("writes %q", to)
					}
				}
			}
		}
	})
}
