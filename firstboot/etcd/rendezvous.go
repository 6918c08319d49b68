// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Rendezvous is where control planes meet before any of them runs etcd. Each one serves, on
// the port that its etcd will use for peers, the list of members it would start a cluster
// with, in the form in which etcd itself lists members: whoever asks learns in one request
// whether a peer waits too, is starting, or has been in a cluster.
type Rendezvous struct {
	// Self is this machine, Members all that may start the cluster.
	Self    node.Peer
	Members []node.Peer
	// Machine tells this machine from others whatever it is called: its product UUID. Empty
	// where the firmware says nothing.
	Machine string
	// TLS authenticates both directions: a certificate for Self.Address and the authority
	// of all others as RootCAs and ClientCAs.
	TLS *tls.Config
	// Timeout bounds one question; 0 means 3 s.
	Timeout time.Duration
	// Held, when not nil, is called once Serve has the port, and no answer was given yet. Its
	// error ends Serve. An etcd of this machine has the port before it makes data: while Serve
	// has it, none comes to life.
	Held func() error
	// Enough, when not nil, says that the answers so far decide, whatever the others say. Those
	// that are still out then have grace to come in.
	Enough func(map[string]Answer) bool
}

// grace is how long an answer may take after others have decided: about a round trip and a
// handshake on a slow machine. It is there for the answer that says no.
const grace = 250 * time.Millisecond

// Serve announces Members until ctx ends. The port is free again when it returns.
func (r *Rendezvous) Serve(ctx context.Context) error {
	body, err := json.Marshal(announce(r.Members))
	if err != nil {
		return err
	}
	at := net.JoinHostPort(r.Self.Address, strconv.Itoa(kubeadm.EtcdPeerPort))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return fmt.Errorf("waiting for other control planes at %s: %w", at, err)
	}
	if r.Held != nil {
		if err := r.Held(); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	cfg := r.TLS.Clone()
	cfg.ClientAuth, cfg.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS12
	srv := &http.Server{
		TLSConfig: cfg, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // whoever asks learns why it failed
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != membersPath || req.Method != http.MethodGet {
				http.NotFound(w, req)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if r.Machine != "" {
				w.Header().Set(machineHeader, r.Machine)
			}
			_, _ = w.Write(body)
		}),
	}
	srv.SetKeepAlivesEnabled(false)
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		srv.Close()
	})
	err = srv.ServeTLS(l, "", "")
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Ask asks the peers other than Self at the same time. What did not answer is in the errors, by name.
func (r *Rendezvous) Ask(ctx context.Context, peers []node.Peer) (map[string]Answer, map[string]error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	cfg := r.TLS.Clone()
	cfg.MinVersion = tls.VersionTLS12
	dialer := &net.Dialer{Timeout: timeout}
	// etcd compares where a peer comes from with the peer's certificate.
	if a, err := netip.ParseAddr(r.Self.Address); err == nil {
		dialer.LocalAddr = &net.TCPAddr{IP: a.AsSlice()}
	}
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, DialContext: dialer.DialContext}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, errs := map[string]Answer{}, map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range peers {
		if p.Name == r.Self.Name {
			continue
		}
		wg.Go(func() {
			a, err := ask(ctx, client, PeerURL(p.Address)+membersPath)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[p.Name] = fmt.Errorf("%s at %s: %w", p.Name, p.Address, err)
				return
			}
			answers[p.Name] = a
			if r.Enough != nil && r.Enough(answers) {
				time.AfterFunc(grace, cancel)
			}
		})
	}
	wg.Wait()
	return answers, errs
}

func ask(ctx context.Context, client *http.Client, url string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return Answer{Foreign: true, Running: true}, nil
		}
		return Answer{}, reason(err)
	}
	defer resp.Body.Close()
	return parseAnswer(resp)
}

// reason takes the URL, which the caller names better, out of an error of package http.
func reason(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("its certificate is not valid at the time of this machine, %s; one of the two clocks is wrong: %w", time.Now().UTC().Format(time.RFC3339), err)
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	if op.Op == "remote error" && op.Err.Error() == certificateExpired.Error() {
		return fmt.Errorf("the certificate of this machine, whose time is %s, is not valid at its time; one of the two clocks is wrong: %w", time.Now().UTC().Format(time.RFC3339), op.Err)
	}
	return op.Err
}

// certificateExpired (RFC 8446, section 6.2) is what a peer answers also to a certificate that is
// not valid yet.
const certificateExpired = tls.AlertError(45)
