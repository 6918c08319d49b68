// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// What the file says of kubelets, of the cluster, a role and a host, is in the document and the
// arguments of that host's kubelet; the configuration that all nodes share has the cluster's
// part alone. How documents become configurations is tested beside firstboot's phases.
func TestKubeletSettingsReachTheKubelet(t *testing.T) {
	s := parse(t, with(`kubelet: {systemReserved: {cpu: 200m, memory: 256Mi}, evictionHard: {memory.available: 200Mi}, maxPods: 50}
roles:
  controlPlane: {kubelet: {maxPods: 30}}
  worker:
    labels: {example.org/disk: nvme, example.org/rack: r1}
    taints: [{key: dedicated, value: batch, effect: NoSchedule}]
    kubelet: {kubeReserved: {memory: 300Mi}, evictionSoft: {memory.available: 5%}, evictionSoftGracePeriod: {memory.available: 90s}, maxPods: 60}`)+
		"- {name: w-2, role: worker, address: 192.0.2.22, match: {serial: S2}, network: {interface: eth0}, labels: {example.org/rack: r2}, taints: [], "+
		"kubelet: {systemReserved: {memory: 1Gi}, evictionHard: {nodefs.available: 7%}, resolvConf: /run/resolv.conf}}\n")
	dir := t.TempDir()
	rendered(t, s, dir)
	config := func(name string) *kubeadm.Config {
		document := readHost(t, dir, "hosts/"+name+".ign").document(t)
		c, err := kubeadm.New(document, kubeadm.Host{Hostname: name, Address: netip.MustParseAddr("192.0.2.21"), Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	shared := manifests.ClusterKubelet(config("cp-1"))
	if shared.MaxPods != 50 || shared.EvictionHard["memory.available"] != "200Mi" || shared.KubeReserved != nil {
		t.Errorf("kubelet-config is not what the file says of the cluster: %+v", shared)
	}
	// What firstboot writes on the machine.
	settings := func(name string) (k node.Kubelet, arguments string) {
		c := config(name)
		files, err := manifests.KubeletFiles(c, shared)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if path.Base(f.Path) != "config.yaml" {
				arguments += string(f.Data)
			}
		}
		return c.Kubelet, arguments
	}
	k, arguments := settings("w-1")
	if k.MaxPods != 60 || k.SystemReserved["cpu"] != "200m" || k.SystemReserved["memory"] != "256Mi" || k.KubeReserved["memory"] != "300Mi" ||
		k.EvictionHard["memory.available"] != "200Mi" || k.EvictionSoft["memory.available"] != "5%" || k.EvictionSoftGracePeriod["memory.available"].D() != 90*time.Second {
		t.Errorf("%+v", k)
	}
	for _, want := range []string{"example.org/disk=nvme", "example.org/rack=r1", "dedicated=batch:NoSchedule"} {
		if !strings.Contains(arguments, want) {
			t.Errorf("no %s in %s", want, arguments)
		}
	}
	k, arguments = settings("w-2")
	if k.MaxPods != 60 || k.SystemReserved["cpu"] != "200m" || k.SystemReserved["memory"] != "1Gi" || len(k.EvictionHard) != 2 || k.ResolvConf != "/run/resolv.conf" {
		t.Errorf("%+v", k)
	}
	if !strings.Contains(arguments, "example.org/rack=r2") || strings.Contains(arguments, "dedicated") {
		t.Error(arguments)
	}
	if k, _ = settings("cp-1"); k.MaxPods != 30 || k.KubeReserved != nil || k.EvictionSoft != nil {
		t.Errorf("a control plane has what a worker is told: %+v", k)
	}
}
