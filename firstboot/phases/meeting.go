// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/discovery"
	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// meeting is what a control plane without etcd data knows before it asks the others.
type meeting struct {
	// witnesses are asked whether a cluster exists; this machine is one of them, unless it
	// is not listed at all.
	witnesses []node.Peer
	// founders are the first members of etcd if there is none.
	founders []node.Peer
	// generate says that joining takes finding the cluster with a token first.
	generate bool
}

// newMeeting reads the document. A nil meeting means that there is nobody to ask.
func newMeeting(n *node.Node, self node.Peer) (*meeting, error) {
	listed := n.Cluster.ControlPlanes
	for _, p := range listed {
		if p.Name == self.Name && p.Address != self.Address {
			return nil, phase.Permanent(fmt.Errorf("cluster.controlPlanes says that %s is at %s, and this machine has %s; correct the list or node.address", p.Name, p.Address, self.Address))
		}
	}
	m := &meeting{founders: n.Cluster.Members(), witnesses: n.Cluster.Members(), generate: n.PKI.Mode == node.PKIGenerate}
	if m.generate && n.PKI.Initiator != "" {
		m.founders = slices.DeleteFunc(slices.Clone(listed), func(p node.Peer) bool { return p.Name != n.PKI.Initiator })
	}
	if len(m.witnesses) < 2 {
		m.witnesses = listed
	}
	if len(listed) == 0 || len(listed) == 1 && listed[0] == self {
		return nil, nil
	}
	if m.generate && n.PKI.CertificateKey == "" {
		return nil, phase.Permanent(errors.New("pki.certificateKey: missing, and with pki.mode generate it is what control planes hand their authorities over with; set it or use pki.mode shared"))
	}
	return m, nil
}

// errHasData says that etcd came to life on this machine after all.
var errHasData = errors.New("etcd has data on this machine")

// meet asks the other control planes until it is clear whether to found a cluster or to
// join one, and tells them in the meantime that this machine waits, too.
func (s *State) meet(ctx context.Context, m *meeting) (founds bool, err error) {
	cfg, err := s.meetingTLS(m)
	if err != nil {
		return false, err
	}
	r := &etcd.Rendezvous{Self: s.self(), Members: m.witnesses, Machine: host.ProductUUID(s.Root), TLS: cfg}
	r.Enough = func(answers map[string]etcd.Answer) bool { return s.enough(m, answers) }
	r.Held = func() error {
		if s.etcdHasData() {
			return errHasData
		}
		return nil
	}
	serving, stop := context.WithCancel(ctx)
	var server sync.WaitGroup
	var serveErr error
	server.Go(func() {
		if serveErr = r.Serve(serving); serveErr != nil {
			stop()
		}
	})
	defer func() {
		stop()
		server.Wait()
		err = errors.Join(err, serveErr)
	}()
	last := ""
	for {
		verdict, why := s.ask(serving, r, m)
		switch {
		case verdict == etcd.Found:
			s.Log.Info("etcd", "action", "found", "reason", why)
			return true, nil
		case verdict == etcd.Join && !m.generate:
			s.Log.Info("etcd", "action", "join", "reason", why)
			return false, nil
		case m.generate:
			found := s.find(serving)
			if found == nil {
				s.Log.Info("etcd", "action", "join", "reason", "the cluster answers at "+s.Found.Server)
				return false, nil
			}
			why += "; " + found.Error()
		}
		if last == "" || serving.Err() == nil { // who was cut off knows less than before
			last = why
		}
		phase.Report(ctx, errors.New(last))
		select {
		case <-serving.Done():
			return false, fmt.Errorf("it is not known whether the cluster exists: %s", last)
		case <-time.After(s.Poll):
		}
	}
}

// ask looks around once.
func (s *State) ask(ctx context.Context, r *etcd.Rendezvous, m *meeting) (etcd.Verdict, string) {
	answers, errs := r.Ask(ctx, m.witnesses)
	return s.judge(m, answers, errs)
}

// enough says whether nobody has to be waited for any more: a cluster to join is there. What
// speaks for founding is not enough. Who is still out may be the one that was in a cluster, with
// all of its data, or that knows that this machine was; and only slow.
func (s *State) enough(m *meeting, answers map[string]etcd.Answer) bool {
	verdict, _ := s.judge(m, answers, nil)
	return verdict == etcd.Join
}

// judge says what follows from what the others say, and why.
func (s *State) judge(m *meeting, answers map[string]etcd.Answer, errs map[string]error) (etcd.Verdict, string) {
	for _, p := range m.witnesses {
		if err := discovery.Apart(p.Name, answers[p.Name].Date); err != nil {
			return etcd.Wait, err.Error()
		}
	}
	for _, p := range m.witnesses {
		if own := host.ProductUUID(s.Root); sameMachine(own, answers[p.Name].Machine) {
			return etcd.Wait, fmt.Sprintf("%s has the same product UUID as this machine, %s: one of them is a copy of the other; give it a UUID of its own", p.Name, own)
		}
	}
	verdict, why := etcd.Decide(s.self(), m.witnesses, answers, errs)
	if slices.Contains(m.founders, s.self()) {
		return verdict, why
	}
	// Whoever may not found a cluster joins one as soon as there is one.
	for _, p := range m.witnesses {
		if answers[p.Name].Established() {
			return etcd.Join, p.Name + " is in a cluster"
		}
	}
	names := make([]string, len(m.founders))
	for i, p := range m.founders {
		names[i] = p.Name
	}
	return etcd.Wait, fmt.Sprintf("no cluster answers; it is for %v to start it (%s)", names, why)
}

// sameMachine compares product UUIDs. Firmware that was never told one says zeros.
func sameMachine(a, b string) bool {
	return strings.Trim(a, "0-") != "" && strings.EqualFold(a, b)
}

// meetingTLS authenticates control planes to each other before etcd has certificates.
func (s *State) meetingTLS(m *meeting) (*tls.Config, error) {
	maker := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Validity: time.Hour, Now: time.Now()}
	ca := &pki.Pair{}
	var err error
	switch {
	case m.generate:
		// With no authority in common yet, one follows from the key in common.
		if ca, err = certificateKeyAuthority(s.Node.PKI.CertificateKey, maker); err != nil {
			return nil, err
		}
	default:
		if ca, err = readPair(s.path(kubeadm.PKIDir + "/" + pki.EtcdCA)); err != nil {
			return nil, err
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	cfg := &tls.Config{RootCAs: pool, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	if ca.Key == nil { // external: the certificates are delivered
		base := s.path(kubeadm.PKIDir + "/etcd/peer")
		pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
		cfg.Certificates = []tls.Certificate{pair}
		return cfg, err
	}
	leaf, err := maker.Leaf(pki.Spec{Name: "rendezvous", CommonName: s.Config.NodeName, Server: true, Client: true, IPs: append(netips(s.Config.Address), netips(s.Config.VIP)...)}, ca)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}
	return cfg, nil
}

// certificateKeyAuthority derives an authority from the certificate key. It vouches only
// for the conversation in which control planes find out whether a cluster exists.
func certificateKeyAuthority(key node.Secret, maker *pki.Maker) (*pki.Pair, error) {
	raw, err := hex.DecodeString(key.Reveal())
	if err != nil {
		return nil, errors.New("pki.certificateKey: not hexadecimal")
	}
	seed, err := hkdf.Key(sha256.New, raw, nil, "imgbuild control planes meet", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	m := *maker
	m.Rand = rand.Reader
	return m.Authority(pki.Spec{Name: "rendezvous-ca", CommonName: "imgbuild-rendezvous"}, ed25519.NewKeyFromSeed(seed))
}

// readPair reads base.crt and, when it is there, base.key.
func readPair(base string) (*pki.Pair, error) {
	p := &pki.Pair{}
	text, err := os.ReadFile(base + ".crt")
	if err != nil {
		return nil, err
	}
	if p.Cert, err = pki.ParseCert(text); err != nil {
		return nil, fmt.Errorf("%s.crt: %w", base, err)
	}
	text, err = os.ReadFile(base + ".key")
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if p.Key, err = pki.ParseKey(text); err != nil {
		return nil, fmt.Errorf("%s.key: %w", base, err)
	}
	return p, nil
}
