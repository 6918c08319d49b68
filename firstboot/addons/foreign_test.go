// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func foreign(n *node.Node) {
	n.Delivery.ForeignImages = map[string]string{kubeadm.Proxy: "example.com/proxy:1", kubeadm.Flannel: "example.com/flannel:1"}
}

func daemonSets(t *testing.T, edits ...func(*node.Node)) map[string]*appsv1.DaemonSet {
	t.Helper()
	out := map[string]*appsv1.DaemonSet{}
	for _, o := range objects(t, edits...) {
		if d, ok := o.Obj.(*appsv1.DaemonSet); ok {
			out[d.Name] = d
		}
	}
	return out
}

// Every node gets one of the two: ours by our label, the others by its absence. So it is
// whatever ours run.
func TestForeignNodes(t *testing.T) {
	for _, own := range []func(*node.Node){kubeadmtest.Verity, func(n *node.Node) { n.Delivery.Images = map[string]string{kubeadm.Flannel: "example.com/own:1"} }} {
		testForeignNodes(t, daemonSets(t, own, foreign))
	}
	if n := len(daemonSets(t)); n != 2 {
		t.Errorf("%d DaemonSets although no image is named, want 2", n)
	}
}

func testForeignNodes(t *testing.T, all map[string]*appsv1.DaemonSet) {
	t.Helper()
	if len(all) != 4 {
		t.Fatalf("%d DaemonSets, want 4", len(all))
	}
	for name, image := range map[string]string{"kube-proxy": "example.com/proxy:1", "kube-flannel-ds": "example.com/flannel:1"} {
		own, other := all[name], all[name+"-foreign"]
		if other == nil {
			t.Fatalf("no %s-foreign", name)
		}
		spec := other.Spec.Template.Spec
		if own.Spec.Template.Spec.NodeSelector[kubeadm.DeliveryLabel] != "verity" || spec.NodeSelector[kubeadm.DeliveryLabel] != "" {
			t.Errorf("%s selects by %v and %v", name, own.Spec.Template.Spec.NodeSelector, spec.NodeSelector)
		}
		term := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
		if got := fmt.Sprint(term); got != "[{[{imgbuild.io/delivery NotIn [verity]}] []}]" {
			t.Errorf("%s: %s", name, got)
		}
		for _, c := range spec.Containers {
			if c.Image != image {
				t.Errorf("%s runs %s", other.Name, c.Image)
			}
		}
		for _, v := range spec.Volumes {
			if v.HostPath != nil && v.HostPath.Path == "/usr" {
				t.Errorf("%s uses the host's /usr", other.Name)
			}
		}
		if reflect.DeepEqual(own.Spec.Selector, other.Spec.Selector) || !reflect.DeepEqual(other.Spec.Selector.MatchLabels, other.Spec.Template.Labels) {
			t.Errorf("%s: selectors %v and %v", name, own.Spec.Selector, other.Spec.Selector)
		}
	}
}

// A node that is not ours attaches pods as ours do; the shell is the referee of the script.
func TestForeignNodesAttachPodsAsOursDo(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell on this machine")
	}
	for _, text := range []string{
		"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
		"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.129/25\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
		"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.16.1/20\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
		"FLANNEL_IPV6_NETWORK=fd00:10::/56\nFLANNEL_IPV6_SUBNET=fd00:10:0:3::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n",
		"FLANNEL_IPV6_NETWORK=fd00::/64\nFLANNEL_IPV6_SUBNET=fd00::3:4:0:0:1/80\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n",
		"FLANNEL_IPV6_NETWORK=fd00::/64\nFLANNEL_IPV6_SUBNET=fd00::3:21/123\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "subnet.env"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c := daemonSets(t, kubeadmtest.Verity, foreign, func(n *node.Node) { n.Cluster.ProxyMode = node.ProxyNFTables })["kube-flannel-ds-foreign"].Spec.Template.Spec.Containers[1]
		script := strings.NewReplacer(cni.SubnetFile, filepath.Join(dir, "subnet.env"), "/host/cni", dir, "sleep 2", "exit").Replace(c.Command[2])
		if out, err := exec.Command(sh, "-euc", strings.Replace(script, "$FLANNEL_SUBNET\" ]", "${FLANNEL_SUBNET-}\" ]", 1)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		written, err := os.ReadFile(filepath.Join(dir, "10-imgbuild-foreign.conflist"))
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Plugins []map[string]any }
		if err := json.Unmarshal(written, &got); err != nil || len(got.Plugins) != 2 || got.Plugins[1]["backend"] != "nftables" {
			t.Fatalf("%v\n%s", err, written)
		}
		subnet, err := cni.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := cni.Render(subnet)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		err = json.Unmarshal(ours, &want)
		if canonical(t, got.Plugins[0]); err != nil || !reflect.DeepEqual(got.Plugins[0], want) {
			t.Errorf("%v\n got %v\nwant %v", err, got.Plugins[0], want)
		}
	}
}

// canonical writes the range of a bridge's addresses as netip does. It has to be a subnet's own
// address, or the plugin refuses it.
func canonical(t *testing.T, bridge map[string]any) {
	t.Helper()
	r := bridge["ipam"].(map[string]any)["ranges"].([]any)[0].([]any)[0].(map[string]any)
	p, err := netip.ParsePrefix(r["subnet"].(string))
	if err != nil || p != p.Masked() {
		t.Errorf("%v %v", r, err)
	}
	r["subnet"] = p.String()
}
