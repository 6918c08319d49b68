// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
)

// auditHeader is in every answer of an API server, refusals included.
const auditHeader = "Audit-Id"

// Probe asks once, and succeeds if an API server that the authorities in caPEM vouch for answers
// at the URL. What it says does not matter: behind an API server there is a cluster. Nor does
// the time: with a wrong clock here, or an expired certificate there, it is that cluster, too.
func Probe(ctx context.Context, server string, caPEM []byte) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(caPEM) {
		return errors.New("the authority holds no certificate")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/version", nil)
	if err != nil {
		return err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // verified here, at another time
	cfg.VerifyConnection = func(c tls.ConnectionState) error {
		leaf, between := c.PeerCertificates[0], x509.NewCertPool()
		for _, cert := range c.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: req.URL.Hostname(), CurrentTime: leaf.NotBefore})
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.Header.Get(auditHeader) == "" {
		return fmt.Errorf("%s is no API server: it answers %s", server, resp.Status)
	}
	return nil
}
