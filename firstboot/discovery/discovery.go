// SPDX-License-Identifier: Apache-2.0

// Package discovery finds a running cluster with nothing but a bootstrap token, the way
// kubeadm does: it reads the public cluster-info document without trusting the connection,
// verifies the document's signature with the token's secret and its authority with a pin, and
// reads it again over a connection that this authority vouches for.
package discovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Cluster is what cluster-info says.
type Cluster struct {
	// CAPEM holds the cluster's authority.
	CAPEM []byte
	// Endpoint is the API's URL as the cluster publishes it; Server the one that answered.
	Endpoint, Server string
	// Token is the one whose signature was verified.
	Token kubeadm.Token
	// Date is the API server's clock.
	Date time.Time
}

// Question is what a joining machine knows.
type Question struct {
	// Servers are URLs of API servers, the preferred one first. Any of them will do.
	Servers []string
	// Tokens are tried in order; one of them has to have signed the document.
	Tokens []kubeadm.Token
	// Pins are the authorities that are accepted: "sha256:" and the hexadecimal SHA-256 of a
	// SubjectPublicKeyInfo. Empty accepts what the token's signature vouches for.
	Pins []string
	// Timeout bounds one request; 0 means 10 s.
	Timeout time.Duration
	// Dial connects to servers that this machine's own network does not lead to; nil uses that.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ErrUntrusted marks a cluster that answered and is not the one to join. Waiting rarely
// cures that.
var ErrUntrusted = errors.New("the cluster that answers is not the one to join")

// ErrClock marks a cluster whose certificate this machine does not believe in because the two
// have different times. It is the one to join: the token vouches for it.
var ErrClock = errors.New("the clocks are apart")

// MaxSkew is how far the clocks of two machines may be apart. Certificates are valid from
// five minutes before they were made.
const MaxSkew = time.Minute

// Apart is an error if the clock of another machine, which date is read from, and the one of this
// machine are too far apart. Who did not say the time has none.
func Apart(name string, date time.Time) error {
	now := time.Now()
	if date.IsZero() || now.Sub(date).Abs() <= MaxSkew {
		return nil
	}
	return fmt.Errorf("%w: that of this machine says %s and that of %s %s; let both reach a time server",
		ErrClock, now.UTC().Format(time.RFC3339), name, date.UTC().Format(time.RFC3339))
}

const infoPath = "/api/v1/namespaces/kube-public/configmaps/" + bootstrap.ConfigMapClusterInfo

// maxDocument bounds what is read before anything is verified.
const maxDocument = 1 << 20

// Find asks every server at the same time and returns what the first of them in the given
// order says; the error holds what was wrong with each. It asks once.
func Find(ctx context.Context, q Question) (*Cluster, error) {
	if q.Timeout == 0 {
		q.Timeout = 10 * time.Second
	}
	type result struct {
		c   *Cluster
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]chan result, len(q.Servers))
	for i, server := range q.Servers {
		results[i] = make(chan result, 1)
		go func() {
			c, err := q.from(ctx, server)
			results[i] <- result{c, err}
		}()
	}
	var errs []error
	for _, r := range results {
		got := <-r
		if got.err == nil {
			return got.c, nil
		}
		errs = append(errs, got.err)
	}
	if errs == nil {
		return nil, errors.New("no server is known to ask for the cluster")
	}
	return nil, errors.Join(errs...)
}

func (q Question) from(ctx context.Context, server string) (*Cluster, error) {
	// The answer is verified below; at this point nothing is known to verify the server with.
	first, date, err := q.get(ctx, server, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
	if err != nil {
		return nil, err
	}
	document, token, err := signed(first, q.Tokens)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	c, err := parse(document, q.Pins)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	c.Server, c.Token, c.Date = server, token, date
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CAPEM)
	second, _, err := q.get(ctx, server, &tls.Config{RootCAs: pool})
	if err != nil {
		err = fmt.Errorf("with the cluster's authority: %w", err)
		var invalid x509.CertificateInvalidError
		if apart := Apart(server, date); apart != nil && errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			err = fmt.Errorf("%w (%w)", apart, err)
		}
		return nil, err
	}
	if again, _, err := signed(second, q.Tokens); err != nil || again != document {
		return nil, fmt.Errorf("%s: %w: its verified cluster-info is another than the one it showed first", server, ErrUntrusted)
	}
	return c, nil
}

// get reads the cluster-info ConfigMap.
func (q Question) get(ctx context.Context, server string, cfg *tls.Config) (map[string]string, time.Time, error) {
	cfg.MinVersion = tls.VersionTLS12
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	if q.Dial != nil {
		transport.DialContext, transport.Proxy = q.Dial, nil
	}
	client := &http.Client{Timeout: q.Timeout, Transport: transport}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+infoPath, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		var call *url.Error // its own text repeats the address
		if errors.As(err, &call) {
			err = call.Err
		}
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, time.Time{}, fmt.Errorf("%s does not answer: %w", server, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", server, err)
	}
	date, _ := http.ParseTime(resp.Header.Get("Date"))
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden, http.StatusUnauthorized:
		return nil, date, fmt.Errorf("%s has not published cluster-info yet (%s)", server, resp.Status)
	default:
		return nil, date, fmt.Errorf("%s answers %s", server, resp.Status)
	}
	var cm corev1.ConfigMap
	if err := json.Unmarshal(body, &cm); err != nil {
		return nil, date, fmt.Errorf("%s: its answer is no ConfigMap", server)
	}
	return cm.Data, date, nil
}

// signed returns the document if one of the tokens signed it.
func signed(data map[string]string, tokens []kubeadm.Token) (string, kubeadm.Token, error) {
	document := data[bootstrap.KubeConfigKey]
	if document == "" {
		return "", kubeadm.Token{}, errors.New("cluster-info is empty")
	}
	var ids []string
	for _, t := range tokens {
		sig, ok := data[bootstrap.JWSSignatureKeyPrefix+t.ID]
		if !ok {
			ids = append(ids, t.ID)
			continue
		}
		if !jws.DetachedTokenIsValid(sig, document, t.ID, t.Secret.Reveal()) {
			return "", t, fmt.Errorf("%w: the signature of token %s on cluster-info is not made with the token's secret", ErrUntrusted, t.ID)
		}
		return document, t, nil
	}
	return "", kubeadm.Token{}, fmt.Errorf("cluster-info is not signed with bootstrap token %v; it expired, was removed, or its controller has not run yet", ids)
}

// parse reads the signed document and holds its authority against the pins.
func parse(document string, pins []string) (*Cluster, error) {
	var cfg clientcmd.Config
	if err := yaml.Unmarshal([]byte(document), &cfg); err != nil || len(cfg.Clusters) != 1 {
		return nil, errors.New("cluster-info does not hold a kubeconfig with one cluster")
	}
	info := cfg.Clusters[0].Cluster
	var certs []*x509.Certificate
	for block, rest := pem.Decode(info.CertificateAuthorityData); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the authority in cluster-info: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("cluster-info names no authority")
	}
	if len(pins) > 0 && !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return slices.Contains(pins, pin(c)) }) {
		return nil, fmt.Errorf("%w: its authority is %s, join.caCertHashes has %v", ErrUntrusted, pin(certs[0]), pins)
	}
	return &Cluster{CAPEM: append(bytes.TrimSpace(info.CertificateAuthorityData), '\n'), Endpoint: info.Server}, nil
}

func pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}
