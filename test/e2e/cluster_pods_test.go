// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const webPort = 8001

// talking is on everything podsTalk makes.
var talking = map[string]string{"test": "talk"}

// webPod serves its own /etc/hostname, which is the pod's name. kubectl's proxy does that
// without ever asking the API server it is for.
func webPod(nodeName string) *core.Pod {
	pod := hostPod("web-"+nodeName, "/usr/bin/kubectl", "proxy", "--server=http://127.0.0.1:1", "--address=0.0.0.0",
		fmt.Sprintf("--port=%d", webPort), "--accept-hosts=.*", "--www=/etc", "--www-prefix=/static/")
	pod.Labels = map[string]string{"app": "web", "test": "talk"}
	pod.Spec.NodeName = nodeName
	return pod
}

// askPod is where requests are made from.
func askPod(nodeName string) *core.Pod {
	pod := hostPod("ask-"+nodeName, "/pause")
	pod.Labels = talking
	pod.Spec.NodeName = nodeName
	return pod
}

// podsTalk lets a pod on every node ask a pod on the next node, by its address, and the pods of
// all through a service that only CoreDNS knows by name.
func (h *haCluster) podsTalk() {
	h.apply(&core.Service{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta.ObjectMeta{Name: "web", Namespace: "default", Labels: talking},
		Spec: core.ServiceSpec{Selector: map[string]string{"app": "web"},
			Ports: []core.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(webPort)}}}})
	for _, host := range h.index.Hosts {
		h.apply(webPod(host.Name), askPod(host.Name))
	}
	address := map[string]string{}
	h.eventually("the pods run", 15*time.Minute, func() error {
		var list core.PodList
		if err := h.get(&list, "pods", "--selector=test=talk"); err != nil {
			return err
		}
		for _, p := range list.Items {
			if p.Status.Phase != core.PodRunning || p.Status.PodIP == "" {
				return fmt.Errorf("pod %s is %s", p.Name, p.Status.Phase)
			}
			address[p.Name] = p.Status.PodIP
		}
		return nil
	})
	for i, from := range h.index.Hosts {
		to := h.index.Hosts[(i+1)%len(h.index.Hosts)]
		h.asks(from.Name, fmt.Sprintf("http://%s:%d", address["web-"+to.Name], webPort), func(answer string) bool { return answer == "web-"+to.Name+"\n" })
		h.asks(from.Name, "http://web.default.svc.cluster.local", func(answer string) bool { return len(answer) > 5 && answer[:4] == "web-" })
	}
	h.kubectl("delete", "pod,service", "--selector=test=talk", "--now", "--wait=false")
}

// asks fetches the host name behind a URL from a pod on a node.
func (h *haCluster) asks(from, url string, good func(string) bool) {
	h.Helper()
	h.eventually(from+" asks "+url, 10*time.Minute, func() error {
		out, err := h.try("", "exec", "ask-"+from, "--", "/usr/bin/kubectl", "--server="+url, "get", "--raw", "/static/hostname")
		if err == nil && !good(out) {
			err = fmt.Errorf("the answer is %q", out)
		}
		return err
	})
}
