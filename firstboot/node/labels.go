// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"strings"
)

// kubeletLabels are the labels of Kubernetes' own namespaces that a kubelet may give its node,
// kubeletDomains the namespaces in which it may use any name. The kubelet refuses to start
// with others, and the API server's NodeRestriction plugin refuses them too.
var (
	kubeletLabels = []string{
		"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
		"node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
		"topology.kubernetes.io/zone", "topology.kubernetes.io/region",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
	}
	kubeletDomains = []string{"kubelet.kubernetes.io", "node.kubernetes.io"}
)

// KubeletMaySet says whether a kubelet may set a label on its own node. The others only an
// administrator may set.
func KubeletMaySet(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok || !within(domain, "kubernetes.io", "k8s.io") {
		return true
	}
	return slices.Contains(kubeletLabels, key) || within(domain, kubeletDomains...)
}

// within says whether domain is one of several, or below one.
func within(domain string, of ...string) bool {
	return slices.ContainsFunc(of, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
}
