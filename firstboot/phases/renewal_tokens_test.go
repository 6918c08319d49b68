// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
)

var secretObjects = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// systemSecret reads a secret of kube-system.
func systemSecret(t *testing.T, s *State, name string) *corev1.Secret {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	got := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}}
	if err := c.Get(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	return got
}

// ageToken puts the token past half of its life.
func ageToken(t *testing.T, s *State) {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	old := s.Config.Tokens[0]
	old.Expiration = time.Now().Add(s.Node.BootstrapTokens[0].TTL.D()/2 - time.Minute)
	if err := c.Apply(t.Context(), addons.TokenSecret(old, true), false); err != nil {
		t.Fatal(err)
	}
}

// loseToken takes the token away, and waits until it opens nothing any more.
func loseToken(t *testing.T, s *State) {
	t.Helper()
	name := "bootstrap-token-" + s.Config.Tokens[0].ID
	if err := clientOf(t, s.Root, s.Config.LocalURL()).Resource(secretObjects).Namespace(metav1.NamespaceSystem).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	joins(t, s, false)
}

// joins waits until the token lets a machine join, or until it does not.
func joins(t *testing.T, s *State, want bool) {
	t.Helper()
	ca, err := os.ReadFile(s.path("/etc/kubernetes/pki/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	token := s.Config.Tokens[0]
	c, err := cluster.New(&rest.Config{Host: s.Config.LocalURL(), BearerToken: token.ID + "." + token.Secret.Reveal(), TLSClientConfig: rest.TLSClientConfig{CAData: ca}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := c.Get(ctx, kubeletConfigMap())
		if (err == nil) == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the token lets machines join: %v, %v", err == nil, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// joinable says what renewing has to have done for those who join: the token lasts, and the
// authorities are there, which before were handed over with the owner was.
func joinable(t *testing.T, s *State, r *Renewal, began time.Time, was string) (owner string) {
	t.Helper()
	token := s.Config.Tokens[0]
	ttl := s.Node.BootstrapTokens[0].TTL.D()
	ends, err := time.Parse(time.RFC3339, string(systemSecret(t, s, "bootstrap-token-"+token.ID).Data["expiration"]))
	if err != nil || !slices.Equal(r.Tokens, []string{token.ID}) || ends.Before(began.Truncate(time.Second).Add(ttl)) || ends.After(time.Now().Add(ttl)) {
		t.Errorf("%+v, the token ends at %s, %v", r, ends, err)
	}
	joins(t, s, true)
	certs := systemSecret(t, s, "kubeadm-certs")
	if len(certs.OwnerReferences) != 1 || certs.OwnerReferences[0].Name == was || !r.Authorities {
		t.Fatalf("%+v, kubeadm-certs is of %+v, was of %s", r, certs.OwnerReferences, was)
	}
	owner = certs.OwnerReferences[0].Name
	proxy := systemSecret(t, s, owner)
	if ends, err := time.Parse(time.RFC3339, string(proxy.Data["expiration"])); err != nil || proxy.UID != certs.OwnerReferences[0].UID || ends.Before(began.Truncate(time.Second).Add(addons.ProxyTTL)) {
		t.Errorf("kubeadm-certs is kept until %s: %v", ends, err)
	}
	files, err := openShared(certs.Data, s.Node.PKI.CertificateKey)
	if err != nil || len(files) != len(addons.SharedFiles) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if own, err := os.ReadFile(s.path(f.Path)); err != nil || !bytes.Equal(own, f.Data) {
			t.Errorf("%s is another than this machine's: %v", f.Path, err)
		}
	}
	return owner
}
