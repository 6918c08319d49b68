// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/plan"
)

const agent = "#!/bin/sh\necho agent\n"

// released is a site whose profile takes a program from a project's server.
type released struct {
	*site
	requests atomic.Int32
	url, sum string
}

func newReleased(t *testing.T, served string) *released {
	t.Helper()
	r := &released{site: newSite(t).warm(t)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.requests.Add(1)
		if q.URL.Path != "/releases.test/v1.2.0/agent-amd64" {
			http.NotFound(w, q)
			return
		}
		fmt.Fprint(w, served)
	}))
	t.Cleanup(server.Close)
	sum := sha256.Sum256([]byte(agent))
	t.Setenv("IMGBUILD_RELEASE_MIRROR", server.URL)
	r.url, r.sum = "https://releases.test/v1.2.0/agent-amd64", hex.EncodeToString(sum[:])
	r.Write(t, "assets/pins/releases.yaml", fmt.Sprintf(`version: 1
releases:
  - name: agent
    version: 1.2.0
    url: "https://releases.test/v{v}/agent-{a}"
    sha256: {amd64: %s}
    files:
      - path: /usr/bin/agent
`, r.sum))
	r.Edit(t, "profiles/node.yaml", "components: [pause]", "components: [pause]\nreleases:\n  - {name: agent, version: 1.2.0}")
	r.pin(t, r.sum)
	return r
}

func (r *released) pin(t *testing.T, sum string) {
	t.Helper()
	r.Lock.Releases = []lock.Release{{Name: "agent", Version: "1.2.0", Architecture: "amd64", URL: r.url, SHA256: sum}}
	r.SaveLock(t)
}

func TestReleaseGoesIntoTheImage(t *testing.T) {
	r := newReleased(t, agent)
	before := decode[plan.Plan](t, r.run(t, "plan", "--profile", "node", "--json").out)
	if step := before.Step("release/agent"); step == nil || step.Cached || step.Inputs[0].Digest != r.sum || step.Inputs[0].Origin != r.url {
		t.Fatalf("the plan has %+v", step)
	}
	if r.requests.Load() != 0 {
		t.Error("planning asked the server")
	}
	r.build(t)
	image := decode[inspect.Image](t, r.run(t, "inspect", "--json", r.image).out)
	m := decode[manifest.Manifest](t, string(image.Manifest))
	if len(m.Releases) != 1 || m.Releases[0].URL != r.url || m.Releases[0].SHA256 != r.sum || m.Releases[0].Files["/usr/bin/agent"] != r.sum {
		t.Errorf("the manifest has %+v", m.Releases)
	}
	if text := r.run(t, "inspect", r.image).out; !strings.Contains(text, r.url) {
		t.Errorf("inspect shows no release: %s", text)
	}
	want := digest(t, r.image)
	r.build(t, "--force", "--offline")
	if digest(t, r.image) != want || r.requests.Load() != 1 {
		t.Errorf("after %d requests the second image differs: %t", r.requests.Load(), digest(t, r.image) != want)
	}
	// The program itself is there, and its digest decides what the plan is called.
	if !strings.Contains(contents(t, r.Dir)["out/node-amd64.raw"], agent) {
		t.Error("the image does not hold the program")
	}
	if after := decode[plan.Plan](t, r.run(t, "plan", "--profile", "node", "--json").out); !after.Step("release/agent").Cached ||
		!slices.Contains(after.Step("root").Needs, "release/agent") || after.Key != before.Key {
		t.Errorf("the plan is %+v", after.Step("release/agent"))
	}
}

func TestReleaseErrors(t *testing.T) {
	const profile, pins = "profiles/node.yaml", "assets/pins/releases.yaml"
	edit := func(file, old, new string) func(*testing.T, *released) {
		return func(t *testing.T, r *released) { t.Helper(); r.Edit(t, file, old, new) }
	}
	for name, c := range map[string]struct {
		served string
		change func(*testing.T, *released)
		class  fault.Class
		want   []string
	}{
		"other bytes": {agent + "and more", func(*testing.T, *released) {}, fault.Digest, []string{"agent 1.2.0"}},
		"gone": {agent, func(t *testing.T, r *released) {
			r.Edit(t, pins, "/v{v}/agent", "/v{v}/gone")
			r.url = "https://releases.test/v1.2.0/gone-amd64"
			r.pin(t, r.sum)
		}, fault.MissingPin, []string{"agent 1.2.0", "404"}},
		"moved":           {agent, edit(pins, "/v{v}/agent", "/{v}/agent"), fault.MissingPin, []string{"the lock for amd64 pins https://releases.test/v1.2.0/agent-amd64"}},
		"no https":        {agent, edit(pins, "https:", "http:"), fault.Config, []string{"is not an https URL"}},
		"not locked":      {agent, func(t *testing.T, r *released) { r.Lock.Releases = nil; r.SaveLock(t) }, fault.MissingPin, []string{"release agent 1.2.0", "run 'imgbuild lock'"}},
		"locked as other": {agent, func(t *testing.T, r *released) { r.pin(t, strings.Repeat("ab", 32)) }, fault.MissingPin, []string{"the lock for amd64 pins", "(abababababab)"}},
		"not described":   {agent, edit(pins, "version: 1.2.0", "version: 1.3.0"), fault.MissingPin, []string{"agent 1.2.0 is not pinned; pinned versions: 1.3.0"}},
		"other machine":   {agent, edit(pins, "amd64: ", "arm64: "), fault.MissingPin, []string{"is not pinned for amd64"}},
		"unknown key":     {agent, edit(profile, "version: 1.2.0}", "verson: 1.2.0}"), fault.Config, []string{"releases[0].verson", `did you mean "version"?`}},
		"no version":      {agent, edit(profile, ", version: 1.2.0}", "}"), fault.Config, []string{"releases[0].version", "is not a version"}},
		"version with v":  {agent, edit(profile, "version: 1.2.0}", "version: v1.2.0}"), fault.Config, []string{`value "v1.2.0": is not a version`}},
		"name":            {agent, edit(profile, "{name: agent", "{name: ../agent"), fault.Config, []string{`value "../agent": is not the name of a release`}},
		"twice":           {agent, edit(profile, "version: 1.2.0}", "version: 1.2.0}\n  - {name: agent, version: 1.2.1}"), fault.Config, []string{"releases[1].name", "is in the list twice"}},
		"same place":      {agent, edit(pins, "/usr/bin/agent", "/usr/lib/imgbuild/pause"), fault.Config, []string{"/usr/lib/imgbuild/pause comes from component:pause and from release:agent"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReleased(t, c.served)
			c.change(t, r)
			r.run(t, "build", "--profile", "node").want(t, c.class, c.want...)
			if len(names(t, r.Dir+"/out")) != 0 {
				t.Error("a failed build left something")
			}
		})
	}
}
