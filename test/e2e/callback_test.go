// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// receiver is a callback server. It keeps what it is sent.
type receiver struct {
	// token is what requests must bear.
	token string
	// failed is closed by the first event of a run that failed.
	failed chan struct{}

	mu     sync.Mutex
	bodies []string
	events []status.Event
	errors []string
}

func newReceiver(token string) *receiver {
	return &receiver{token: token, failed: make(chan struct{})}
}

// serve answers on l until the test ends; with config over TLS.
func (r *receiver) serve(t *testing.T, l net.Listener, config *tls.Config) {
	serveHTTP(t, l, config, r)
}

// serveHTTP serves until the test ends, over TLS unless config is nil.
func serveHTTP(t *testing.T, l net.Listener, config *tls.Config, handler http.Handler) {
	if config != nil {
		l = tls.NewListener(l, config)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l) //nolint:errcheck // it ends with the test
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var e status.Event
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, string(body))
	switch {
	case err != nil:
		r.errors = append(r.errors, err.Error())
	case req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" || req.Header.Get("Authorization") != "Bearer "+r.token:
		r.errors = append(r.errors, "not a POST of JSON with the token: "+req.Method+" "+req.Header.Get("Content-Type"))
	case e.Version != status.Version || e.Node == "" || e.Role == "" || e.Boot == "" || e.At <= 0:
		r.errors = append(r.errors, "not an event: "+string(body))
	}
	r.events = append(r.events, e)
	if e.State == status.Failed {
		select {
		case <-r.failed:
		default:
			close(r.failed)
		}
	}
}

// of returns the events of a node, and everything received so far as text.
func (r *receiver) of(t *testing.T, nodeName string) (events []status.Event, text string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, problem := range r.errors {
		t.Error("callback:", problem)
	}
	r.errors = nil
	for _, e := range r.events {
		if e.Node == nodeName {
			events = append(events, e)
		}
	}
	return events, strings.Join(r.bodies, "\n")
}

// told expects the events of a first boot that succeeded: every phase's beginning and end, and
// the result.
func (r *receiver) told(v *view, nodeName string, role node.Role) {
	v.Helper()
	var events []status.Event
	v.eventually("the callback says that "+nodeName+" is Ready", bootTimeout, func() error {
		if events, _ = r.of(v.T, nodeName); len(events) > 0 && events[len(events)-1].State == status.Ready {
			return nil
		}
		return io.ErrUnexpectedEOF
	})
	seen := map[string]bool{}
	for i, e := range events {
		if e.Role != string(role) || e.Boot != events[0].Boot || e.State == status.Failed || (e.State == status.Ready) != (i == len(events)-1) || e.Error != "" {
			v.Errorf("event %d of %d: %+v", i, len(events), e)
		}
		if e.Phase != nil {
			seen[e.Phase.Name+" "+string(e.Phase.State)] = true
		}
	}
	graph, err := phases.Graph(node.Timeouts{})
	if err != nil {
		v.Fatal(err)
	}
	for _, step := range graph.Plan(string(role)) {
		for _, state := range []phase.State{phase.Running, phase.Done} {
			if !seen[step.Name+" "+string(state)] {
				v.Errorf("the callback was not told that phase %s of %s is %s", step.Name, nodeName, state)
			}
		}
	}
	v.Logf("%s told the callback %d events", nodeName, len(events))
}

// serverTLS makes an authority and the certificate of a server at address; the authority's is
// returned as PEM text.
func serverTLS(t *testing.T, address netip.Addr) (*tls.Config, string) {
	t.Helper()
	maker := &pki.Maker{Algorithm: node.ECDSAP256, Validity: 24 * time.Hour, CAValidity: 24 * time.Hour, Now: time.Now()}
	key, err := maker.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := maker.Authority(pki.Spec{Name: "callback-ca", CommonName: "callback-ca"}, key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := maker.Leaf(pki.Spec{Name: "callback", CommonName: "callback", Signer: "callback-ca", Server: true, IPs: []netip.Addr{address}}, ca)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}}}, string(ca.CertPEM())
}

// TestRefused gives a worker's image the document of a control plane, in a machine too small
// for one. Both reasons are on the console and posted to the callback, no secret is.
func TestRefused(t *testing.T) {
	e := need(t)
	const token = "callback-token-of-a-test"
	r := newReceiver(token)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.serve(t, l, nil)
	guest, err := vm.SingleNode("cp-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	secrets := []secret{plain("callback token", token)}
	for i, f := range guest.Files {
		if f.Path == node.Path {
			// 10.0.2.2 is the host's loopback address in QEMU's user network.
			guest.Files[i].Data = append(f.Data, "callback: {url: 'http://10.0.2.2:"+port+"/', token: "+token+"}\n"...)
		}
		secrets = append(secrets, keysIn(f.Path, f.Data)...)
	}
	o := e.options(t)
	o.Spec.Image, o.Spec.MemoryMiB, o.Guest = e.workerImage(t), 1024, &guest
	var console strings.Builder
	var mu sync.Mutex
	failed := make(chan string, 1)
	o.Lines = func(l vm.Line) {
		mu.Lock()
		defer mu.Unlock()
		console.WriteString(l.Text + "\n")
		if ev, ok := vm.ParseLine(l); ok && ev.Kind == vm.NodeFailed {
			offer(failed, ev.Reason)
		}
	}
	g := e.start(t, o)
	var reason string
	for reason == "" {
		select {
		case reason = <-failed:
		case <-g.node.Machine.Exited():
			t.Fatal(g.node.Machine.Err())
		case <-time.After(bootTimeout):
			t.Fatalf("the machine does not refuse within %s", bootTimeout)
		}
	}
	select {
	case <-r.failed:
	case <-time.After(time.Minute):
		t.Error("the callback does not learn of the failure within a minute")
	}
	events, posted := r.of(t, "cp-1")
	wants := []string{"phase preflight", "this image cannot be a control-plane; it can be: worker", "memory:"}
	for _, want := range wants {
		if !strings.Contains(reason, want) {
			t.Errorf("the console's reason %q does not say %q", reason, want)
		}
	}
	retried, ended := false, false
	for _, ev := range events {
		retried = retried || ev.Phase != nil && ev.Phase.Name == phases.Preflight && ev.Phase.State == phase.Retrying
		if ev.State != status.Failed {
			continue
		}
		ended = true
		if ev.Error != reason || len(ev.Log) == 0 {
			t.Errorf("the callback's last event does not say what the console does, with a log: %+v\nconsole: %s", ev, reason)
		}
	}
	if retried || !ended {
		t.Errorf("%d events: preflight, which nothing can cure, tried again: %v; it failed: %v", len(events), retried, ended)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(secrets) < 5 {
		t.Fatalf("only %d secrets are known", len(secrets))
	}
	hidden(t, secrets, map[string]string{"console": console.String(), "callback": posted})
}
