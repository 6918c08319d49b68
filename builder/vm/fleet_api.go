// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/vm/gateway"
)

// fleetAPI is the cluster's API, asked from this process.
type fleetAPI struct {
	kubeconfig string
	proxy      string
	tls        *tls.Config
	addresses  []string
	gateway    *gateway.Gateway
}

// newFleetAPI reads a kubeconfig and lets it lead into the segment until close.
func newFleetAPI(kubeconfig string, addresses []string, g *gateway.Gateway) (*fleetAPI, error) {
	cfg, err := readKubeconfig(kubeconfig)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "render the cluster again")
	}
	a := &fleetAPI{kubeconfig: kubeconfig, addresses: addresses, gateway: g}
	if a.tls, err = kubeconfigTLS(cfg); err != nil {
		return nil, fault.Wrap(fault.Config, fmt.Errorf("%s: %w", kubeconfig, err), "render the cluster again")
	}
	if a.proxy, err = g.Proxy(); err != nil {
		return nil, err
	}
	if err := setProxy(kubeconfig, a.proxy); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *fleetAPI) close() { _ = setProxy(a.kubeconfig, "") } // a stale proxy is replaced by the next run

func readKubeconfig(path string) (*clientcmd.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cfg clientcmd.Config
	if yaml.UnmarshalStrict(text, &cfg) != nil || len(cfg.Clusters) == 0 || len(cfg.AuthInfos) == 0 {
		return nil, fmt.Errorf("%s is not a kubeconfig with a cluster and a user", path) // the cause could quote a key
	}
	return &cfg, nil
}

// kubeconfigTLS is what a kubeconfig says about the API and its user.
func kubeconfigTLS(cfg *clientcmd.Config) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cfg.Clusters[0].Cluster.CertificateAuthorityData) {
		return nil, errors.New("the cluster has no certificate-authority-data")
	}
	user := cfg.AuthInfos[0].AuthInfo
	pair, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData)
	if err != nil {
		return nil, errors.New("the user's client-certificate-data and client-key-data do not make a pair")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName, Certificates: []tls.Certificate{pair}}, nil
}

// setProxy makes a kubeconfig's clusters be reached through a proxy; "" makes them be reached
// directly, as it was rendered.
func setProxy(path, url string) error {
	cfg, err := readKubeconfig(path)
	if err != nil {
		return err
	}
	for i := range cfg.Clusters {
		cfg.Clusters[i].Cluster.ProxyURL = url
	}
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return errors.New("the kubeconfig cannot be encoded") // the cause could quote the key
	}
	return appear(path, func(temporary string) error { return writeSecret(temporary, text) })
}

// dialLimit bounds how long an address is tried that nobody may have yet, answerLimit how long
// a request may take: emulated machines that share a busy host need seconds for a handshake.
const (
	dialLimit   = time.Second
	answerLimit = 30 * time.Second
)

// client reaches one address of the API under the certificate it has on the segment, with a
// connection of its own for every request.
func (a *fleetAPI) client(address string) *http.Client {
	return &http.Client{Timeout: answerLimit, Transport: a.transport(address)}
}

// streamClient is a client for answers without an end.
func (a *fleetAPI) streamClient(address string) *http.Client {
	t := a.transport(address)
	t.TLSHandshakeTimeout, t.ResponseHeaderTimeout = answerLimit, answerLimit
	return &http.Client{Transport: t}
}

func (a *fleetAPI) transport(address string) *http.Transport {
	return &http.Transport{
		TLSClientConfig: a.tls, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialLimit)
			defer cancel()
			return a.gateway.Dial(ctx, address)
		},
	}
}

// Ask gets a path of the API at an address (host:port) of the segment over a connection of
// its own, as an administrator, and wants the answer 200.
func (f *Fleet) Ask(ctx context.Context, address, path string) error {
	api := f.api.Load()
	if api == nil {
		return errors.New("the fleet has no kubeconfig")
	}
	w := &watcher{url: "https://" + address, client: api.client(address)}
	return w.get(ctx, path, nil)
}

// watch looks for Ready nodes at every address of the API, as long as the fleet runs.
func (f *Fleet) watch() {
	var mu sync.Mutex // observations come one at a time
	var first sync.Once
	answered := func() {
		first.Do(func() { f.emit("", Event{At: time.Since(f.Started), Kind: APIAnswered, Uptime: -1}) })
	}
	changed := func(n core.Node, there bool) bool {
		mu.Lock()
		defer mu.Unlock()
		if there {
			f.observe(n)
		}
		return false
	}
	var all sync.WaitGroup
	api := f.api.Load()
	for _, address := range api.addresses {
		w := &watcher{url: "https://" + address, stream: api.streamClient(address)}
		all.Go(func() {
			for f.ctx.Err() == nil {
				// It ends when the server does, or as it was told to.
				_ = w.follow(f.ctx, answered, changed)
				select {
				case <-f.ctx.Done():
				case <-time.After(time.Second):
				}
			}
		})
	}
	all.Wait()
}

// observe notes a node that is Ready in the current boot of its machine.
func (f *Fleet) observe(n core.Node) {
	m := f.Member(n.Name)
	if m == nil {
		return
	}
	o, machine := m.current(), m.Machine()
	if o != nil && machine != nil && nodeReady(n, m.bootedAt()) {
		m.ready(o, machine.since())
	}
}

// WriteAdmin writes an administrator's kubeconfig for the API at server (host:port), signed by
// the authority that an Ignition config carries.
func WriteAdmin(path string, ignitionConfig []byte, server string) error {
	ca, err := authority(ignitionConfig)
	if err != nil {
		return err
	}
	return writeKubeconfig(path, server, ca, time.Now())
}
