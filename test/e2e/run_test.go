// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/test/emulated"
)

// The parts of the starter that TestRun writes in another way.
var otherWays = []string{
	"  mode: vip  ", "  mode: local",
	"  port: 6443\n", "  port: 7443\n",
	"  provider: keepalived              # keepalived, kube-vip, external or none\n  address: 192.168.100.10\n  advertInterval: 1s\n  healthTimeout: 30s\n", "  provider: none\n",
	"pki:\n  mode: shared", "pki:\n  mode: generate",
	"proxyMode: nftables", "proxyMode: iptables",
	"    match: {mac: \"52:54:00:64:00:65\"}\n", `    match: {mac: "52:54:00:64:00:65"}
    network: {bond: {mode: active-backup, members: ["52:54:00:64:00:65"]}, vlan: 7}
`,
}

// TestRun goes the way that users go, with the command itself, through a cluster that has little
// in common with the starter's: its authorities stay where they were made, every host balances
// over the API servers, one finds out from its hardware which it is, one sends tagged frames over a
// bond, and a control plane came into the file when the others had been rendered.
func TestRun(t *testing.T) {
	e := needLong(t)
	e.needRoom(t, 3, pairMemoryMiB)
	r := e.render(t, rendering{controlPlanes: 1, workers: 1, instead: otherWays})
	r.addControlPlane(t, e)
	u := e.run(t, r)

	h := &haCluster{clusterRun: &clusterRun{view: view{T: t, env: e, kubeconfig: u.result.Kubeconfig}}, index: r.index}
	if len(u.result.Hosts) != 3 || u.result.Ready <= 0 || u.result.Kubeconfig != filepath.Join(r.dir, cluster.KubeconfigFile) {
		t.Errorf("the result is %+v", u.result)
	}
	t.Logf("all Ready in %s\n%s", u.result.Ready.D().Round(10*time.Millisecond), u.result.Timeline.Table())
	h.eventually("every node is Ready", 10*time.Minute, func() error { return h.ready(3) })
	h.eventually("both control planes have a vote", 10*time.Minute, func() error { return h.voters("demo-cp-1", "demo-cp-2") })
	h.allPodsReady(components...)
	for _, name := range []string{"kubeadm-config", "kube-proxy"} {
		if text := h.kubectl("get", "configmap", "-n", "kube-system", name, "-o", "yaml"); !strings.Contains(text, ":7443") {
			t.Errorf("%s does not name the endpoint of mode local:\n%s", name, text)
		}
	}
	for _, host := range r.index.Hosts {
		h.proxyMode(host.Name, "iptables")
	}
	h.podsTalk()
	u.interrupt(t)
}

// addControlPlane renders again with one more control plane, and keeps the configs of before for
// the hosts that were there. That of the control plane is the one for its role.
func (r *rendered) addControlPlane(t *testing.T, e env) {
	t.Helper()
	in := func(name string) string { return filepath.Join(r.dir, name) }
	file := in("cluster.yaml")
	before := map[string][]byte{"hosts/demo-cp-1.ign": read(t, in("roles/control-plane.ign")), "hosts/demo-w-1.ign": read(t, in("hosts/demo-w-1.ign"))}
	text, err := emulated.Instead(string(read(t, file)), "  - name: demo-w-1\n",
		"  - name: demo-cp-2\n    role: control-plane\n    address: 192.168.100.12\n    match: {mac: \"52:54:00:64:00:0c\"}\n  - name: demo-w-1\n")
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, []byte(text))
	if _, err := e.output("cluster", "render", file, "-o", r.dir); err != nil {
		t.Fatal(err)
	}
	for name, config := range before {
		if bytes.Equal(read(t, in(name)), config) {
			t.Errorf("%s is what it was before the control plane came", name)
		}
		write(t, in(name), config)
	}
	if r.index, err = cluster.ReadIndex(r.dir); err != nil {
		t.Fatal(err)
	}
}

// userRun is imgbuild run --cluster after it said that all is Ready.
type userRun struct {
	cmd     *exec.Cmd
	ended   chan error
	result  vm.FleetResult
	written []string
}

// run boots a rendered cluster with the command, and returns when it prints its result.
func (e env) run(t *testing.T, r *rendered) *userRun {
	t.Helper()
	u := &userRun{ended: make(chan error, 1)}
	timeline, capture := filepath.Join(r.dir, "boot.svg"), filepath.Join(r.dir, "frames.pcap")
	u.written = []string{timeline, capture}
	args := []string{"run", "--cluster", r.dir, "--json", "--memory", fmt.Sprint(pairMemoryMiB), "--disk-size", "8GiB", "--timeout", (2 * bootTimeout).String(),
		"--timeline", timeline, "--capture", capture}
	if accel := os.Getenv("IMGBUILD_E2E_ACCEL"); accel != "" {
		args = append(args, "--accel", accel)
	}
	u.cmd = exec.CommandContext(t.Context(), e.imgbuild, args...)
	u.cmd.Dir, u.cmd.Stderr = e.root, t.Output()
	u.cmd.Cancel = func() error { return u.cmd.Process.Signal(os.Interrupt) }
	u.cmd.WaitDelay = time.Minute
	out, err := u.cmd.StdoutPipe()
	if err == nil {
		err = u.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	go func() {
		said <- json.NewDecoder(out).Decode(&u.result)
		u.ended <- u.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = u.cmd.Process.Signal(os.Interrupt) // it may have ended
		<-u.ended
	})
	if err := <-said; err != nil {
		t.Fatalf("%s: %v", u.cmd, err)
	}
	return u
}

// interrupt ends the run as a user does.
func (u *userRun) interrupt(t *testing.T) {
	t.Helper()
	if err := u.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-u.ended:
		u.ended <- err
		if err != nil {
			t.Errorf("%s: %v", u.cmd, err)
		}
	case <-ctx.Done():
		t.Fatal("an interrupt does not end the run")
	}
	for _, h := range u.result.Hosts {
		if err := syscall.Kill(h.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s, process %d, goes on: %v", h.Name, h.PID, err)
		}
	}
	for _, file := range u.written {
		if st, err := os.Stat(file); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v, %v", file, st, err)
		}
	}
	if text, err := os.ReadFile(u.result.Kubeconfig); err != nil || bytes.Contains(text, []byte("proxy-url")) {
		t.Errorf("%s still leads through the proxy, %v", u.result.Kubeconfig, err)
	}
}

// votes expects etcd to have these members, all with a vote.
func (h *haCluster) voters(names ...string) error {
	out, err := h.try("", "exec", "-n", "kube-system", "etcd-"+names[0], "--", "etcdctl", "--endpoints=https://127.0.0.1:2379",
		"--cacert=/etc/kubernetes/pki/etcd/ca.crt", "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
		"--key=/etc/kubernetes/pki/etcd/healthcheck-client.key", "member", "list", "-w", "json")
	if err != nil {
		return err
	}
	var list struct {
		Members []struct {
			Name      string
			IsLearner bool
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return err
	}
	vote := map[string]bool{}
	for _, m := range list.Members {
		vote[m.Name] = !m.IsLearner
	}
	for _, name := range names {
		if !vote[name] || len(list.Members) != len(names) {
			return fmt.Errorf("etcd has %s", out)
		}
	}
	return nil
}

// proxyMode expects what kube-proxy on a node says of itself.
func (h *haCluster) proxyMode(nodeName, want string) {
	h.Helper()
	pod := hostPod("mode-"+nodeName, "/pause")
	pod.Spec.NodeName, pod.Spec.HostNetwork = nodeName, true
	h.apply(pod)
	h.kubectl("wait", "--for=condition=Ready", "pod/"+pod.Name, "--timeout=300s")
	got := h.kubectl("exec", pod.Name, "--", "/usr/bin/kubectl", "--server=http://127.0.0.1:10249", "get", "--raw", "/proxyMode")
	if got != want {
		h.Errorf("kube-proxy on %s is in mode %q, not %s", nodeName, got, want)
	}
	h.kubectl("delete", "pod", pod.Name, "--now", "--wait=false")
}
