// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// What is wrong with the command line or the cluster's directory is said before any image is
// built.
func TestRunClusterRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "file")
	index := `{"apiVersion":"imgbuild.io/v1alpha1","kind":"ClusterIndex","name":"demo","endpoint":"10.0.0.9:6443","endpointMode":"vip","vip":"10.0.0.9",
"apiPort":6443,"pkiMode":"shared","subnet":"10.0.0.0/24","hosts":[{"name":"cp-1","role":"control-plane","address":"10.0.0.1","dhcp":false,"mac":"52:54:00:00:00:01","platform":"metal","ignition":"cp-1.ign"}]}`
	if err := os.WriteFile(filepath.Join(dir, "cluster.json"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		args  []string
		class fault.Class
		want  string
	}{
		{"not rendered", []string{"--cluster", t.TempDir()}, fault.Config, "imgbuild cluster render"},
		{"unknown host", []string{"--cluster", dir, "--only", "cp-1,cp-7"}, fault.Usage, `no host "cp-7"`},
		{"flags of one machine", []string{"--cluster", dir, "--ignition", "x.ign"}, fault.Usage, "--ignition is for a single machine"},
		{"hosts without a cluster", []string{"--only", "cp-1"}, fault.Usage, "name a rendered cluster with --cluster"},
		{"accelerator", []string{"--cluster", dir, "--accel", "hax"}, fault.Usage, "allowed are auto, kvm and tcg"},
		{"accelerator of one machine", []string{"--profile", "node", "--accel", "hax"}, fault.Usage, "allowed are auto, kvm and tcg"},
		{"disk", []string{"--cluster", dir, "--disk-size", "8 GB"}, fault.Usage, "give --disk-size as a quantity"},
		{"disk of one machine", []string{"--profile", "node", "--disk-size", "8 GB"}, fault.Usage, "give --disk-size as a quantity"},
		{"more than the host has", []string{"--cluster", dir, "--memory", "100000000"}, fault.Machine, "start fewer machines, or smaller ones"},
		{"time line", []string{"--cluster", dir, "--memory", "64", "--timeline", missing}, fault.Usage, "with --timeline"},
		{"time line of one machine", []string{"--profile", "node", "--timeline", missing}, fault.Usage, "with --timeline"},
		{"capture", []string{"--cluster", dir, "--memory", "64", "--capture", missing}, fault.Usage, "with --capture"},
		{"two images", []string{"--cluster", dir, "--image", "a", "--profile", "b"}, fault.Usage, "--image and --profile"},
	} {
		o := run(t, append([]string{"run"}, c.args...)...)
		if o.status != int(c.class) || !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s: status %d, want %d and %q:\n%s", c.name, o.status, c.class, c.want, o.stderr)
		}
	}
}
