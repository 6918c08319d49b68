// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// maxRounds ends a transfer that an origin feeds byte by byte.
const maxRounds = 1000

// transfer is the work on one item.
type transfer struct {
	*run
	item Item
	urls []string
	task progress.Task
	// dead holds the URLs that will not help in this run, and why.
	dead map[string]error
	// reported is how many bytes the task was told about; bytes that are received twice
	// count once.
	reported int64
}

// fetch puts one item into the store.
func (r *run) fetch(ctx context.Context, it Item) (err error) {
	t := &transfer{run: r, item: it, urls: slices.Clone(it.URLs), dead: map[string]error{}}
	t.task = r.Sink.Start(it.Name, it.Size)
	defer func() { t.task.Done(err) }()
	size := it.Size
	if size <= 0 {
		size = -1
	}
	// Wrong bytes may be the fault of one mirror or of a resumed transfer, so there is a
	// second try from scratch, beginning with the next URL.
	for try := 1; ; try++ {
		_, err := r.st.Put(ctx, it.SHA256, size, t.fill)
		var wrong *store.MismatchError
		if !errors.As(err, &wrong) || try >= max(2, len(it.URLs)) {
			return err
		}
		t.task.Note("wrong bytes, starting over")
		t.urls = append(t.urls[1:], t.urls[0])
	}
}

// fill receives the missing end of the item, trying its URLs in turn until all of them
// are dead or nothing arrived for a number of rounds.
func (t *transfer) fill(ctx context.Context, partial *os.File) error {
	idle := 0
	var last error
	for range maxRounds {
		advanced, pause := false, time.Duration(0)
		for _, u := range t.urls {
			if t.dead[u] != nil {
				continue
			}
			if t.down.Load() && !t.reached.Load() {
				return fmt.Errorf("not tried: %w", errUnreachable)
			}
			n, err := t.request(ctx, u, partial)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil || errors.Is(err, errLocal) {
				return errors.Join(context.Cause(ctx), err)
			}
			advanced = advanced || n > 0
			last = fmt.Errorf("%s: %w", redact(u), err)
			var p *passing
			if errors.As(err, &p) {
				pause = max(pause, p.after)
			} else {
				t.dead[u] = last
			}
		}
		if len(t.dead) == len(t.urls) {
			return t.verdict()
		}
		if idle++; advanced {
			idle = 0
		}
		if idle >= t.Attempts {
			break
		}
		t.task.Note("retrying: " + last.Error())
		if err := sleep(ctx, max(pause, t.pause(idle))); err != nil {
			return err
		}
	}
	if errors.Is(last, errUnreachable) && !t.reached.Load() {
		t.down.Store(true)
	}
	return last
}

// verdict is the error when every URL is dead: all of their reasons. An item that is gone
// from some of its URLs and unavailable from others is not known to be gone.
func (t *transfer) verdict() error {
	errs, gone := []error{}, 0
	for _, u := range t.urls {
		errs = append(errs, t.dead[u])
		if errors.Is(t.dead[u], errGone) {
			gone++
		}
	}
	if len(errs) == 0 {
		return errors.New("the pin has no URL")
	}
	if gone > 0 && gone < len(errs) {
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, errGone) })
	}
	return errors.Join(errs...)
}

// pause returns how long to wait after so many failures in a row: exponential, capped, and
// scattered over its upper half so that parallel transfers do not retry in step.
func (r *run) pause(failures int) time.Duration {
	d := min(r.Backoff<<min(max(failures-1, 0), 10), 30*r.Backoff)
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// progressTo tells the task that n bytes of the item are on disk.
func (t *transfer) progressTo(n int64) {
	if n > t.reported {
		t.task.Add(n - t.reported)
		t.reported = n
	}
}
