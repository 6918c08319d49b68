// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// created returns cluster.created of every document that was rendered.
func created(t *testing.T, dir string, r *Result) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, c := range r.Changes {
		if strings.HasSuffix(c.File, ".ign") && c.Action != Removed {
			out[c.File] = readHost(t, dir, c.File).document(t).Cluster.Created
		}
	}
	if len(out) < 4 {
		t.Fatalf("%d documents", len(out))
	}
	return out
}

// Every machine is told when its cluster was first rendered. Renderings that follow, whatever
// was lost or cut off before, say the same.
func TestFirstRenderingIsRemembered(t *testing.T) {
	const first = "2026-05-01T12:00:00Z"
	for _, mode := range []string{"shared", "generate"} {
		text, dir := with("pki: {mode: "+mode+"}"), t.TempDir()
		render := func(text string, after time.Duration) *Result {
			t.Helper()
			r, err := Render(t.Context(), parse(t, text), Options{Dir: dir, Now: now.Add(after)})
			if err != nil {
				t.Fatal(err)
			}
			for file, at := range created(t, dir, r) {
				if at != first {
					t.Errorf("%s, %s: created %q, want %s", mode, file, at, first)
				}
			}
			return r
		}
		render(text, 0)
		if got := actions(render(text, 1000*time.Hour)); len(got) > 0 {
			t.Errorf("%s, again: %v", mode, got)
		}
		render(strings.ReplaceAll(text, "cp-3", "cp-4"), 1001*time.Hour)
		drop(t, dir, IndexFile)
		render(text, 1002*time.Hour)
		if mode == "generate" { // the first rendering may be cut off after its secrets
			for _, lost := range []string{IndexFile, "hosts", "roles"} {
				drop(t, dir, lost)
			}
			render(text, 1003*time.Hour)
		}
	}
}

// Nobody knows when a directory of an earlier release was first rendered: it stays as it is.
func TestDirectoryOfAnEarlierRelease(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	line := regexp.MustCompile(`(?m)^created: .*\n`)
	put(t, dir, SecretsFile, []byte(line.ReplaceAllString(read(t, dir, SecretsFile), "")))
	rendered(t, parse(t, base), dir) // the documents of that release have none, either
	r := rendered(t, parse(t, base), dir)
	if got := actions(r); len(got) > 0 {
		t.Errorf("it changes: %v", got)
	}
	for file, at := range created(t, dir, r) {
		if at != "" {
			t.Errorf("%s: created %q", file, at)
		}
	}
	if strings.Contains(read(t, dir, SecretsFile), "created") {
		t.Error("a moment was made up")
	}

	put(t, dir, SecretsFile, append([]byte(read(t, dir, SecretsFile)), "created: yesterday\n"...))
	if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), `created: value "yesterday": is damaged`) {
		t.Error(err)
	}
}
