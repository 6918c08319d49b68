// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
)

const (
	probePod  = "probe"
	clientPod = "client"
)

// hostPod runs a command in the node's base image with the host's /usr, anywhere.
func hostPod(name string, command ...string) *core.Pod {
	directory := core.HostPathDirectory
	return &core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "default"},
		Spec: core.PodSpec{
			RestartPolicy: core.RestartPolicyNever,
			Tolerations:   []core.Toleration{{Operator: core.TolerationOpExists}},
			Volumes:       []core.Volume{{Name: "usr", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: "/usr", Type: &directory}}}},
			Containers: []core.Container{{
				Name: "main", Image: baseimage.Ref, ImagePullPolicy: core.PullNever, Command: command,
				VolumeMounts: []core.VolumeMount{{Name: "usr", MountPath: "/usr", ReadOnly: true}},
			}},
		},
	}
}

// inClusterConfig reaches the API by the name that only CoreDNS knows.
const inClusterConfig = `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: "https://kubernetes.default.svc", certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}
users:
- name: u
  user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}
contexts:
- name: x
  context: {cluster: c, user: u}
current-context: x
`

// client is a pod of the pod network that asks the API for its version.
func client() (*core.ConfigMap, *core.Pod) {
	config := &core.ConfigMap{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta.ObjectMeta{Name: clientPod, Namespace: "default"}, Data: map[string]string{"config": inClusterConfig}}
	pod := hostPod(clientPod, "/usr/bin/kubectl", "--kubeconfig=/config/config", "get", "--raw", "/version")
	pod.Spec.RestartPolicy = core.RestartPolicyOnFailure
	pod.Spec.Volumes = append(pod.Spec.Volumes, core.Volume{Name: "config",
		VolumeSource: core.VolumeSource{ConfigMap: &core.ConfigMapVolumeSource{LocalObjectReference: core.LocalObjectReference{Name: clientPod}}}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: "config", MountPath: "/config", ReadOnly: true})
	return config, pod
}

// allPodsReady waits until kubectl get pods -A shows every pod Running and ready.
func (v *view) allPodsReady(names ...string) {
	v.Helper()
	var list core.PodList
	v.eventually("all pods Running and ready", 15*time.Minute, func() error {
		list = core.PodList{}
		if err := v.get(&list, "pods", "-A"); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, p := range list.Items {
			if p.Status.Phase == core.PodSucceeded && p.Namespace == "default" {
				continue // a test's own, done
			}
			seen[p.Labels["component"]] = true
			seen[p.Labels["k8s-app"]] = true
			seen[p.Labels["app"]] = true
			if p.Status.Phase != core.PodRunning {
				return fmt.Errorf("pod %s/%s is %s", p.Namespace, p.Name, p.Status.Phase)
			}
			for _, c := range p.Status.Conditions {
				if (c.Type == core.PodReady || c.Type == core.ContainersReady) && c.Status != core.ConditionTrue {
					return fmt.Errorf("pod %s/%s: %s is %s: %s", p.Namespace, p.Name, c.Type, c.Status, c.Message)
				}
			}
		}
		for _, n := range names {
			if !seen[n] {
				return fmt.Errorf("there is no pod of %s", n)
			}
		}
		return nil
	})
	v.Log(v.kubectl("get", "pods", "-A", "-o", "wide"))
	v.whyRestarted(list.Items)
}

// whyRestarted logs why containers had to start again.
func (v *view) whyRestarted(pods []core.Pod) {
	v.Helper()
	for _, p := range pods {
		for _, c := range p.Status.ContainerStatuses {
			if ended := c.LastTerminationState.Terminated; ended != nil {
				// Where the runtime has removed the container there is no log any more.
				last, _ := v.try("", "logs", "-n", p.Namespace, p.Name, "-c", c.Name, "--previous", "--tail=20")
				v.Logf("%s of pod %s/%s ended at %s with code %d, reason %q: %s\n%s",
					c.Name, p.Namespace, p.Name, ended.FinishedAt.Format(time.TimeOnly), ended.ExitCode, ended.Reason, ended.Message, last)
			}
		}
	}
}

// startProbe lets the guest be looked at from inside.
func (g *guest) startProbe(t *testing.T) {
	t.Helper()
	v := g.in(t)
	v.enter("")
}
