// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
)

// bootstrapToken lets machines join. The tokens and cluster-info come last: they are what a
// waiting machine sees first, and it then needs everything else at once.
func bootstrapToken(c *kubeadm.Config, i Inputs) ([]Object, error) {
	boot := group(kubeadm.BootstrapGroup)
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	objs := in(BootstrapToken,
		clusterRole("kubeadm:get-nodes", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}),
		clusterBinding("kubeadm:get-nodes", "kubeadm:get-nodes", boot),
		clusterBinding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", boot),
		clusterBinding("kubeadm:node-autoapprove-bootstrap", csr+"nodeclient", boot),
		clusterBinding("kubeadm:node-autoapprove-certificate-rotation", csr+"selfnodeclient", group(kubeadm.NodesGroup)),
		clusterBinding("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", user("kube-apiserver-kubelet-client")))
	objs = append(objs, in(BootstrapToken,
		readOne(v1.NamespacePublic, "kubeadm:bootstrap-signer-clusterinfo", "configmaps", "cluster-info", user("system:anonymous"))...)...)
	for _, t := range c.Tokens {
		objs = append(objs, Object{Phase: BootstrapToken, Policy: Replace, Barrier: true, Obj: TokenSecret(t, true)})
	}
	info, err := kubeconfig.Discovery(c, i.CAPEM)
	if err != nil {
		return nil, encodeError("cluster-info", err)
	}
	data := map[string]string{bootstrap.KubeConfigKey: string(info)}
	// The controller manager keeps the signatures from here on. With the first ones from us a
	// machine that waits need not wait for its start.
	for _, t := range c.Tokens {
		if data[bootstrap.JWSSignatureKeyPrefix+t.ID], err = jws.ComputeDetachedSignature(string(info), t.ID, t.Secret.Reveal()); err != nil {
			return nil, fmt.Errorf("cluster-info cannot be signed with token %s", t.ID) // the cause could quote the secret
		}
	}
	return append(objs, Object{Phase: BootstrapToken, Policy: Keep, Barrier: true, Obj: configMap(v1.NamespacePublic, "cluster-info", data, false)}), nil
}

// TokenSecret is a bootstrap token as the API server's token authenticator reads it. Without
// usages it authenticates nobody; kubeadm uses such a token to expire kubeadm-certs.
func TokenSecret(t kubeadm.Token, usages bool) *corev1.Secret {
	data := map[string][]byte{
		"token-id":     []byte(t.ID),
		"token-secret": []byte(t.Secret.Reveal()),
	}
	if t.Description != "" {
		data["description"] = []byte(t.Description)
	}
	if !t.Expiration.IsZero() {
		data["expiration"] = []byte(t.Expiration.UTC().Format(time.RFC3339))
	}
	if usages {
		data["usage-bootstrap-authentication"] = []byte("true")
		data["usage-bootstrap-signing"] = []byte("true")
		data["auth-extra-groups"] = []byte(kubeadm.BootstrapGroup)
	}
	return secret("bootstrap-token-"+t.ID, "bootstrap.kubernetes.io/token", data)
}

func secret(name string, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{TypeMeta: v1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta(v1.NamespaceSystem, name), Type: kind, Data: data}
}

// CertUpload hands the shared authorities to control planes that join, encrypted.
type CertUpload struct {
	// Proxy is the token whose expiry takes the certificates with it.
	Proxy kubeadm.Token
	// Sealed maps the secret's keys ("etcd-ca.key") to nonce, ciphertext and tag.
	Sealed map[string][]byte
}

// ProxyDescription is the description kubeadm gives to the token behind kubeadm-certs.
const ProxyDescription = "Proxy for managing TTL for the kubeadm-certs secret"

func uploadCerts(_ *kubeadm.Config, i Inputs) ([]Object, error) {
	if i.Certs == nil {
		return nil, nil
	}
	token := TokenSecret(i.Certs.Proxy, false)
	yes := true
	certs := secret("kubeadm-certs", "", i.Certs.Sealed)
	certs.OwnerReferences = []v1.OwnerReference{{
		APIVersion: "v1", Kind: "Secret", Name: token.Name, Controller: &yes, BlockOwnerDeletion: &yes,
	}}
	objs := append(in(UploadCerts, token),
		Object{Phase: UploadCerts, Policy: Replace, Obj: certs, After: []string{Key(token)}})
	return append(objs, in(UploadCerts, readOne(v1.NamespaceSystem, "kubeadm:kubeadm-certs", "secrets", "kubeadm-certs", group(kubeadm.BootstrapGroup))...)...), nil
}

// SetOwner fills in the identity that the API server gave to the token which owns
// kubeadm-certs; it is known only after the token was written.
func SetOwner(certs runtime.Object, uid string) error {
	s, ok := certs.(*corev1.Secret)
	if !ok || len(s.OwnerReferences) != 1 {
		return fmt.Errorf("object %s has no single owner to identify", Key(certs))
	}
	s.OwnerReferences[0].UID = types.UID(uid)
	return nil
}
