// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"path"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func TestGolden(t *testing.T) {
	second := func(n *node.Node) { n.Node.Name, n.Node.Address = "cp-2", "192.0.2.12" }
	for dir, c := range map[string]*kubeadm.Config{
		"init":   kubeadmtest.Config(t),
		"join":   kubeadmtest.Config(t, second),
		"verity": kubeadmtest.Config(t, kubeadmtest.Verity),
	} {
		if dir == "join" {
			c.EtcdExisting = true
			c.EtcdMembers = []node.Peer{{Name: "cp-2", Address: "192.0.2.12"}, {Name: "cp-1", Address: "192.0.2.11"}}
			c.Hostname = "cp-2"
		}
		t.Run(dir, func(t *testing.T) {
			pods, err := StaticPodFiles(c)
			if err != nil {
				t.Fatal(err)
			}
			files, err := KubeletFiles(c, ClusterKubelet(c))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range append(pods, files...) {
				kubeadmtest.Golden(t, dir+"/"+path.Base(f.Path), f.Data)
			}
		})
	}
}
