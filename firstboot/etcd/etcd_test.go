// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// componentsEnv names a directory that holds the program etcd as assets/components builds it.
const componentsEnv = "IMGBUILD_TEST_COMPONENTS"

// site is a network of machines with an address each, on the loopback interface, and one
// authority.
type site struct {
	t       *testing.T
	program string
	ca      *pki.Pair
	maker   *pki.Maker
	dir     string
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir(), maker: &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 2 * time.Hour, Validity: time.Hour, Now: time.Now()}}
	key, err := s.maker.Key()
	if err != nil {
		t.Fatal(err)
	}
	if s.ca, err = s.maker.Authority(pki.Spec{Name: "etcd/ca", CommonName: "etcd-ca"}, key); err != nil {
		t.Fatal(err)
	}
	s.write("ca.crt", s.ca.CertPEM())
	return s
}

func newSiteWithEtcd(t *testing.T) *site {
	components := os.Getenv(componentsEnv)
	if components == "" {
		t.Skipf("%s does not name a directory with etcd", componentsEnv)
	}
	s := newSite(t)
	s.program = filepath.Join(components, "etcd")
	return s
}

func (s *site) write(name string, data []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// tls returns a certificate for both directions.
func (s *site) tls(p node.Peer) *tls.Config {
	s.t.Helper()
	pair, err := s.maker.Leaf(pki.Spec{Name: p.Name, CommonName: p.Name, Signer: "etcd/ca", Server: true, Client: true,
		IPs: []netip.Addr{netip.MustParseAddr(p.Address), netip.MustParseAddr("127.0.0.1")}}, s.ca)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := pki.KeyPEM(pair.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(p.Address+".crt", pair.CertPEM())
	s.write(p.Address+".key", key)
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.Cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}}, RootCAs: pool, ClientCAs: pool}
}

// machine is one etcd that is started and stopped; its data outlives its process.
type machine struct {
	*site
	node.Peer
	cfg    *tls.Config
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (s *site) machine(name, address string) *machine {
	p := node.Peer{Name: name, Address: address}
	m := &machine{site: s, Peer: p, cfg: s.tls(p)}
	s.t.Cleanup(m.stop)
	return m
}

func (m *machine) data() string { return filepath.Join(m.dir, m.Address+".data") }

func (m *machine) hasData() bool {
	_, err := os.Stat(filepath.Join(m.data(), "member"))
	return err == nil
}

// start runs etcd; like the kubelet, it starts a process that ends once more.
func (m *machine) start(members []node.Peer, existing bool) {
	m.stop()
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	var initial []string
	for _, p := range members {
		initial = append(initial, p.Name+"="+PeerURL(p.Address))
	}
	state := "new"
	if existing {
		state = "existing"
	}
	cert, key, ca := filepath.Join(m.dir, m.Address+".crt"), filepath.Join(m.dir, m.Address+".key"), filepath.Join(m.dir, "ca.crt")
	log, err := os.OpenFile(filepath.Join(m.t.ArtifactDir(), m.Address+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	m.wg.Go(func() {
		defer log.Close()
		runtime.LockOSThread() // Pdeathsig follows the thread that starts the process
		defer runtime.UnlockOSThread()
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, m.program, "--name="+m.Name, "--data-dir="+m.data(),
				"--listen-peer-urls="+PeerURL(m.Address), "--initial-advertise-peer-urls="+PeerURL(m.Address),
				"--listen-client-urls="+ClientURL(m.Address), "--advertise-client-urls="+ClientURL(m.Address),
				"--initial-cluster="+strings.Join(initial, ","), "--initial-cluster-state="+state,
				"--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+ca, "--client-cert-auth=true",
				"--peer-cert-file="+cert, "--peer-key-file="+key, "--peer-trusted-ca-file="+ca, "--peer-client-cert-auth=true",
				"--unsafe-no-fsync=true", "--feature-gates=InitialCorruptCheck=true")
			cmd.Stdout, cmd.Stderr = log, log
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			cmd.Cancel = func() error { return cmd.Process.Kill() }
			_ = cmd.Run()
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func (m *machine) stop() {
	if m.cancel != nil {
		m.cancel()
		m.wg.Wait()
		m.cancel = nil
	}
}

func (m *machine) wipe() {
	m.stop()
	if err := os.RemoveAll(m.data()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) client(peers ...node.Peer) *Client {
	m.t.Helper()
	var urls []string
	for _, p := range peers {
		urls = append(urls, ClientURL(p.Address))
	}
	c, err := Dial(urls, m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	c.Report = func(err error) { m.t.Logf("%s: %v", m.Name, err) }
	return c
}

// meet runs the rendezvous until it is decided whether to found a cluster or to join one.
func (m *machine) meet(ctx context.Context, members []node.Peer) (Verdict, string, error) {
	r := &Rendezvous{Self: m.Peer, Members: members, TLS: m.cfg}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx) }()
	for {
		answers, errs := r.Ask(ctx, members)
		v, why := Decide(m.Peer, members, answers, errs)
		if v != Wait {
			cancel()
			return v, why, <-served
		}
		select {
		case <-ctx.Done():
			return v, why, ctx.Err()
		case err := <-served:
			return v, why, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// found brings machines up that have nothing, all at once.
func found(ctx context.Context, t *testing.T, members []node.Peer, machines ...*machine) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range machines {
		wg.Go(func() {
			v, why, err := m.meet(ctx, members)
			if v != Found || err != nil {
				t.Errorf("%s: %d %s %v", m.Name, v, why, err)
				return
			}
			m.start(members, false)
			if err := m.client(m.Peer).AwaitServing(ctx); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// join brings a machine into the cluster of others.
func join(ctx context.Context, m *machine, others ...node.Peer) error {
	c := m.client(others...)
	j, err := c.AddLearner(ctx, m.Peer, m.hasData)
	if err != nil {
		return err
	}
	m.start(j.Initial, true)
	last := j.Initial
	if err := c.AwaitStart(ctx, j.ID, m.Peer, func(now []node.Peer) error {
		if !slices.Equal(now, last) {
			last = now
			m.start(now, true)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := c.Promote(ctx, j.ID); err != nil {
		return err
	}
	return m.client(m.Peer).AwaitServing(ctx)
}

func (m *machine) put(ctx context.Context, key, value string) error {
	c := m.client(m.Peer)
	defer c.Close()
	return c.retry(ctx, "put", func(ctx context.Context) error {
		_, err := c.etcd.Put(ctx, key, value)
		return err
	})
}

func (m *machine) get(ctx context.Context, key string) (value string, err error) {
	c := m.client(m.Peer)
	defer c.Close()
	err = c.retry(ctx, "get", func(ctx context.Context) error {
		resp, err := c.etcd.Get(ctx, key)
		if err == nil && len(resp.Kvs) > 0 {
			value = string(resp.Kvs[0].Value)
		}
		return err
	})
	return value, err
}

func peersOf(machines ...*machine) []node.Peer {
	var out []node.Peer
	for _, m := range machines {
		out = append(out, m.Peer)
	}
	return out
}

func voters(ctx context.Context, t *testing.T, m *machine) []string {
	t.Helper()
	list, err := m.client(m.Peer).Members(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		if e.Learner {
			t.Errorf("%s is a learner", e.Name)
		}
		out = append(out, e.Name)
	}
	slices.Sort(out)
	return out
}

// TestLifeOfACluster: two of three found it, the third arrives late, a disk is wiped, the
// wiped machine comes back, and a fourth is added at the same time.
func TestLifeOfACluster(t *testing.T) {
	s := newSiteWithEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	a, b, c := s.machine("a", "127.1.1.1"), s.machine("b", "127.1.1.2"), s.machine("c", "127.1.1.3")
	members := peersOf(a, b, c)

	found(ctx, t, members, a, b)
	if err := a.put(ctx, "k", "v1"); err != nil {
		t.Fatal(err)
	}
	found(ctx, t, members, c) // late, but a founder
	if got := voters(ctx, t, c); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatal(got)
	}

	// A machine that lost its disk must not take part again under its old identity, neither
	// while a quorum is there nor while it is not.
	c.wipe()
	a.stop()
	if v, why, err := c.meet(ctx, members); v != Join || err != nil {
		t.Fatalf("without a quorum: %d %s %v", v, why, err)
	}
	short, stop := context.WithTimeout(ctx, 4*time.Second)
	if err := join(short, c, a.Peer, b.Peer); err == nil || !strings.Contains(err.Error(), "etcd") {
		t.Fatalf("joined without a quorum: %v", err)
	}
	stop()
	a.start(members, false)
	if err := a.put(ctx, "k", "v2"); err != nil {
		t.Fatal(err)
	}

	d := s.machine("d", "127.1.1.4")
	var wg sync.WaitGroup
	for _, m := range []*machine{c, d} {
		wg.Go(func() {
			if v, why, err := m.meet(ctx, append(slices.Clone(members), d.Peer)); v != Join || err != nil {
				t.Errorf("%s: %d %s %v", m.Name, v, why, err)
			}
			if err := join(ctx, m, a.Peer, b.Peer); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		})
	}
	wg.Wait()
	if got := voters(ctx, t, d); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Error(got)
	}
	if v, err := c.get(ctx, "k"); v != "v2" || err != nil {
		t.Errorf("%q %v", v, err)
	}

	// Leaving, twice, and coming back under the same name at another address.
	for range 2 {
		if rest, err := d.client(a.Peer, b.Peer).Leave(ctx, d.Peer); len(rest) != 3 || err != nil {
			t.Errorf("%v stay: %v", rest, err)
		}
	}
	d.wipe()
	if got := voters(ctx, t, a); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
	b.wipe()
	b2 := s.machine("b", "127.1.1.5")
	if err := join(ctx, b2, a.Peer, c.Peer); err != nil {
		t.Fatal(err)
	}
	if got := voters(ctx, t, a); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
	// A namesake of a live member is told so.
	var final *FinalError
	if err := join(ctx, s.machine("b", "127.1.1.6"), a.Peer, c.Peer); !errors.As(err, &final) || !strings.Contains(err.Error(), "another machine, at https://127.1.1.5:2379") {
		t.Errorf("a namesake: %v", err)
	}
}

func TestRendezvousWithoutEtcd(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var machines []*machine
	for i := range 3 {
		machines = append(machines, s.machine(fmt.Sprintf("m%d", i), fmt.Sprintf("127.1.2.%d", i+1)))
	}
	members := peersOf(machines...)
	// With another list a machine is seen, and not counted.
	loner := s.machine("m1", "127.1.2.2")
	serving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := (&Rendezvous{Self: loner.Peer, Members: members[1:2], TLS: loner.cfg}).Serve(serving); err != nil {
			t.Error(err)
		}
	})
	asker := &Rendezvous{Self: machines[0].Peer, Members: members, TLS: machines[0].cfg}
	v, why := Wait, ""
	for heard := false; !heard && ctx.Err() == nil; {
		answers, errs := asker.Ask(ctx, members)
		_, heard = answers["m1"]
		v, why = Decide(asker.Self, members, answers, errs)
	}
	if v != Wait || !strings.Contains(why, "another list of control planes: m1") || !strings.Contains(why, "m2 at 127.1.2.3: ") {
		t.Errorf("%d %s", v, why)
	}
	stop()
	wg.Wait()

	// A machine with certificates of another authority is not trusted, nor does it trust.
	other := newSite(t).machine("m2", "127.1.2.3")
	serving, stop = context.WithCancel(ctx)
	wg.Go(func() {
		if err := (&Rendezvous{Self: other.Peer, Members: members, TLS: other.cfg}).Serve(serving); err != nil {
			t.Error(err)
		}
	})
	for v = Wait; v == Wait && ctx.Err() == nil; {
		answers, errs := asker.Ask(ctx, members)
		v, why = Decide(asker.Self, members, answers, errs)
	}
	if v != Join {
		t.Errorf("%d %s", v, why)
	}
	stop()
	wg.Wait()

	// Both serve until both have decided.
	serving, stop = context.WithCancel(ctx)
	var deciding sync.WaitGroup
	for _, m := range machines[:2] {
		r := &Rendezvous{Self: m.Peer, Members: members, Machine: "uuid-" + m.Name, TLS: m.cfg}
		wg.Go(func() {
			if err := r.Serve(serving); err != nil {
				t.Error(err)
			}
		})
		deciding.Go(func() {
			for ctx.Err() == nil {
				answers, errs := r.Ask(ctx, members)
				v, why := Decide(r.Self, members, answers, errs)
				if v == Join {
					t.Errorf("%s: %s", m.Name, why)
				}
				if v == Wait {
					continue
				}
				for name, a := range answers {
					if a.Date.IsZero() || a.Running || a.Foreign || a.Machine != "uuid-"+name {
						t.Errorf("%s says %+v", name, a)
					}
				}
				return
			}
			t.Errorf("%s found nobody", m.Name)
		})
	}
	deciding.Wait()
	stop()
	wg.Wait()
}
