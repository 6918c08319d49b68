// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// noise is text that does not compress well.
func noise(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	out, state := make([]byte, n), uint64(1)
	for i := range out {
		state = state*6364136223846793005 + 1442695040888963407
		out[i] = letters[state>>58]
	}
	return string(out)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(base))
	text, err := Starter(StarterOptions{Name: "demo", ControlPlanes: 3, Workers: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(everyNetwork))
	for _, block := range []string{"butane: [x]", "hosts: [{}]", "vip: {provider: kube-vip, address: '::1'}", "registries: [{host: '*', mirrors: [{url: 'https://m'}]}]", "hostNetwork: {bond: {members: [a]}, vlan: 3}", "platform: aws"} {
		f.Add([]byte(with(block)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("cluster.yaml", "/nonexistent", data)
		if err != nil {
			var ps strict.Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			return
		}
		// What passes the check can be rendered.
		if _, err := Render(t.Context(), s, Options{Dir: "/nonexistent/demo", DryRun: true, Now: now}); err != nil && fault.ClassOf(err) != fault.TooSmall {
			t.Fatalf("%v\n%s", err, data)
		}
	})
}

// A snippet is either refused with a line of its own, or a part of every host's config.
func FuzzSnippet(f *testing.F) {
	for _, text := range []string{"variant: fcos\nversion: 1.6.0\n", "variant: fcos\nversion: 1.6.0\nstorage:\n  files:\n    - path: relative\n", "variant: [\n", "storage: {}\n",
		"variant: fcos\nversion: 1.7.0-experimental\n", "variant: fcos\nversion: 1.4.0\nstorage: {links: [{path: /etc/imgbuild, target: /x}], directories: [{path: /d}]}\n",
		"variant: fcos\nversion: 1.6.0\nstorage: {files: [{path: /f, mode: 0600, contents: {local: a.bu}}]}\nsystemd: {units: [{name: a.service, enabled: true}]}\n"} {
		f.Add([]byte(text))
	}
	text := []byte(with("butane: [a.bu]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("cluster.yaml", place(t, "a.bu", string(data)), text)
		if err == nil {
			if _, err := Render(t.Context(), s, Options{Dir: "/nonexistent/demo", DryRun: true, Now: now}); err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			return
		}
		var ps strict.Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("not a list of problems: %v", err)
		}
		for _, p := range ps {
			if p.Line < 1 || filepath.Base(p.File) != "a.bu" && p.File != "cluster.yaml" {
				t.Errorf("%+v", p)
			}
		}
	})
}
