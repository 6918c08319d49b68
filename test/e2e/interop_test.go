// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/test/stock"
)

// mirrorPort is where the gateway serves images to nodes of imgbuild, which load no archives.
const mirrorPort = 5000

var (
	mediaOnce sync.Once
	media     *stock.Media
	mediaErr  error
)

// stockMedia makes what stock machines are given, once for all tests.
func (e env) stockMedia(t *testing.T) *stock.Media {
	t.Helper()
	mediaOnce.Do(func() {
		dir := filepath.Join(e.root, "out/test/stock")
		if mediaErr = os.MkdirAll(dir, 0o755); mediaErr != nil {
			return
		}
		media, mediaErr = stock.Prepare(context.Background(), e.root, e.image, dir, func(name string) ([]string, error) {
			out, err := e.output("component", name)
			return strings.Fields(out), err
		})
	})
	if mediaErr != nil {
		t.Fatal(mediaErr)
	}
	return media
}

// mixed is a cluster of stock machines and nodes of imgbuild.
type mixed struct {
	*haCluster
	agents map[string]stock.Agent
}

func (x *mixed) with(t *testing.T) *mixed {
	return &mixed{haCluster: x.haCluster.with(t), agents: x.agents}
}

// startMixed starts a fleet whose machines all have the stock media as their first additional
// disk and the probe as their second, and whose gateway is a mirror of every registry.
func (e env) startMixed(t *testing.T, o vm.FleetOptions, authorities string, stocks ...stock.Machine) *mixed {
	t.Helper()
	m := e.stockMedia(t)
	mirror, err := m.Registry(stock.ProxyImage, stock.PauseImage, stock.DNSImage)
	if err != nil {
		t.Fatal(err)
	}
	o.Machine.Disks = []string{m.Disk, e.probeDisk}
	c := e.startFleet(t, o)
	t.Cleanup(func() { e.keepConsoles(t, c.fleet) })
	l, err := c.fleet.Gateway.Listen(mirrorPort)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mirror, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // until Close
	t.Cleanup(func() { server.Close() })
	x := &mixed{haCluster: &haCluster{clusterRun: c, pki: authorities}, agents: map[string]stock.Agent{}}
	for _, s := range stocks {
		x.agents[s.Name] = stock.Agent{Dial: c.fleet.Gateway.Dial, Name: s.Name, Address: s.Address}
	}
	return x
}

// keepConsoles leaves what machines said where a person finds it: kubeadm's words are among it.
func (e env) keepConsoles(t *testing.T, f *vm.Fleet) {
	for _, m := range f.Members {
		text, err := os.ReadFile(m.Console())
		if err == nil {
			err = os.WriteFile(filepath.Join(e.root, "out/test", t.Name()+"-"+m.Host.Name+".log"), text, 0o644)
		}
		if err != nil {
			t.Log(err)
		}
	}
}

// writeIgnition encodes a guest for a fleet's host.
func writeIgnition(t *testing.T, path string, g *vm.Guest) (config []byte) {
	t.Helper()
	config, err := g.Ignition()
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, config)
	return config
}

// interopMAC is the hardware address of the machine with this address.
func interopMAC(a netip.Addr) ethernet.MAC {
	b := a.As4()
	return ethernet.MAC{0x52, 0x54, 0, b[1], b[2], b[3]}
}

// authorities are freshly made, and also written below a directory, where the test finds etcd's.
func authorities(t *testing.T, dir string) (files []vm.GuestFile) {
	t.Helper()
	g, err := vm.SingleNode("none", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range g.Files {
		rel, ok := strings.CutPrefix(f.Path, kubeadm.PKIDir+"/")
		if !ok || rel == "sa.key" { // stock kubeadm wants it as a pair, and makes one
			continue
		}
		write(t, filepath.Join(dir, rel), f.Data)
		files = append(files, f)
	}
	return files
}

// caHash pins the authority in a directory as kubeadm does.
func caHash(t *testing.T, dir string) string {
	t.Helper()
	cert, err := pki.ParseCert(read(t, filepath.Join(dir, "ca.crt")))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// awaitAgents waits until stock machines take commands.
func (x *mixed) awaitAgents() {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), bootTimeout)
	defer cancel()
	for _, a := range x.agents {
		if err := a.Await(ctx); err != nil {
			x.Fatal(err)
		}
	}
}

// join lets stock machines join at the same moment.
func (x *mixed) join(steps map[string]stock.Join) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), 2*bootTimeout)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	for name, step := range steps {
		all.Go(func() {
			began := time.Now()
			out, err := x.agents[name].Do(ctx, step)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				x.Errorf("kubeadm join: %v", err)
				return
			}
			x.Logf("%s has joined after %s:\n%s", name, time.Since(began).Round(time.Second), out)
		})
	}
	all.Wait()
	if x.Failed() {
		x.Log(x.try("", "get", "nodes,pods", "-A", "-o", "wide"))
		x.FailNow()
	}
}

// votes expects these nodes, and no others, as voting members of etcd.
func (x *mixed) votes(names ...string) {
	x.eventually("every member of etcd votes", 5*time.Minute, func() error {
		members := x.etcdMembers()
		for _, n := range names {
			if m, ok := members[n]; !ok || m.IsLearner {
				return fmt.Errorf("%s is not a voting member: %+v", n, members)
			}
		}
		if len(members) != len(names) {
			return fmt.Errorf("members %+v", members)
		}
		return nil
	})
}

// daemonsReady expects a ready pod of kube-proxy and, where there is one, flannel on every node.
func (x *mixed) daemonsReady(nodes int) {
	x.eventually("kube-proxy and the pod network run everywhere", 10*time.Minute, func() error {
		var list core.PodList
		if err := x.get(&list, "pods", "-A"); err != nil {
			return err
		}
		proxies := 0
		for _, p := range list.Items {
			if p.Namespace == "default" {
				continue
			}
			for _, s := range p.Status.ContainerStatuses {
				if !s.Ready {
					return fmt.Errorf("container %s of pod %s on %s is not ready: %+v", s.Name, p.Name, p.Spec.NodeName, s.State)
				}
			}
			if p.Status.Phase != core.PodRunning {
				return fmt.Errorf("pod %s on %s is %s", p.Name, p.Spec.NodeName, p.Status.Phase)
			}
			if strings.HasPrefix(p.Labels["k8s-app"], kubeadm.Proxy) {
				proxies++
			}
		}
		if proxies != nodes {
			return fmt.Errorf("%d pods of kube-proxy, %d nodes", proxies, nodes)
		}
		return nil
	})
	x.Log(x.kubectl("get", "nodes,pods", "-A", "-o", "wide"))
}

// onStock lets a pod run where there is no base image: any image with links into /usr serves.
func onStock(pod *core.Pod) *core.Pod {
	pod.Spec.Containers[0].Image = "registry.k8s.io/kube-proxy:" + stock.KubernetesVersion
	if pod.Spec.Containers[0].Command[0] == "/pause" {
		pod.Spec.Containers[0].Command = []string{"/usr/bin/sleep", "infinity"}
	}
	return pod
}

// podsReach lets a pod on one of two nodes, the other of which is stock, reach the API by its
// service's name, and the pods of both nodes reach each other.
func (x *mixed) podsReach(ours, other, from string) {
	place := func(pod *core.Pod, on string) *core.Pod {
		pod.Spec.NodeName = on
		if on == other {
			return onStock(pod)
		}
		return pod
	}
	config, pod := client()
	x.apply(config, place(pod, from))
	for _, on := range []string{ours, other} {
		x.apply(place(webPod(on), on), place(askPod(on), on))
	}
	x.eventually("a pod on "+from+" reaches the API by its service", 5*time.Minute, func() error {
		_, err := x.try("", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+clientPod, "--timeout=20s")
		return err
	})
	address := map[string]string{}
	x.eventually("the pods run", 5*time.Minute, func() error {
		for _, on := range []string{ours, other} {
			var p core.Pod
			if err := x.get(&p, "pod", "web-"+on); err != nil {
				return err
			}
			if p.Status.Phase != core.PodRunning || p.Status.PodIP == "" {
				return fmt.Errorf("pod %s is %s", p.Name, p.Status.Phase)
			}
			address[on] = p.Status.PodIP
		}
		return nil
	})
	for _, pair := range [][2]string{{ours, other}, {other, ours}} {
		x.asks(pair[0], fmt.Sprintf("http://%s:%d", address[pair[1]], webPort), func(answer string) bool { return answer == "web-"+pair[1]+"\n" })
	}
}

// stockHost puts a stock machine on the segment.
func stockHost(s stock.Machine, ignition string, role node.Role) vm.FleetHost {
	return vm.FleetHost{Name: s.Name, Role: role, MAC: interopMAC(s.Address), Address: s.Address, DHCP: s.Network == nil, Ignition: ignition}
}
