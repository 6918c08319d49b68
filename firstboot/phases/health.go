// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

// healthPause is slept at least between two looks at a component's health: each costs the
// API server a read from etcd, and they compete with what they wait for.
const healthPause = time.Second

// healthTimeout bounds one look. An emulated machine takes that long when all of it is busy.
const healthTimeout = 30 * time.Second

// breather is how long to wait after a look that began then: a component that takes long to
// answer is looked at less often, so that several that wait for it leave it most of its time.
func breather(began time.Time) time.Duration {
	return min(max(healthPause, 2*time.Since(began)), absence/3)
}

// probeClient asks for health as the kubelet's probes do, without verifying
// certificates: the answer carries no secret, and some of them are self-signed.
func probeClient(timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext:     (&net.Dialer{Timeout: min(timeout, absence/3)}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}}
}

// statusError is an answer that is not 200.
type statusError struct{ url, status, body string }

func (e *statusError) Error() string {
	return e.url + " answers " + e.status + ": " + e.body
}

// awaitHealth asks until url answers 200 or ctx ends, and returns the last answer then.
func awaitHealth(ctx context.Context, c *http.Client, url string) error {
	for {
		began := time.Now()
		err := health(ctx, c, url)
		if err == nil {
			return nil
		}
		if !pause(ctx, breather(began)) {
			return err
		}
	}
}

// health asks once. It reads the answer to its end, so that the next question needs no new
// connection: a handshake costs a server that starts more than the answer.
func health(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{url: url, status: resp.Status, body: string(body[:min(len(body), 512)])}
	}
	return nil
}
