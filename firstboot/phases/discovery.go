// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/discovery"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// discover finds out whether there is a cluster: a worker waits for one, a control plane
// decides whether to start it or to join it.
func discover(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.Discovery.D())
	defer cancel()
	if s.Config.Role == node.Worker {
		return s.discoverAsWorker(ctx)
	}
	known, err := LoadMembership(s.Root)
	if err != nil {
		return phase.Permanent(err)
	}
	if s.etcdHasData() {
		return s.resume(known)
	}
	m, err := newMeeting(s.Node, s.self())
	if err != nil {
		return err
	}
	if m == nil {
		if err := s.lookBeforeFounding(ctx); err != nil {
			return err
		}
		return s.adopt(&Membership{})
	}
	if err := s.withdrawEtcd(); err != nil {
		return err
	}
	founds, err := s.meet(ctx, m)
	switch {
	case errors.Is(err, errHasData): // it was faster
		return s.resume(known)
	case err != nil:
		return err
	case !founds && known != nil && known.Joined:
		return s.adopt(known) // the place that was made for it may be there still
	case !founds:
		return s.adopt(&Membership{Joined: true})
	case len(m.founders) == 1:
		return s.adopt(&Membership{})
	}
	return s.adopt(&Membership{Members: m.founders})
}

// resume goes by what is remembered: etcd has data.
func (s *State) resume(known *Membership) error {
	if known == nil { // a single control plane of a release that did not remember
		known = &Membership{}
	}
	return s.adopt(known)
}

// The bounds of looking for a cluster before founding one alone. Who has the address takes a
// connection at once; who took one is an API server, maybe a busy one.
const (
	connectLimit = 2 * time.Second
	answerLimit  = 10 * time.Second
)

// lookBeforeFounding looks once for a cluster at the endpoint. A document that names no other
// control plane may be older than the cluster: this machine founded it, others joined, and then
// it lost its disk. Once a cluster has answered nothing is founded in this run: an owner of
// the address that fails is silent for a moment, too.
func (s *State) lookBeforeFounding(ctx context.Context) error {
	// Where each machine balances by itself the endpoint leads to this one.
	if !s.Config.EndpointSet || s.Config.EndpointHost == s.Config.Address.String() || s.Node.Cluster.EndpointMode == node.EndpointLocal {
		return nil
	}
	// An answer that came from this machine's own API server took data.
	if !s.clusterAnswers(ctx) || s.etcdHasData() {
		return nil
	}
	err := fmt.Errorf("a cluster answers at %s already, and the document of this machine names no other control plane: it is older than the cluster; render the cluster again and boot this machine with its new config",
		s.Config.EndpointURL())
	phase.Report(ctx, err)
	<-ctx.Done()
	return err
}

// clusterAnswers says whether an API server of this machine's cluster answers at the endpoint:
// one that the authority vouches for, or with an authority that is made later the bootstrap token.
func (s *State) clusterAnswers(ctx context.Context) bool {
	// Usually nobody is there. To find that out must take no time worth mentioning.
	conn, err := (&net.Dialer{Timeout: connectLimit}).DialContext(ctx, "tcp", s.Config.Endpoint())
	if err != nil {
		return false
	}
	conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if s.Node.PKI.Mode == node.PKIGenerate {
		_, err = discovery.Find(ctx, discovery.Question{Servers: []string{s.Config.EndpointURL()}, Tokens: s.Config.Tokens, Pins: s.Node.Join.CACertHashes, Timeout: answerLimit})
		return err == nil || errors.Is(err, discovery.ErrClock)
	}
	ca, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	return err == nil && discovery.Probe(ctx, s.Config.EndpointURL(), ca) == nil
}

// discoverAsWorker looks for the cluster with a token, unless the kubelet has a certificate
// already: from an earlier run, or delivered.
func (s *State) discoverAsWorker(ctx context.Context) error {
	err := s.bootstrapped()
	switch {
	case err == nil && s.absent(kubeadm.KubeletDir+"/config.yaml"):
		return s.findWithCertificate(ctx)
	case err == nil:
		return nil
	case s.Node.PKI.Mode == node.PKIExternal && len(s.Config.Tokens) == 0:
		return phase.Permanent(fmt.Errorf("pki.mode external: %w; deliver %s/ca.crt, %s/%s and what %s leads to, or a bootstrap token for an authority that signs requests",
			err, kubeadm.PKIDir, kubeadm.Dir, kubeconfig.Kubelet, kubeadm.KubeletPEM))
	}
	return s.findPatiently(ctx)
}

// findWithCertificate waits for the cluster that the delivered kubelet.conf leads to.
func (s *State) findWithCertificate(ctx context.Context) error {
	c, err := s.client()
	if err != nil {
		return phase.Permanent(err)
	}
	return s.seek(ctx, func() error {
		if err := s.nameFree(ctx, c); err != nil {
			return err
		}
		return c.Get(ctx, kubeletConfigMap()) // which is there once joining is possible
	})
}

// seek looks for the cluster until look succeeds or ctx ends, with growing pauses.
func (s *State) seek(ctx context.Context, look func() error) error {
	pause := s.Poll
	var last error
	for {
		err := look()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // who was cut off knows less than before
			last = err
		}
		phase.Report(ctx, last)
		select {
		case <-ctx.Done():
			return fmt.Errorf("no cluster to join: %w", last)
		case <-time.After(pause):
			pause = min(2*pause, 5*time.Second)
		}
	}
}

// servers are the API servers to look for the cluster at: the endpoint first, then each
// control plane, in case what carries the endpoint is not up yet.
func (s *State) servers() []string {
	var out []string
	if s.Config.EndpointSet {
		out = append(out, s.Config.EndpointURL())
	}
	for _, p := range s.others() {
		out = append(out, s.serverOf(p))
	}
	return out
}

// find looks once for the cluster with a bootstrap token and keeps what it says.
func (s *State) find(ctx context.Context) error {
	found, err := discovery.Find(ctx, discovery.Question{Servers: s.servers(), Tokens: s.Config.Tokens, Pins: s.Node.Join.CACertHashes, Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	if err := discovery.Apart(found.Server, found.Date); err != nil {
		return err
	}
	s.Found = found
	return nil
}

// findPatiently looks for the cluster with a bootstrap token until ctx ends.
func (s *State) findPatiently(ctx context.Context) error {
	return s.seek(ctx, func() error {
		if err := s.find(ctx); err != nil {
			return err
		}
		c, err := s.visitor()
		if err != nil {
			return err
		}
		if err := s.nameFree(ctx, c); err != nil {
			return err
		}
		s.Log.Info("discovery", "server", s.Found.Server, "token", s.Found.Token.ID)
		return nil
	})
}

// visitor is a client with the rights of the bootstrap token.
func (s *State) visitor() (*cluster.Client, error) {
	if s.Found == nil {
		return nil, errors.New("the cluster was not looked for in this run")
	}
	t := s.Found.Token
	return cluster.New(&rest.Config{Host: s.Found.Server, BearerToken: t.ID + "." + t.Secret.Reveal(),
		TLSClientConfig: rest.TLSClientConfig{CAData: s.Found.CAPEM}, Timeout: 30 * time.Second})
}

// nameFree refuses the name of a node that is Ready and another machine. A machine that
// comes back with an empty disk finds its own node, which turns NotReady before long.
func (s *State) nameFree(ctx context.Context, c *cluster.Client) error {
	n, err := c.Node(ctx, s.Config.NodeName)
	if cluster.NotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading node %s: %w", s.Config.NodeName, err)
	}
	if own := s.systemUUID(); cluster.Ready(n) == nil && !strings.EqualFold(n.Status.NodeInfo.SystemUUID, own) {
		return fmt.Errorf("node %s is Ready and another machine (product UUID %s, this one has %q); give this machine another name", n.Name, n.Status.NodeInfo.SystemUUID, own)
	}
	return nil
}

// systemUUID is what the kubelet says of this machine: the product UUID, or where the firmware
// has none the machine id, which stays when the node is reset.
func (s *State) systemUUID() string {
	id, _ := os.ReadFile(s.path("/etc/machine-id")) // preflight wants it
	return cmp.Or(host.ProductUUID(s.Root), strings.TrimSpace(string(id)))
}

func kubeletConfigMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kubelet-config"}}
}

// clusterKubelet reads the kubelet configuration that the nodes of the cluster share.
func clusterKubelet(ctx context.Context, c *cluster.Client) (*kubelet.KubeletConfiguration, error) {
	cm := kubeletConfigMap()
	if err := c.Retry(ctx, func(ctx context.Context) error { return c.Get(ctx, cm) }); err != nil {
		return nil, err
	}
	k := &kubelet.KubeletConfiguration{}
	if err := yaml.Unmarshal([]byte(cm.Data["kubelet"]), k); err != nil || k.Kind != "KubeletConfiguration" {
		return nil, errors.New("ConfigMap kube-system/kubelet-config holds no kubelet configuration")
	}
	return k, nil
}

// downloadCerts fetches the authorities that the other control planes share. Files that are
// there already, from an earlier attempt or delivered, have to be the same.
func downloadCerts(ctx context.Context, s *State) error {
	if !s.joined() || s.Node.PKI.Mode != node.PKIGenerate {
		return nil
	}
	if s.Found == nil {
		if s.sharedFilesThere() {
			return nil
		}
		if err := s.findPatiently(ctx); err != nil {
			return err
		}
	}
	c, err := s.visitor()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	var files []kubeadm.File
	err = c.Retry(ctx, func(ctx context.Context) error {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kubeadm-certs"}}
		err := c.Get(ctx, secret)
		if cluster.NotFound(err) {
			err = errors.New("the cluster holds no secret kubeadm-certs; it lasts two hours; a control plane uploads it again with firstboot renew or kubeadm init phase upload-certs")
		}
		if err == nil {
			files, err = openShared(secret.Data, s.Node.PKI.CertificateKey)
		}
		if err != nil {
			phase.Report(ctx, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(s.Root, files...)
	return err
}

func (s *State) sharedFilesThere() bool {
	return !slices.ContainsFunc(addons.SharedFiles, func(f string) bool {
		_, err := os.Stat(s.path(kubeadm.PKIDir + "/" + f))
		return err != nil
	})
}

// openShared decrypts the shared files. Keys come before certificates, as a certificate on
// disk implies its key.
func openShared(sealed map[string][]byte, key node.Secret) ([]kubeadm.File, error) {
	var files []kubeadm.File
	for _, name := range addons.SharedFiles {
		plain, err := addons.Open(sealed, name, key)
		if err != nil {
			return nil, err
		}
		f := kubeadm.File{Path: kubeadm.PKIDir + "/" + name, Mode: 0o644, Data: plain}
		if strings.HasSuffix(name, ".key") {
			f.Mode = 0o600
		}
		files = append(files, f)
	}
	slices.SortStableFunc(files, func(a, b kubeadm.File) int { return int(a.Mode) - int(b.Mode) })
	return files, nil
}

// remote returns a client of the first other API server that answers, as an administrator.
func (s *State) remote(ctx context.Context) (*cluster.Client, error) {
	var errs []error
	for _, server := range s.servers() {
		c, err := cluster.FromFile(s.path(kubeadm.Dir+"/"+kubeconfig.Admin), server)
		if err != nil {
			return nil, err
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = c.Get(call, kubeletConfigMap())
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", server, err))
	}
	return nil, errors.Join(errs...)
}

func netips(a netip.Addr) []netip.Addr {
	if !a.IsValid() {
		return nil
	}
	return []netip.Addr{a}
}
