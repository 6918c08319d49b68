// SPDX-License-Identifier: Apache-2.0

// Package health watches an API server and keeps two files: one says whether it is healthy, the
// other whether the machine has the virtual address besides. keepalived follows the files
// (track_file), so that no program is started for a check and none but keepalived itself
// decides about the address.
//
// The package depends on the standard library only: its program runs on every control plane
// for as long as the machine is up.
package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// Watch is what is watched, and how closely.
type Watch struct {
	// Endpoint is host:port.
	Endpoint string
	// CAFile holds the authority that signs the server's certificate; it is read for every
	// connection, because it does not exist yet when first boot starts the watch.
	CAFile string
	// ServerName is the name the certificate has to carry.
	ServerName string
	// StateFile becomes "1\n" or "0\n".
	StateFile string
	// Address is the virtual one. OwnerFile becomes "1\n" while the server is healthy and the
	// machine has the address, and "0\n" otherwise. Without both there is no such file.
	Address   netip.Addr
	OwnerFile string
	// Period is the time between checks, Retry that after a failed one.
	Period, Retry time.Duration
	// Timeout bounds one check.
	Timeout time.Duration
	// Failures in a row make a healthy server an unhealthy one; one success makes it healthy.
	Failures int
	// Changed is called with every change, and why; may be nil.
	Changed func(healthy bool, why error)
	// Beat is called before and after every check; may be nil.
	Beat func()
}

// Defaults are fit for real hardware and bearable for an emulated machine.
func Defaults() Watch {
	return Watch{CAFile: "/etc/kubernetes/pki/ca.crt", ServerName: "kubernetes", Period: time.Second, Retry: 250 * time.Millisecond,
		Timeout: 3 * time.Second, Failures: 2}
}

// Run watches until ctx ends. The state begins as unhealthy, and is so again at the end.
func (w *Watch) Run(ctx context.Context) error {
	healthy, failed := false, 0
	said := &said{watch: w}
	if err := said.health(false); err != nil {
		return err
	}
	var blind chan error // where it is not known any more who has the address
	if w.ownership() {
		moved, err := addressChanges()
		if err != nil {
			return err
		}
		defer moved.Close()
		blind = make(chan error, 1)
		go func() { blind <- moved.each(said.address) }()
	}
	client := &http.Client{Timeout: w.Timeout, Transport: w.transport()}
	defer client.CloseIdleConnections()
	var last string
	beat := func() {
		if w.Beat != nil {
			w.Beat()
		}
	}
	for {
		beat()
		began := time.Now()
		err := w.check(ctx, client)
		pause := w.Period
		if err == nil {
			failed = 0
		} else {
			failed++
			// An answer, even a bad one, is worth the connection: a server that starts has
			// better things to do than shaking hands every second.
			if answer := (*badAnswer)(nil); !errors.As(err, &answer) {
				client.CloseIdleConnections()
			}
			if healthy {
				pause = w.Retry
			} else {
				// A server that takes long to answer is left alone as long.
				pause = max(pause, time.Since(began))
			}
		}
		if now := err == nil || healthy && failed < w.Failures; now != healthy || !now && err.Error() != last && ctx.Err() == nil {
			if now != healthy {
				if werr := said.health(now); werr != nil {
					return werr
				}
			}
			healthy = now
			if w.Changed != nil {
				w.Changed(now, err)
			}
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		beat()
		select {
		case <-ctx.Done():
			return said.health(false)
		case err := <-blind:
			return errors.Join(err, said.health(false))
		case <-time.After(pause):
		}
	}
}

func (w *Watch) ownership() bool { return w.OwnerFile != "" && w.Address.IsValid() }

// transport keeps one connection open between checks and verifies the server as any client
// of the cluster does.
func (w *Watch) transport() *http.Transport {
	t := &http.Transport{MaxIdleConns: 1, TLSHandshakeTimeout: w.Timeout}
	t.TLSClientConfig = &tls.Config{
		ServerName: w.ServerName, MinVersion: tls.VersionTLS12,
		// The authority is not known yet; VerifyConnection does what is skipped here.
		InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
		VerifyConnection:   w.verify,
	}
	return t
}

func (w *Watch) verify(c tls.ConnectionState) error {
	text, err := os.ReadFile(w.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate", w.CAFile)
	}
	between := x509.NewCertPool()
	for _, cert := range c.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err = c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: w.ServerName})
	return err
}

// check asks once. /livez says 200 to everybody (RBAC's system:public-info-viewer), so no
// credential is needed.
func (w *Watch) check(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.Endpoint+"/livez", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &badAnswer{url: req.URL.String(), status: resp.Status}
	}
	return nil
}

// badAnswer is an answer that is not 200.
type badAnswer struct{ url, status string }

func (e *badAnswer) Error() string { return e.url + " answers " + e.status }
