// SPDX-License-Identifier: Apache-2.0

package host

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

func machine(t *testing.T, files map[string]string) (string, *node.Node) {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{"/sys/class/dmi/id/product_uuid": "11111111-2222-3333-4444-555555555555\n"}
	maps.Copy(all, files)
	for path, text := range all {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n := &node.Node{Role: node.ControlPlane, Node: node.Machine{Name: "cp-1"}}
	node.SetDefaults(n)
	return root, n
}

func TestRecognise(t *testing.T) {
	hosts := []node.Host{
		{Match: node.Match{MAC: "52:54:00:00:00:01"}, Node: node.Machine{Name: "cp-1"}},
		{Match: node.Match{MAC: "52:54:00:00:00:02", UUID: "11111111-2222-3333-4444-555555555555"}, Node: node.Machine{Name: "cp-2"}, VIPPriority: 7},
		{Match: node.Match{Serial: "S3"}, Node: node.Machine{Name: "cp-3"}},
	}
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"mac":           {map[string]string{"/sys/class/net/lo/address": "00:00:00:00:00:00\n", "/sys/class/net/eth0/address": "52:54:00:00:00:01\n"}, "cp-1"},
		"mac and uuid":  {map[string]string{"/sys/class/net/eth0/address": "52:54:00:00:00:02\n"}, "cp-2"},
		"serial":        {map[string]string{"/sys/class/dmi/id/product_serial": "s3\n"}, "cp-3"},
		"another":       {map[string]string{"/sys/class/net/eth0/address": "52:54:00:00:00:09\n"}, ""},
		"mac, not uuid": {map[string]string{"/sys/class/net/eth0/address": "52:54:00:00:00:02\n", "/sys/class/dmi/id/product_uuid": "x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root, n := machine(t, tc.files)
			n.Node, n.Hosts = node.Machine{}, hosts
			err := Recognise(root, n)
			if tc.want == "" {
				if err == nil || !strings.Contains(err.Error(), "none of the 3 hosts of the node document is this machine (MACs 52:54:00:00:00:0") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || n.Node.Name != tc.want || tc.want == "cp-2" && n.VIP.Priority != 7 {
				t.Errorf("%+v %v", n.Node, err)
			}
		})
	}
	root, n := machine(t, nil)
	if err := Recognise(root, n); err != nil || n.Node.Name != "cp-1" {
		t.Errorf("a document for one machine: %v", err)
	}
}
