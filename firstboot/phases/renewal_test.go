// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// renewalIsNotNoticed renews every leaf of a control plane that works. Whoever uses the API
// meanwhile, each time over a connection of its own, is always answered; in the end the
// servers show the new certificates and the controllers lead again. Machines can join, although
// the token was old, and then gone.
func renewalIsNotNoticed(t *testing.T, c *computer) {
	if err := os.Symlink("/proc", c.root+"/proc"); err != nil {
		t.Fatal(err)
	}
	// What secrets are looked for in later is not the machine's processes.
	defer os.Remove(c.root + "/proc")
	s := c.resolve(t)
	before := map[string]string{}
	for name, address := range servers(s) {
		before[name] = shown(t, s, address)
	}
	leaders := holders(t, s)
	ageToken(t, s)
	owner := systemSecret(t, s, "kubeadm-certs").OwnerReferences[0].Name
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	asked := 0
	var failures []error
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			if err := useAPI(ctx, s); err != nil && ctx.Err() == nil {
				failures = append(failures, err)
			}
			asked++
		}
	})
	r, err := Renew(t.Context(), s, 100*life)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Certificates) != 7 || len(r.Kubeconfigs) < 4 || !slices.Equal(r.Restarted, []string{kubeadm.ControllerManager, kubeadm.Scheduler}) || !r.Authorities || !r.Admin {
		t.Errorf("%+v", r)
	}
	owner = joinable(t, s, r, began, owner)
	deadline, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for {
		var waiting []string
		for name, address := range servers(s) {
			if shown(t, s, address) == before[name] {
				waiting = append(waiting, name+" shows its old certificate")
			}
		}
		for lease, holder := range holders(t, s) {
			if holder == leaders[lease] || holder == "" {
				waiting = append(waiting, lease+" is held by "+holder)
			}
		}
		if waiting == nil {
			break
		}
		select {
		case <-deadline.Done():
			t.Fatal(waiting)
		case <-time.After(200 * time.Millisecond):
		}
	}
	stop()
	asking.Wait()
	if len(failures) > 0 || asked < 10 {
		t.Errorf("of %d requests %d failed: %v", asked, len(failures), errors.Join(failures...))
	}
	loseToken(t, s)
	began = time.Now()
	again, err := Renew(t.Context(), s, 100*life)
	if err != nil || len(again.Certificates)+len(again.Kubeconfigs) > 0 || again.Admin {
		t.Fatalf("renewed again at once: %+v %v", again, err)
	}
	joinable(t, s, again, began, owner)
}

// servers are what shows a certificate that is renewed.
func servers(s *State) map[string]string {
	ip := s.Config.Address.String()
	return map[string]string{"kube-apiserver": ip + ":6443", "etcd for clients": ip + ":2379", "etcd for peers": ip + ":2380"}
}

// shown is the serial number of the certificate that a server shows; it has to be valid.
func shown(t *testing.T, s *State, address string) string {
	t.Helper()
	roots := x509.NewCertPool()
	for _, ca := range []string{"ca", "etcd/ca"} {
		text, err := os.ReadFile(s.path(kubeadm.PKIDir + "/" + ca + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		roots.AppendCertsFromPEM(text)
	}
	serial := ""
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, VerifyConnection: func(c tls.ConnectionState) error {
		serial = c.PeerCertificates[0].SerialNumber.String()
		return nil
	}})
	if err == nil {
		conn.Close()
	}
	if serial == "" {
		t.Fatalf("%s: %v", address, err)
	}
	return serial
}

// useAPI makes one request that goes through to etcd, over a new connection.
func useAPI(ctx context.Context, s *State) error {
	text, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return err
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	// What anybody may read, from etcd.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Config.LocalURL()+"/api/v1/namespaces/kube-public/configmaps/cluster-info", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// holders names who leads, by lease.
func holders(t *testing.T, s *State) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{kubeadm.ControllerManager, kubeadm.Scheduler} {
		list, err := clientOf(t, s.Root, s.Config.LocalURL()).Resource(leases).Namespace("kube-system").Get(t.Context(), name, getOptions)
		if err != nil {
			t.Fatal(err)
		}
		spec, _ := list.Object["spec"].(map[string]any)
		holder, _ := spec["holderIdentity"].(string)
		out[name] = strings.TrimSpace(holder)
	}
	return out
}
