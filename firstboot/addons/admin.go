// SPDX-License-Identifier: Apache-2.0

package addons

import (
	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The ConfigMap in namespace kube-public in which an administrator whose key is not in the
// cluster finds the certificate for it, and the entry that holds it, in PEM.
const (
	AdminConfigMap   = "imgbuild-admin"
	AdminCertificate = "tls.crt"
)

// AdminAccess publishes the administrator's certificate. Whoever has its key can use it, and
// nobody else; like cluster-info it is read by somebody who has no other credentials yet. The
// certificate comes last: where it is, the rest is.
func AdminAccess(certPEM []byte) []runtime.Object {
	return append(readOne(v1.NamespacePublic, "imgbuild:admin-certificate", "configmaps", AdminConfigMap, user("system:anonymous")),
		AdminCertificateMap(map[string]string{AdminCertificate: string(certPEM)}))
}

// AdminCertificateMap is the ConfigMap with this content.
func AdminCertificateMap(data map[string]string) *corev1.ConfigMap {
	return configMap(v1.NamespacePublic, AdminConfigMap, data, false)
}
