// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

const secretsPath = "/api/v1/namespaces/kube-system/secrets/"

func tokenPath(id string) string { return secretsPath + "bootstrap-token-" + id }

// token is the secret of a bootstrap token; without an expiration it lasts for ever.
func token(id, expiration string) *corev1.Secret {
	s := addons.TokenSecret(kubeadm.Token{ID: id, Secret: "0123456789abcdef"}, true)
	if s.Data["marker"] = []byte("old"); expiration != "" {
		s.Data["expiration"] = []byte(expiration)
	}
	return s
}

// renewing is a control plane that renews what the cluster keeps in a store.
func renewing(t *testing.T, mode node.PKIMode) (*State, *store) {
	t.Helper()
	s, kept := controlPlaneFiles(t, mode, year, time.Now().Add(-day)), &store{objects: map[string]map[string]any{}}
	serveOwnAPI(t, s, kept)
	s.Node.Join.Renew = true
	return s, kept
}

// A token that is gone or past half of its life gets another one; others are left alone.
func TestRenewTokens(t *testing.T) {
	const ttl = 40 * time.Hour
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		there  bool
		ends   string
		ttl    time.Duration
		off    bool // the document does not ask for it
		renews bool
	}{
		"fresh":                           {true, in(ttl), ttl, false, false},
		"before half of its life":         {true, in(ttl/2 + time.Minute), ttl, false, false},
		"past half of its life":           {true, in(ttl/2 - time.Minute), ttl, false, true},
		"expired, and not yet taken away": {true, in(-time.Hour), ttl, false, true},
		"gone":                            {false, "", ttl, false, true},
		"it never expires":                {true, "", ttl, false, false},
		"nobody can read when":            {true, "soon", ttl, false, true},
		"without a lifetime":              {true, in(-time.Hour), 0, false, false},
		"without a lifetime, and gone":    {false, "", 0, false, false},
		"the document does not ask":       {true, in(-time.Hour), ttl, true, false},
		"does not ask, and it is gone":    {false, "", ttl, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, kept := renewing(t, node.PKIShared)
			lifetime := node.Duration(tc.ttl)
			s.Node.Join.Renew, s.Node.BootstrapTokens[0].TTL = !tc.off, &lifetime
			if tc.there {
				kept.put(t, tokenPath("abcdef"), token("abcdef", tc.ends))
			}
			began := time.Now().Truncate(time.Second)
			r, err := Renew(t.Context(), s, 120*day)
			if err != nil || slices.Equal(r.Tokens, []string{"abcdef"}) != tc.renews || len(r.Tokens) > 1 || r.Authorities {
				t.Fatalf("%+v %v", r, err)
			}
			if !tc.renews {
				if len(kept.wrote) > 0 {
					t.Errorf("it wrote %q", kept.wrote)
				}
				return
			}
			var got corev1.Secret
			kept.get(t, tokenPath("abcdef"), &got)
			ends, err := time.Parse(time.RFC3339, string(got.Data["expiration"]))
			if err != nil || ends.Before(began.Add(ttl)) || ends.After(time.Now().Add(ttl)) {
				t.Errorf("it ends at %s, %v, and is renewed at %s for %s", got.Data["expiration"], err, began.UTC().Format(time.RFC3339), ttl)
			}
			want := addons.TokenSecret(s.Config.Tokens[0], true)
			want.Data["expiration"] = got.Data["expiration"]
			for key, value := range want.Data {
				if !bytes.Equal(got.Data[key], value) {
					t.Errorf("its %s is %q, want %q", key, got.Data[key], value)
				}
			}
			if len(got.Data) != len(want.Data) || got.Type != want.Type || string(got.Data["token-secret"]) != "0123456789abcdef" {
				t.Errorf("%+v", got)
			}
			if again, err := Renew(t.Context(), s, 120*day); err != nil || len(again.Tokens) > 0 {
				t.Errorf("again at once: %+v %v", again, err)
			}
		})
	}
}

// Each token goes by its own lifetime. What could not be written was not renewed.
func TestRenewTokensOneByOne(t *testing.T) {
	s, kept := renewing(t, node.PKIGenerate)
	s.Node.PKI.CertificateKey = node.Secret(strings.Repeat("0123456789abcdef", 4))
	long := node.Duration(100 * time.Hour)
	s.Node.BootstrapTokens = append(s.Node.BootstrapTokens, node.BootstrapToken{Token: "bcdefg.0123456789abcdef", TTL: &long})
	s.Config.Tokens = append(s.Config.Tokens, kubeadm.Token{ID: "bcdefg", Secret: "0123456789abcdef"})
	for _, id := range []string{"abcdef", "bcdefg"} { // half a life of 24 hours, not of 100
		kept.put(t, tokenPath(id), token(id, time.Now().Add(20*time.Hour).UTC().Format(time.RFC3339)))
	}
	kept.invalid = tokenPath("bcdefg")
	r, err := Renew(t.Context(), s, 120*day)
	if err == nil || !strings.Contains(err.Error(), "bootstrap-token-bcdefg") || len(r.Tokens) > 0 || r.Authorities {
		t.Errorf("%+v %v", r, err)
	}
	kept.invalid = ""
	if r, err = Renew(t.Context(), s, 120*day); err != nil || !slices.Equal(r.Tokens, []string{"bcdefg"}) || !r.Authorities {
		t.Errorf("%+v %v", r, err)
	}
}

const certsPath = secretsPath + "kubeadm-certs"

// handedOver opens kubeadm-certs, and returns it with the token that takes it away.
func handedOver(t *testing.T, s *State, kept *store) (certs, proxy *corev1.Secret) {
	t.Helper()
	certs, proxy = &corev1.Secret{}, &corev1.Secret{}
	if !kept.get(t, certsPath, certs) {
		t.Fatal("there is no kubeadm-certs")
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
	if len(certs.OwnerReferences) != 1 || !kept.get(t, secretsPath+certs.OwnerReferences[0].Name, proxy) || proxy.UID == "" || certs.OwnerReferences[0].UID != proxy.UID {
		t.Fatalf("nothing takes it away: %+v", certs.OwnerReferences)
	}
	ends, err := time.Parse(time.RFC3339, string(proxy.Data["expiration"]))
	if left := time.Until(ends); err != nil || left > addons.ProxyTTL || left < addons.ProxyTTL-time.Minute {
		t.Errorf("it is kept until %s: %v", proxy.Data["expiration"], err)
	}
	return certs, proxy
}

// The authorities, which joining control planes download, are kept for two hours only: every
// renewal hands them over again, and says so if it did.
func TestRenewAuthorities(t *testing.T) {
	s, kept := renewing(t, node.PKIGenerate)
	s.Node.PKI.CertificateKey = node.Secret(strings.Repeat("0123456789abcdef", 4))
	var owners []string
	var sealed []byte
	for range 2 {
		if r, err := Renew(t.Context(), s, 120*day); err != nil || !r.Authorities {
			t.Fatalf("%+v %v", r, err)
		}
		certs, proxy := handedOver(t, s, kept)
		if slices.Contains(owners, proxy.Name) || bytes.Equal(certs.Data["ca.key"], sealed) {
			t.Errorf("%s is as before", proxy.Name)
		}
		owners, sealed = append(owners, proxy.Name), certs.Data["ca.key"]
	}
	var role map[string]any
	if !kept.get(t, "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/kubeadm:kubeadm-certs", &role) {
		t.Error("nobody may read them")
	}

	kept.invalid = certsPath
	r, err := Renew(t.Context(), s, 120*day)
	if err == nil || !strings.Contains(err.Error(), "kubeadm-certs") || r.Authorities {
		t.Errorf("refused: %+v %v", r, err)
	}
	kept.invalid = ""
	if err := os.Remove(s.path(kubeadm.PKIDir + "/sa.pub")); err != nil {
		t.Fatal(err)
	}
	r = &Renewal{}
	if err := s.renewTokens(t.Context(), r); err == nil || !strings.Contains(err.Error(), "handing the authorities over: ") || r.Authorities {
		t.Errorf("without a file: %+v %v", r, err)
	}
}

// Nobody's authorities are handed over who does not ask for that.
func TestRenewKeepsAuthoritiesToItself(t *testing.T) {
	for name, edit := range map[string]func(*State){
		"shared":              func(s *State) { s.Node.PKI.Mode = node.PKIShared },
		"external":            func(s *State) { s.Config.ExternalCA = true },
		"no key":              func(s *State) { s.Node.PKI.CertificateKey = "" },
		"it does not ask":     func(s *State) { s.Node.Join.Renew = false },
		"and then it asks it": nil,
	} {
		s, kept := renewing(t, node.PKIGenerate)
		s.Node.PKI.CertificateKey = node.Secret(strings.Repeat("0123456789abcdef", 4))
		if edit != nil {
			edit(s)
		}
		r := &Renewal{}
		if err := s.renewTokens(t.Context(), r); err != nil || r.Authorities != (edit == nil) || kept.get(t, certsPath, &metav1.PartialObjectMetadata{}) != (edit == nil) {
			t.Errorf("%s: %+v %v, wrote %q", name, r, err, kept.wrote)
		}
	}
}
