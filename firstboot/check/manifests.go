// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests/verity"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var manifestChecks = []Check{
	{ID: "D11", Title: "static pods and their flags", run: checkFlags},
	{ID: "D12", Title: "etcd's initial cluster and the pods' annotations", run: checkEtcdCluster},
	{ID: "D13", Title: "probes and their ports", run: checkProbes},
	{ID: "D14", Title: "what else a static pod says", run: checkPods},
}

var staticPods = []string{kubeadm.Etcd, kubeadm.APIServer, kubeadm.ControllerManager, kubeadm.Scheduler}

// pod reads a manifest that has exactly one container.
func (e *Env) pod(name string) (*corev1.Pod, error) {
	path := kubeadm.ManifestsDir + "/" + name + ".yaml"
	text, err := os.ReadFile(e.path(path))
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(pod.Spec.Containers) != 1 {
		return nil, fmt.Errorf("%s: %d containers, want 1", path, len(pod.Spec.Containers))
	}
	return pod, nil
}

// flags splits a container's command into program and flags.
func flags(c corev1.Container) (program string, out map[string]string) {
	out = map[string]string{}
	for i, a := range c.Command {
		if i == 0 {
			program = a
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		out[name] = value
	}
	return program, out
}

func checkFlags(_ context.Context, e *Env) error {
	var p problems
	found, err := filepath.Glob(e.path(kubeadm.ManifestsDir + "/*"))
	p.add(err)
	for _, f := range found {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		if name != "kube-vip" && !slices.Contains(staticPods, name) {
			p.addf("%s/%s should not be there", kubeadm.ManifestsDir, filepath.Base(f))
		}
	}
	want := e.wantFlags()
	for _, name := range staticPods {
		pod, err := e.pod(name)
		if p.add(err); err != nil {
			continue
		}
		program, got := flags(pod.Spec.Containers[0])
		equal(&p, name+" program", program, name)
		for _, f := range slices.Sorted(maps.Keys(want[name])) {
			if v, ok := got[f]; !ok || v != want[name][f] {
				p.addf("%s: --%s is %q, want %q", name, f, v, want[name][f])
			}
		}
		for _, f := range slices.Sorted(maps.Keys(got)) {
			if _, ok := want[name][f]; !ok && !strings.HasPrefix(f, "initial-cluster") {
				p.addf("%s: --%s=%s should not be there", name, f, got[f])
			}
		}
	}
	return p.err()
}

func checkEtcdCluster(_ context.Context, e *Env) error {
	var p problems
	pod, err := e.pod(kubeadm.Etcd)
	if err != nil {
		return err
	}
	_, f := flags(pod.Spec.Containers[0])
	self := e.Config.NodeName + "=" + kubeadm.URL("https", e.Config.Address.String(), 2380)
	members := strings.Split(f["initial-cluster"], ",")
	if !slices.Contains(members, self) {
		p.addf("etcd: --initial-cluster=%s does not name this member, %s", f["initial-cluster"], self)
	}
	if e.Config.EtcdExisting {
		equal(&p, "etcd --initial-cluster-state", f["initial-cluster-state"], "existing")
		if len(members) < 2 {
			p.addf("etcd: a member that joined names no other member")
		}
	} else {
		equal(&p, "etcd members", len(members), max(1, len(e.Config.EtcdMembers)))
		if s, ok := f["initial-cluster-state"]; ok && s != "new" {
			p.addf("etcd: --initial-cluster-state=%s on a member that started the cluster", s)
		}
	}
	equal(&p, "etcd annotations", pod.Annotations, map[string]string{
		"kubeadm.kubernetes.io/etcd.advertise-client-urls": kubeadm.URL("https", e.Config.Address.String(), 2379)})
	if pod, err = e.pod(kubeadm.APIServer); err != nil {
		p.add(err)
		return p.err()
	}
	equal(&p, "kube-apiserver annotations", pod.Annotations, map[string]string{
		"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": e.Config.LocalEndpoint()})
	return p.err()
}

func checkProbes(_ context.Context, e *Env) error {
	var p problems
	describe := func(x *corev1.Probe) string {
		if x == nil || x.HTTPGet == nil {
			return "none"
		}
		return fmt.Sprint(x.HTTPGet.Scheme, " ", x.HTTPGet.Host, x.HTTPGet.Path, " ", x.HTTPGet.Port.String(), " ",
			x.InitialDelaySeconds, " ", x.TimeoutSeconds, " ", x.FailureThreshold, " ", x.PeriodSeconds)
	}
	ip, lo := e.Config.Address.String(), e.Config.Loopback()
	startup := (e.Config.ControlPlaneComponentHealthCheck.Seconds() + 9.999) / 10
	for _, w := range []struct {
		name, scheme, host, live, ready, start string
		port                                   int32
	}{
		{kubeadm.APIServer, "HTTPS", ip, "/livez", "/readyz", "/livez", e.Config.APIPort},
		{kubeadm.ControllerManager, "HTTPS", lo, "/healthz", "", "/healthz", 10257},
		{kubeadm.Scheduler, "HTTPS", lo, "/livez", "/readyz", "/livez", 10259},
		{kubeadm.Etcd, "HTTP", lo, "/livez", "/readyz", "/readyz", 2381},
	} {
		pod, err := e.pod(w.name)
		if p.add(err); err != nil {
			continue
		}
		c := pod.Spec.Containers[0]
		want := func(path string, numbers string) string {
			if path == "" {
				return "none"
			}
			return w.scheme + " " + w.host + path + " probe-port " + numbers
		}
		equal(&p, w.name+" liveness probe", describe(c.LivenessProbe), want(w.live, "10 15 8 10"))
		equal(&p, w.name+" readiness probe", describe(c.ReadinessProbe), want(w.ready, fmt.Sprintf("0 15 3 %d", int(e.Config.ReadinessProbePeriod.Seconds()))))
		equal(&p, w.name+" startup probe", describe(c.StartupProbe), want(w.start, fmt.Sprintf("10 15 %d 10", int(startup))))
		equal(&p, w.name+" ports", c.Ports, []corev1.ContainerPort{{Name: "probe-port", ContainerPort: w.port, Protocol: "TCP"}})
	}
	return p.err()
}

// image is the image reference and pull policy that a component should have.
func (e *Env) image(check, component string) (ref, policy string) {
	ref, policy = e.Config.Image(component), "IfNotPresent"
	if e.exempt(check, component, "image") {
		ref = verity.Ref(component, e.Config.KubernetesVersion)
	}
	if e.exempt(check, component, "imagePullPolicy") {
		policy = "Never"
	}
	return ref, policy
}

// volumes describes hostPath volumes as "name path type", sorted.
func volumes(spec corev1.PodSpec) []string {
	var out []string
	for _, v := range spec.Volumes {
		if h := v.HostPath; h != nil {
			kind := ""
			if h.Type != nil {
				kind = string(*h.Type)
			}
			out = append(out, strings.TrimSpace(v.Name+" "+h.Path+" "+kind))
		}
	}
	slices.Sort(out)
	return out
}

const hostUsr = "host-usr /usr Directory"

func checkPods(_ context.Context, e *Env) error {
	var p problems
	const certs, keys = "ca-certs /etc/ssl/certs DirectoryOrCreate", "k8s-certs /etc/kubernetes/pki DirectoryOrCreate"
	for _, w := range []struct {
		name, cpu, memory string
		volumes           []string
	}{
		{kubeadm.Etcd, e.Config.EtcdCPU, "100Mi", []string{"etcd-certs /etc/kubernetes/pki/etcd DirectoryOrCreate", "etcd-data /var/lib/etcd DirectoryOrCreate"}},
		{kubeadm.APIServer, "250m", "0", []string{certs, keys}},
		{kubeadm.ControllerManager, "200m", "0", []string{certs, keys, "kubeconfig /etc/kubernetes/controller-manager.conf FileOrCreate"}},
		{kubeadm.Scheduler, "100m", "0", []string{"kubeconfig /etc/kubernetes/scheduler.conf FileOrCreate"}},
	} {
		pod, err := e.pod(w.name)
		if p.add(err); err != nil {
			continue
		}
		cpu, err := resource.ParseQuantity(w.cpu)
		if p.add(err); err != nil {
			continue
		}
		s, c := pod.Spec, pod.Spec.Containers[0]
		equal(&p, w.name+" labels", pod.Labels, map[string]string{"component": w.name, "tier": "control-plane"})
		equal(&p, w.name+" name", pod.Namespace+"/"+pod.Name, "kube-system/"+w.name)
		equal(&p, w.name+" uses the host's network", s.HostNetwork, true)
		equal(&p, w.name+" priority class", s.PriorityClassName, "system-node-critical")
		if s.Priority == nil || *s.Priority != 2000001000 {
			p.addf("%s has another priority than 2000001000", w.name)
		}
		if s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil || s.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
			p.addf("%s does not use the runtime's seccomp profile", w.name)
		}
		equal(&p, w.name+" CPU request", c.Resources.Requests.Cpu().String(), cpu.String())
		equal(&p, w.name+" memory request", c.Resources.Requests.Memory().String(), w.memory)
		ref, policy := e.image("D14", w.name)
		equal(&p, w.name+" image", c.Image, ref)
		equal(&p, w.name+" pull policy", string(c.ImagePullPolicy), policy)
		want := w.volumes
		for _, dir := range e.Config.ExtraCADirs {
			if w.name != kubeadm.APIServer && w.name != kubeadm.ControllerManager ||
				e.Config.Delivery.For(w.name) == node.DeliveryVerity && strings.HasPrefix(dir, "/usr/") {
				continue
			}
			want = append(want, strings.ReplaceAll(dir[1:], "/", "-")+" "+dir+" DirectoryOrCreate")
		}
		if e.exempt("D14", w.name, "volume host-usr") {
			want = append(want, hostUsr)
			for _, m := range c.VolumeMounts {
				if m.MountPath == "/usr" && !m.ReadOnly {
					p.addf("%s mounts the host's /usr writable", w.name)
				}
			}
		}
		slices.Sort(want)
		equal(&p, w.name+" volumes", volumes(s), want)
	}
	return p.err()
}
