// SPDX-License-Identifier: Apache-2.0

// Package fetch downloads pinned bytes over HTTP(S), in parallel, into the content store.
//
// It does no network I/O for what the store already holds. A transfer that breaks goes on
// where it stopped, in the same run or the next one, as long as the origin still serves the
// same bytes (ETag, Last-Modified and total size are compared, and the digest decides).
// Passing failures are retried with exponential backoff and jitter, and an item with
// several URLs takes them in turn. Every item is tried before Fetch reports, so that one
// error names everything that is missing.
//
// Proxies come from HTTP_PROXY, HTTPS_PROXY and NO_PROXY. file:// URLs work too, for
// archives that were carried in.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Item is one pinned download.
type Item struct {
	// Name is how messages call the pin: "systemd 257.8-1~deb13u2".
	Name string
	// URLs are alternatives for the same bytes, most wanted first.
	URLs []string
	// Size in bytes, 0 when the pin does not say.
	Size   int64
	SHA256 store.Digest
}

// Options tune Fetch. The zero value is usable.
type Options struct {
	// Parallel is the number of simultaneous transfers, default 6.
	Parallel int
	// Sink receives one task per item that is not in the store yet.
	Sink progress.Sink
	// Client overrides the HTTP client; see NewClient.
	Client *http.Client
	// UserAgent defaults to "imgbuild".
	UserAgent string
	// Offline forbids network I/O: what the store does not hold is an error.
	Offline bool
	// Attempts is how often in a row an item may fail without receiving a byte, default 5.
	Attempts int
	// Backoff is the pause after the first failure, doubled for each further one up to
	// 30 times its length; default 500 ms.
	Backoff time.Duration
	// Stall is how long a transfer may stand still, default 60 s.
	Stall time.Duration
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 6
	}
	if o.Sink == nil {
		o.Sink = progress.Discard
	}
	if o.Client == nil {
		o.Client = NewClient()
	}
	if o.UserAgent == "" {
		o.UserAgent = "imgbuild"
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Backoff <= 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	return o
}

// run is what the transfers of one Fetch know together.
type run struct {
	Options
	st *store.Store
	// reached is set by the first HTTP response of any kind. Down is set when a transfer
	// gave up without one: the others then need not find out for themselves.
	reached, down atomic.Bool

	mu     sync.Mutex
	failed map[store.Digest]error
}

// Fetch makes sure that the store holds every item. Its errors have the classes Network,
// MissingPin, Digest, NoSpace and Interrupted; one error covers all items that failed.
// What was received of an interrupted transfer stays for the next call.
func Fetch(ctx context.Context, st *store.Store, items []Item, opts Options) error {
	missing := missingFrom(st, items)
	if len(missing) == 0 {
		return nil
	}
	r := &run{Options: opts.withDefaults(), st: st, failed: map[store.Digest]error{}}
	if r.Offline {
		return offlineError(missing)
	}
	parent := ctx
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	var g errgroup.Group
	g.SetLimit(r.Parallel)
	for _, it := range missing {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			err := r.fetch(ctx, it)
			if err != nil {
				r.mu.Lock()
				r.failed[it.SHA256] = err
				r.mu.Unlock()
			}
			if errors.Is(err, errLocal) || fault.ClassOf(err) == fault.NoSpace {
				stop(err) // a full disk concerns every item
			}
			return nil
		})
	}
	_ = g.Wait()
	if parent.Err() != nil {
		return fault.Wrap(fault.Interrupted, fmt.Errorf("download interrupted: %w", context.Cause(parent)),
			"run the same command again: downloads go on where they stopped")
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.report(missing)
}

// missingFrom returns the items the store does not hold, each digest once.
func missingFrom(st *store.Store, items []Item) []Item {
	seen := map[store.Digest]bool{}
	var missing []Item
	for _, it := range items {
		if seen[it.SHA256] {
			continue
		}
		seen[it.SHA256] = true
		if _, err := st.Blob(it.SHA256); err != nil {
			missing = append(missing, it)
		}
	}
	return missing
}
