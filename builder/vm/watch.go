// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	core "k8s.io/api/core/v1"
)

// pollInterval is how often the API is asked. It bounds how late an observation can be.
const pollInterval = 200 * time.Millisecond

// watcher asks the API of a booting node from outside.
type watcher struct {
	url    string
	client *http.Client
	// since is when the machine was started or reset. A node's Ready condition with an older
	// heartbeat speaks of an earlier boot.
	since time.Time
}

func newWatcher(address string, config *tls.Config, since time.Time) *watcher {
	return &watcher{url: "https://" + address, since: since, client: &http.Client{
		Timeout: 5 * time.Second,
		// A connection that the port forwarding accepted before anything listened is not
		// worth keeping.
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
	}}
}

// get decodes an answer of 200 into out, when out is not nil.
func (w *watcher) get(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// watch reports the API's first answer and the first time every node is Ready, then returns.
// It returns ctx's error when that ends first.
func (w *watcher) watch(ctx context.Context, answered, ready func()) error {
	ask := func() error { return w.get(ctx, "/version", nil) }
	for range 2 {
		for ask() != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollInterval):
			}
		}
		if answered != nil {
			answered()
			answered = nil
			ask = func() error { return w.nodesReady(ctx) }
		}
	}
	ready()
	return nil
}

// nodesReady returns nil when there is a node and all are Ready.
func (w *watcher) nodesReady(ctx context.Context) error {
	var list core.NodeList
	if err := w.get(ctx, "/api/v1/nodes?limit=100", &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		return fmt.Errorf("no node has registered")
	}
	for _, n := range list.Items {
		if !nodeReady(n, w.since) {
			return fmt.Errorf("node %s is not Ready", n.Name)
		}
	}
	return nil
}

func nodeReady(n core.Node, since time.Time) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == core.NodeReady {
			return c.Status == core.ConditionTrue && c.LastHeartbeatTime.After(since)
		}
	}
	return false
}
