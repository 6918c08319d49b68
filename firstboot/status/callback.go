// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Callback posts events to a URL, in order, without ever holding up first boot: events
// wait in a bounded queue and the oldest is dropped when it is full.
type Callback struct {
	url    string
	bearer string
	client *http.Client
	queue  chan Event
	done   chan struct{}
	cancel context.CancelFunc
	// Flush is how long Close waits for the queue to drain.
	Flush time.Duration
	// Pause is slept before an event is tried again.
	Pause time.Duration
}

// queueLength holds every transition of a run several times over.
const queueLength = 256

// NewCallback prepares a callback. CA, when not empty, is the PEM text https is verified
// against; bearer, when not empty, is sent as a bearer token.
func NewCallback(url, ca, bearer string) (*Callback, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("callback.ca holds no PEM certificate")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Callback{
		url: url, bearer: bearer,
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		queue:  make(chan Event, queueLength),
		done:   make(chan struct{}),
		cancel: cancel, Flush: 5 * time.Second, Pause: time.Second,
	}
	go c.loop(ctx)
	return c, nil
}

// Send queues an event. It must not be called after Close.
func (c *Callback) Send(e Event) {
	for {
		select {
		case c.queue <- e:
			return
		default:
		}
		select {
		case <-c.queue:
		default:
		}
	}
}

// Close waits until the queue is empty or Flush has passed.
func (c *Callback) Close() {
	close(c.queue)
	select {
	case <-c.done:
	case <-time.After(c.Flush):
	}
	c.cancel()
	<-c.done
}

func (c *Callback) loop(ctx context.Context) {
	defer close(c.done)
	for e := range c.queue {
		body, err := json.Marshal(e)
		if err != nil {
			continue
		}
		for attempt := 0; attempt < 5 && c.post(ctx, body) != nil; attempt++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(c.Pause):
			}
		}
	}
}

func (c *Callback) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s answered %s", c.url, resp.Status)
	}
	return nil
}
