// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// inside looks at one node through the probe in a pod.
type inside struct {
	view
	pod string
}

// probing is the pod whose exec runs the probe.
func probing() *core.Pod {
	privileged, directory := true, core.HostPathDirectory
	pod := hostPod(probePod, "/pause")
	pod.Spec.RestartPolicy = core.RestartPolicyAlways
	pod.Spec.HostPID, pod.Spec.HostNetwork = true, true
	pod.Spec.Volumes = append(pod.Spec.Volumes, core.Volume{Name: "test", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: probeDir, Type: &directory}}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: "test", MountPath: "/test", ReadOnly: true})
	c.SecurityContext = &core.SecurityContext{Privileged: &privileged}
	return pod
}

// enter starts the probe on a node, or with an empty name on any; its machine needs the probe's
// disk and mount.
func (v *view) enter(nodeName string) *inside {
	v.Helper()
	pod := probing()
	if nodeName != "" {
		pod.Name, pod.Spec.NodeName = probePod+"-"+nodeName, nodeName
	}
	v.apply(pod)
	v.kubectl("wait", "--for=condition=Ready", "pod/"+pod.Name, "--timeout=300s")
	return &inside{view: *v, pod: pod.Name}
}

// probeCommand runs the probe in its pod.
func (in *inside) probeCommand(args ...string) (string, error) {
	return in.try("", append([]string{"exec", in.pod, "--", "/test/probe"}, args...)...)
}

// read is the probe's output, which there must be.
func (in *inside) read(args ...string) string {
	in.Helper()
	out, err := in.probeCommand(args...)
	if err != nil {
		in.Fatal(err)
	}
	return out
}

func (in *inside) probeJSON(into any, args ...string) {
	in.Helper()
	out, err := in.probeCommand(args...)
	if err == nil {
		err = json.Unmarshal([]byte(out), into)
	}
	if err != nil {
		in.Fatalf("probe %s: %v", strconv.Quote(strings.Join(args, " ")), err)
	}
}

// checks runs the node's own comparison with what kubeadm leaves behind. Workers have no
// administrator's kubeconfig, so nothing of theirs that needs the API is checked.
func (in *inside) checks(role node.Role) {
	in.Helper()
	out, err := in.probeCommand("exec", "/usr/bin/firstboot", "check", "--json")
	if err != nil {
		in.Errorf("firstboot check: %v", err)
	}
	var results []check.Result
	if i := strings.Index(out, "["); i < 0 || json.Unmarshal([]byte(out[i:]), &results) != nil {
		in.Fatalf("firstboot check --json prints %q", out)
	}
	applies := map[string]bool{}
	for _, c := range check.All() {
		applies[c.ID] = role == node.ControlPlane || c.Worker && !c.NeedsAPI
	}
	passed := 0
	for _, r := range results {
		switch {
		case r.Status == check.Pass:
			passed++
		case applies[r.ID] || r.Status != check.Skip:
			in.Errorf("%s %s: %s %v %s", r.ID, r.Title, r.Status, r.Problems, r.Reason)
		}
		delete(applies, r.ID)
	}
	in.Logf("%d of %d checks passed", passed, len(results))
	if passed == 0 || len(applies) > 0 {
		in.Errorf("%d checks passed, there is no result of %v:\n%s", passed, applies, out)
	}
}

// statusFile reads what first boot left for machines.
func (in *inside) statusFile(want status.State) {
	in.Helper()
	var s status.Status
	in.probeJSON(&s, "cat", status.Path)
	if s.State != want || s.Error != "" || s.Node == "" {
		in.Errorf("status: %+v", s)
	}
}
