// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// A run that ends at once without a directory of its own leaves nothing to name.
func TestRunNamesOnlyWhatStays(t *testing.T) {
	r := vm.Result{Kubeconfig: "/tmp/machine/admin.conf", Console: "/tmp/machine/console.log", API: "127.0.0.1:6443", PID: 7, Timeline: &timeline.Timeline{}}
	for name, c := range map[string]struct {
		flags runFlags
		stays bool
	}{
		"goes on":            {runFlags{}, true},
		"once":               {runFlags{once: true}, false},
		"once, kept":         {runFlags{once: true, dir: "/srv/machine"}, true},
		"as JSON":            {runFlags{json: true}, true},
		"once, as JSON":      {runFlags{once: true, json: true}, false},
		"once, kept as JSON": {runFlags{once: true, json: true, dir: "/srv/machine"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := c.flags.printReady(&out, &r); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{r.Kubeconfig, r.Console} {
				if strings.Contains(out.String(), path) != c.stays {
					t.Errorf("%s named: %t, want %t:\n%s", path, !c.stays, c.stays, out.String())
				}
			}
			if !c.stays && (strings.Contains(out.String(), "127.0.0.1") || strings.Contains(out.String(), `"kubeconfig"`) || strings.Contains(out.String(), `"console"`)) {
				t.Errorf("names what is gone:\n%s", out.String())
			}
		})
	}
}
