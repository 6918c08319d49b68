// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strings"
	"testing"
	"time"

	kubelet "k8s.io/kubelet/config/v1beta1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func flagsOf(t *testing.T, c *kubeadm.Config, name string) []string {
	t.Helper()
	for _, p := range StaticPods(c) {
		if p.Name == name {
			return p.Spec.Containers[0].Command
		}
	}
	t.Fatalf("no pod %s", name)
	return nil
}

func TestFlagVariants(t *testing.T) {
	external := func(c *kubeadm.Config) { c.ExternalCA = true }
	ipv6 := func(n *node.Node) { n.Node.Address = "2001:db8::11" }
	for name, tc := range map[string]struct {
		edit   func(*node.Node)
		set    func(*kubeadm.Config)
		pod    string
		want   []string
		absent []string
	}{
		"external authority": {nil, external, kubeadm.ControllerManager, []string{"--cluster-signing-cert-file=", "--cluster-signing-key-file="}, nil},
		"etcd timing": {func(n *node.Node) { n.Etcd.HeartbeatInterval, n.Etcd.ElectionTimeout = 500e6, 5e9 }, nil, kubeadm.Etcd,
			[]string{"--heartbeat-interval=500", "--election-timeout=5000"}, nil},
		"static members, all new": {nil, func(c *kubeadm.Config) {
			c.EtcdMembers = []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"}}
		}, kubeadm.Etcd, []string{"--initial-cluster=cp-1=https://192.0.2.11:2380,cp-2=https://192.0.2.12:2380"}, []string{"--initial-cluster-state=existing"}},
		"extra argument replaces": {func(n *node.Node) {
			n.APIServer.ExtraArgs = map[string]string{"authorization-mode": "Node,RBAC,Webhook"}
		}, nil, kubeadm.APIServer,
			[]string{"--authorization-mode=Node,RBAC,Webhook"}, []string{"--authorization-mode=Node,RBAC"}},
		"lease of the controller manager": {func(n *node.Node) {
			n.ControllerManager.ExtraArgs = map[string]string{"leader-elect-renew-deadline": "40s", "profiling": "false"}
		}, nil, kubeadm.ControllerManager,
			[]string{"--leader-elect-renew-deadline=40s", "--leader-elect=true", "--profiling=false"}, nil},
		"verbosity of the scheduler": {func(n *node.Node) { n.Scheduler.ExtraArgs = map[string]string{"v": "4"} }, nil, kubeadm.Scheduler, []string{"--v=4"}, nil},
		"ipv6 etcd":                  {ipv6, nil, kubeadm.Etcd, []string{"--listen-client-urls=https://[::1]:2379,https://[2001:db8::11]:2379", "--listen-metrics-urls=http://[::1]:2381"}, nil},
		"ipv6 api":                   {ipv6, nil, kubeadm.APIServer, []string{"--etcd-servers=https://[::1]:2379", "--advertise-address=2001:db8::11"}, nil},
		"port":                       {func(n *node.Node) { n.APIServer.Port = 8443 }, nil, kubeadm.APIServer, []string{"--secure-port=8443"}, []string{"--secure-port=6443"}},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*node.Node)
			if tc.edit != nil {
				edits = append(edits, tc.edit)
			}
			c := kubeadmtest.Config(t, edits...)
			if tc.set != nil {
				tc.set(c)
			}
			got := flagsOf(t, c, tc.pod)
			for _, w := range tc.want {
				if !slices.Contains(got, w) {
					t.Errorf("%s is missing from %v", w, got)
				}
			}
			for _, w := range tc.absent {
				if slices.Contains(got, w) {
					t.Errorf("%s should not be there", w)
				}
			}
			if !slices.IsSortedFunc(got[1:], byName) {
				t.Errorf("flags are not sorted: %v", got)
			}
		})
	}
}

// byName compares flags as kubeadm orders them.
func byName(a, b string) int {
	a, _, _ = strings.Cut(a, "=")
	b, _, _ = strings.Cut(b, "=")
	return strings.Compare(a, b)
}

func TestHostCADirs(t *testing.T) {
	count := func(c *kubeadm.Config) map[string]bool {
		out := map[string]bool{}
		for _, p := range StaticPods(c) {
			for _, v := range p.Spec.Volumes {
				out[p.Name+" "+v.Name] = true
			}
		}
		return out
	}
	dirs := []string{"/etc/ca-certificates", "/usr/share/ca-certificates"}
	c := kubeadmtest.Config(t)
	c.ExtraCADirs = dirs
	oci := count(c)
	c = kubeadmtest.Config(t, kubeadmtest.Verity)
	c.ExtraCADirs = dirs
	verity := count(c)
	for pod, want := range map[string]bool{kubeadm.APIServer: true, kubeadm.ControllerManager: true, kubeadm.Scheduler: false, kubeadm.Etcd: false} {
		if oci[pod+" etc-ca-certificates"] != want || oci[pod+" usr-share-ca-certificates"] != want {
			t.Errorf("%s as image: %v", pod, oci)
		}
		if verity[pod+" etc-ca-certificates"] != want || verity[pod+" usr-share-ca-certificates"] {
			t.Errorf("%s from the host: %v", pod, verity)
		}
	}
}

func TestStartupFailuresRoundUp(t *testing.T) {
	for wait, want := range map[time.Duration]int32{4 * time.Minute: 24, 41 * time.Second: 5, 40 * time.Second: 4} {
		if got := startupFailures(wait); got != want {
			t.Errorf("%s: %d periods, want %d", wait, got, want)
		}
	}
}

func TestKubeletArguments(t *testing.T) {
	files := func(edits ...func(*node.Node)) map[string]string {
		t.Helper()
		c := kubeadmtest.Config(t, edits...)
		out := map[string]string{}
		list, err := KubeletFiles(c, ClusterKubelet(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			out[f.Path] = string(f.Data)
		}
		return out
	}
	const env = kubeadm.KubeletDir + "/kubeadm-flags.env"
	f := files(func(n *node.Node) { n.Node.Name = "other" })
	if want := "KUBELET_KUBEADM_ARGS=\"--hostname-override=other\"\n"; f[env] != want {
		t.Errorf("%q, want %q", f[env], want)
	}
	taints := []node.Taint{{Key: "a", Value: "b", Effect: "NoSchedule"}, {Key: "c", Effect: "NoExecute"}}
	f = files(func(n *node.Node) { n.Role, n.Node.Taints = node.Worker, &taints })
	if want := "KUBELET_KUBEADM_ARGS=\"--register-with-taints=a=b:NoSchedule,c=:NoExecute\"\n"; f[env] != want {
		t.Errorf("%q, want %q", f[env], want)
	}
	f = files(func(n *node.Node) {
		n.Node.Address = "192.0.2.20"
		n.Node.Labels = map[string]string{"zone": "a", "node-role.kubernetes.io/storage": ""}
	})
	if want := "KUBELET_EXTRA_ARGS=\"--node-labels=imgbuild.io/delivery=verity,zone=a --node-ip=192.0.2.20\"\n"; f[KubeletExtraArgsFile] != want {
		t.Errorf("%q, want %q", f[KubeletExtraArgsFile], want)
	}
	// Beside a virtual address a control plane's own is pinned, whoever chose it.
	for role, pinned := range map[node.Role]bool{node.ControlPlane: true, node.Worker: false} {
		f = files(func(n *node.Node) {
			n.Role, n.Node.Address = role, ""
			n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "192.0.2.10"}
		})
		if got := strings.Contains(f[KubeletExtraArgsFile], "--node-ip="); got != pinned {
			t.Errorf("%s: %q", role, f[KubeletExtraArgsFile])
		}
	}
	f = files(func(n *node.Node) {
		n.Kubelet = node.Kubelet{MaxPods: 50, KubeReserved: map[string]string{"cpu": "100m"}, ResolvConf: "/run/systemd/resolve/resolv.conf"}
	})
	for _, want := range []string{"maxPods: 50\n", "kubeReserved:\n  cpu: 100m\n", "resolvConf: /run/systemd/resolve/resolv.conf\n"} {
		if !strings.Contains(f[kubeadm.KubeletDir+"/config.yaml"], want) {
			t.Errorf("config.yaml lacks %q", want)
		}
	}
}

func TestEtcdCPURequest(t *testing.T) {
	for asked, want := range map[string]string{"": "100m", "1500m": "1500m"} {
		c := kubeadmtest.Config(t, func(n *node.Node) { n.Etcd.CPURequest = asked })
		if got := StaticPods(c)[0].Spec.Containers[0].Resources.Requests.Cpu().String(); got != want {
			t.Errorf("cpuRequest %q: %s, want %s", asked, got, want)
		}
	}
}

func TestReadinessProbePeriod(t *testing.T) {
	for asked, want := range map[node.Duration]int32{node.Duration(time.Second): 1, node.Duration(time.Minute): 60} {
		c := kubeadmtest.Config(t, func(n *node.Node) { n.Timeouts.ReadinessProbePeriod = asked })
		for _, p := range StaticPods(c) {
			probe := p.Spec.Containers[0].ReadinessProbe
			if probed := p.Name != kubeadm.ControllerManager; probed != (probe != nil) || probed && probe.PeriodSeconds != want {
				t.Errorf("%s with a period of %s has the readiness probe %+v, want one every %d s: %v", p.Name, asked.D(), probe, want, probed)
			}
		}
	}
}

func TestLabelsAndTaints(t *testing.T) {
	none := []node.Taint{}
	c := kubeadmtest.Config(t, func(n *node.Node) {
		n.Node.Labels = map[string]string{"zone": "a", "example.com/x": "y", "topology.kubernetes.io/zone": "z", "k8s.io/q": "r"}
	})
	admin, self := AdminLabels(c), SelfLabels(c)
	if len(admin) != 3 || admin["k8s.io/q"] != "r" {
		t.Errorf("administrator's labels: %v", admin)
	}
	if len(self) != 4 || self["topology.kubernetes.io/zone"] != "z" || self["zone"] != "a" || self["example.com/x"] != "y" {
		t.Errorf("kubelet's labels: %v", self)
	}
	if got := NodeTaints(c); len(got) != 1 || got[0].Key != kubeadm.ControlPlaneTaint {
		t.Errorf("taints: %v", got)
	}
	if got := NodeTaints(kubeadmtest.Config(t, func(n *node.Node) { n.Node.Taints = &none })); len(got) != 0 {
		t.Errorf("an empty list means none: %v", got)
	}
	if got := NodeTaints(kubeadmtest.Config(t, func(n *node.Node) { n.Role = node.Worker })); len(got) != 0 {
		t.Errorf("a worker's taints: %v", got)
	}
}

// A kubelet does not start with a soft threshold that has no grace period, and forgets its own
// hard ones when some are given.
func TestEvictions(t *testing.T) {
	k := &kubelet.KubeletConfiguration{}
	if Evictions(k, node.Kubelet{}); k.EvictionHard != nil || k.EvictionSoft != nil || k.MergeDefaultEvictionSettings != nil {
		t.Errorf("nothing was asked for: %+v", k)
	}
	Evictions(k, node.Kubelet{EvictionHard: map[string]string{"memory.available": "200Mi"}, EvictionSoft: map[string]string{"nodefs.available": "15%"},
		EvictionSoftGracePeriod: map[string]node.Duration{"nodefs.available": node.Duration(90 * time.Second)}})
	if k.EvictionHard["memory.available"] != "200Mi" || k.MergeDefaultEvictionSettings == nil || !*k.MergeDefaultEvictionSettings ||
		k.EvictionSoft["nodefs.available"] != "15%" || k.EvictionSoftGracePeriod["nodefs.available"] != "1m30s" {
		t.Errorf("%+v", k)
	}
}
