// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var kubeletChecks = []Check{
	{ID: "D15", Title: "the kubelet's configuration", Worker: true, run: checkKubeletConfig},
	{ID: "D16", Title: "the kubelet's instance configuration and flags", Worker: true, run: checkKubeletFlags},
}

func (e *Env) yamlFile(path string) (map[string]any, error) {
	text, err := os.ReadFile(e.path(path))
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := yaml.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// at follows a dotted path through nested maps.
func at(m map[string]any, path string) any {
	var v any = m
	for _, k := range strings.Split(path, ".") {
		inner, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = inner[k]
	}
	return v
}

func checkKubeletConfig(_ context.Context, e *Env) error {
	var p problems
	cfg, err := e.yamlFile(kubeadm.KubeletDir + "/config.yaml")
	if err != nil {
		return err
	}
	for _, w := range []struct {
		path string
		want any
	}{
		{"apiVersion", "kubelet.config.k8s.io/v1beta1"},
		{"authentication.anonymous.enabled", false},
		{"authentication.webhook.enabled", true},
		{"authentication.x509.clientCAFile", "/etc/kubernetes/pki/ca.crt"},
		{"authorization.mode", "Webhook"},
		{"cgroupDriver", "systemd"},
		{"clusterDNS", []any{e.Config.ServiceIP(10).String()}},
		{"clusterDomain", e.Config.DNSDomain},
		{"containerRuntimeEndpoint", "unix:///run/containerd/containerd.sock"},
		{"healthzBindAddress", e.Config.Loopback()},
		{"healthzPort", 10248},
		{"rotateCertificates", true},
		{"staticPodPath", "/etc/kubernetes/manifests"},
	} {
		equal(&p, "config.yaml "+w.path, at(cfg, w.path), w.want)
	}
	return p.err()
}

var flagsEnv = regexp.MustCompile(`^KUBELET_KUBEADM_ARGS="[^"\n]*"\n$`)

func checkKubeletFlags(_ context.Context, e *Env) error {
	var p problems
	instance, err := e.yamlFile(kubeadm.KubeletDir + "/instance-config.yaml")
	if p.add(err); err == nil {
		equal(&p, "instance-config.yaml", instance, map[string]any{"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock"})
	}
	env, err := os.ReadFile(e.path(kubeadm.KubeletDir + "/kubeadm-flags.env"))
	if p.add(err); err == nil {
		if !flagsEnv.Match(env) {
			p.addf("kubeadm-flags.env is not one line KUBELET_KUBEADM_ARGS=\"...\"")
		}
		if e.Config.Role == node.ControlPlane && strings.Contains(string(env), "register-with-taints") {
			p.addf("kubeadm-flags.env registers taints on a control plane")
		}
	}
	return p.err()
}
