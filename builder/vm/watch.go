// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
)

// pollInterval is how often the API is asked. It bounds how late an observation can be.
const pollInterval = 200 * time.Millisecond

// watcher asks the API of a booting node from outside.
type watcher struct {
	url    string
	client *http.Client
	stream *http.Client // without a limit on the time of an answer
	// since is when the machine was started or reset. A node's Ready condition with an older
	// heartbeat speaks of an earlier boot.
	since time.Time
}

func newWatcher(address string, config *tls.Config, since time.Time) *watcher {
	// A connection that the port forwarding accepted before anything listened is not worth
	// keeping.
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	return &watcher{url: "https://" + address, since: since,
		client: &http.Client{Timeout: 5 * time.Second, Transport: transport}, stream: &http.Client{Transport: transport}}
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
	for w.get(ctx, "/version", nil) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
	if answered != nil {
		answered()
	}
	for w.awaitNodes(ctx) != nil || w.nodesReady(ctx) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
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

// awaitNodes watches until every node that it was told of is Ready. There may be more nodes,
// for a watch begins with what exists one by one, in no order.
func (w *watcher) awaitNodes(ctx context.Context) error {
	nodes := map[string]bool{}
	return w.follow(ctx, func() {}, func(n core.Node, there bool) (done bool) {
		if there {
			nodes[n.Name] = nodeReady(n, w.since)
		} else {
			delete(nodes, n.Name)
		}
		return len(nodes) > 0 && !slices.Contains(slices.Collect(maps.Values(nodes)), false)
	})
}

// watchSeconds is how long a watch lasts before it is begun anew: the server of one may have
// gone without a word.
const watchSeconds = 40

// follow calls answered when the server takes the watch, then changed with every node there is
// and with every change, until that returns true or the watch ends. Asking for a list again and again instead would take the time of machines
// that have none to spare: each list makes the API server ask a quorum of etcd how recent it
// is. What its cache has is recent enough here, and what resourceVersion=0 means.
func (w *watcher) follow(ctx context.Context, answered func(), changed func(n core.Node, there bool) (done bool)) error {
	ctx, cancel := context.WithTimeout(ctx, (watchSeconds+10)*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/nodes?watch=true&resourceVersion=0&timeoutSeconds=%d", w.url, watchSeconds), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := w.stream.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("watching nodes: %s", resp.Status)
	}
	answered()
	for events := json.NewDecoder(resp.Body); ; {
		var e struct {
			Type   string    `json:"type"`
			Object core.Node `json:"object"`
		}
		if err := events.Decode(&e); err != nil {
			return err
		}
		switch e.Type {
		case "ADDED", "MODIFIED", "DELETED":
			if changed(e.Object, e.Type != "DELETED") {
				return nil
			}
		default:
			return fmt.Errorf("watching nodes: event %s", e.Type)
		}
	}
}

func nodeReady(n core.Node, since time.Time) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == core.NodeReady {
			return c.Status == core.ConditionTrue && c.LastHeartbeatTime.After(since)
		}
	}
	return false
}
