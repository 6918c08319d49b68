// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

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
			s, _ := machineWith(t, tc.files)
			s.Node.Node, s.Node.Hosts = node.Machine{}, hosts
			err := preflight(t.Context(), s)
			if tc.want == "" {
				if err == nil || !strings.Contains(err.Error(), "host: none of the 3 hosts of the node document is this machine (MACs 52:54:00:00:00:0") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || s.Node.Node.Name != tc.want || tc.want == "cp-2" && s.Node.VIP.Priority != 7 {
				t.Errorf("%+v %v", s.Node.Node, err)
			}
		})
	}
	s, _ := machineWith(t, nil)
	if err := Recognise(s.Root, s.Node); err != nil || s.Node.Node.Name != "cp-1" {
		t.Errorf("a document for one machine: %v", err)
	}
}
