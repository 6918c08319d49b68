// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// etcdMember is a member as etcd's JSON interface shows it.
type etcdMember struct {
	ID, Name  string
	IsLearner bool
}

// etcdMembers asks etcd on any control plane for the members, by name.
func (h *haCluster) etcdMembers() map[string]etcdMember {
	h.Helper()
	config, err := h.etcdClient()
	if err != nil {
		h.Fatal(err)
	}
	var last error
	for _, m := range h.fleet.Members {
		if m.Host.Role != node.ControlPlane || m.Machine() == nil {
			continue
		}
		var answer struct{ Members []etcdMember }
		if last = h.askEtcd(net.JoinHostPort(m.Host.Address.String(), "2379"), config, &answer); last == nil {
			out := map[string]etcdMember{}
			for _, member := range answer.Members {
				out[member.Name] = member
			}
			if len(out) != len(answer.Members) {
				h.Errorf("members share a name: %+v", answer.Members)
			}
			return out
		}
	}
	h.Fatalf("no etcd answers: %v", last)
	return nil
}

func (h *haCluster) askEtcd(address string, config *tls.Config, into any) error {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.fleet.Gateway.Dial(ctx, address) }}}
	resp, err := client.Post("https://"+address+"/v3/cluster/member/list", "application/json", strings.NewReader(`{"linearizable":true}`))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd at %s answers %s", address, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// etcdClient makes a client's certificate with the rendered authority.
func (h *haCluster) etcdClient() (*tls.Config, error) {
	base := filepath.Join(h.pki, pki.EtcdCA)
	certText, err := os.ReadFile(base + ".crt")
	keyText, err2 := os.ReadFile(base + ".key")
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	ca := &pki.Pair{}
	if ca.Cert, err = pki.ParseCert(certText); err != nil {
		return nil, err
	}
	if ca.Key, err = pki.ParseKey(keyText); err != nil {
		return nil, err
	}
	maker := &pki.Maker{Algorithm: node.ECDSAP256, Validity: time.Hour, CAValidity: time.Hour, Now: time.Now()}
	pair, err := maker.Leaf(pki.Spec{Name: "test", CommonName: "test", Signer: pki.EtcdCA, Client: true}, ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}}}, nil
}
