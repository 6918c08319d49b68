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
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Callback posts events to a URL, in order, without ever holding up first boot: events
// wait in a bounded queue until the server takes them. When it is full the oldest is dropped.
type Callback struct {
	url, host string
	bearer    string
	client    *http.Client
	queue     chan Event
	done      chan struct{}
	cancel    context.CancelFunc
	// Flush is how long Close waits for the queue to drain.
	Flush time.Duration
	// Pause is slept before an event is tried again.
	Pause time.Duration
	// Log is told of the first failure; nil means nobody is. It is set before the first event.
	Log *slog.Logger

	dropped int   // by Send
	lost    int   // by loop, until done
	why     error // the last failure
}

// queueLength holds every transition of a run several times over.
const queueLength = 256

// LastFlush is for a process that nobody waits for and that is not started again: the server
// may be away for a moment, and hears of what became of the machine now or never.
const LastFlush = time.Minute

// tries is how often an event is posted that the server refuses for what it is, or for whom it
// is from. It must not keep others from getting through.
const tries = 5

// NewCallback prepares a callback. CA, when not empty, is the PEM text https is verified
// against; bearer, when not empty, is sent as a bearer token.
func NewCallback(to, ca, bearer string) (*Callback, error) {
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
		url: to, host: "the server", bearer: bearer,
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: stay},
		queue:  make(chan Event, queueLength),
		done:   make(chan struct{}),
		cancel: cancel, Flush: 5 * time.Second, Pause: time.Second,
	}
	if u, err := url.Parse(to); err == nil {
		c.host = u.Host // path and query may hold a secret
	}
	go c.loop(ctx)
	return c, nil
}

// stay follows no redirect: an event would become a GET, and the token would go wherever the
// answer leads, in clear too.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Send queues an event. It must not be called after Close, nor twice at once.
func (c *Callback) Send(e Event) {
	for {
		select {
		case c.queue <- e:
			return
		default:
		}
		select {
		case <-c.queue:
			c.dropped++
		default:
		}
	}
}

// Close waits until the queue is empty or Flush has passed. The error says how many events did
// not get through.
func (c *Callback) Close() error {
	close(c.queue)
	select {
	case <-c.done:
	case <-time.After(c.Flush):
	}
	c.cancel()
	<-c.done
	n, why := c.dropped+c.lost, c.why
	if n == 0 {
		return nil
	}
	if why == nil {
		why = errors.New("it did not answer in time")
	}
	return fmt.Errorf("%d events did not get to the callback at %s: %w", n, c.host, why)
}

// Abandon makes Close return at once, also one that waits already.
func (c *Callback) Abandon() { c.cancel() }

func (c *Callback) loop(ctx context.Context) {
	defer close(c.done)
	for e := range c.queue {
		if !c.deliver(ctx, e) {
			c.lost++
		}
	}
}

// deliver posts an event until the server has it. An event is given up when the server refuses
// it again and again, and at the end.
func (c *Callback) deliver(ctx context.Context, e Event) bool {
	body, err := json.Marshal(e)
	if err != nil {
		c.failed(err)
		return false
	}
	for refused := 0; ctx.Err() == nil; {
		err := c.post(ctx, body)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		}
		c.failed(err)
		if errors.As(err, new(refusal)) {
			refused++
		}
		if refused == tries {
			return false
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.Pause):
		}
	}
	return false
}

func (c *Callback) failed(err error) {
	if c.why == nil && c.Log != nil {
		c.Log.Warn("callback", "host", c.host, "problem", err)
	}
	c.why = err
}

// post sends an event once. Its errors name neither path nor query.
func (c *Callback) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return inner(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return inner(err)
	}
	resp.Body.Close()
	switch code := resp.StatusCode; {
	case code < 300:
		return nil
	case code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		return refusal(code)
	default:
		return fmt.Errorf("it answers %s", named(code))
	}
}

// refusal is the status of an answer that will be the same for the same event.
type refusal int

func (r refusal) Error() string {
	text := "it answers " + named(int(r))
	if r < 400 {
		text += "; events are not sent elsewhere: give callback.url the address that it leads to"
	}
	return text
}

// named says an answer in words of our own: the server's could repeat what it was sent.
func named(code int) string { return fmt.Sprintf("%d %s", code, http.StatusText(code)) }

// inner takes the URL off an error of net/http.
func inner(err error) error {
	var call *url.Error
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}
