// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
)

// TestClustersRender renders every example of a cluster file, beside the files that the same
// document shows.
func TestClustersRender(t *testing.T) {
	seen := 0
	all := allFences(t)
	for _, f := range all {
		if f.label("cluster") == "" {
			continue
		}
		seen++
		at, dir := fmt.Sprintf("%s:%d", f.file, f.line), t.TempDir()
		for _, other := range all {
			if name := other.label("file"); other.file == f.file && name != "" {
				if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(other.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		s, err := cluster.Parse(at, dir, []byte(f.text))
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		if len(s.Warnings) > 0 {
			t.Errorf("%s: %v", at, s.Warnings)
		}
		if _, err := cluster.Render(t.Context(), s, cluster.Options{Dir: filepath.Join(dir, "out"), Now: time.Now()}); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	if seen == 0 {
		t.Fatal("no example of a cluster was found")
	}
}
