// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"sync"
	"time"
)

type reportKey struct{}

// repeatAfter is how long an unchanged reason is not told again.
const repeatAfter = 30 * time.Second

// Report says why the phase that ctx belongs to still waits. Observers see the phase as
// retrying, with this error. The same reason is told again only after half a minute, so it
// may be called as often as the phase looks.
func Report(ctx context.Context, err error) {
	if f, ok := ctx.Value(reportKey{}).(func(error)); ok && err != nil {
		f(err)
	}
}

func withReport(ctx context.Context, tell func(error)) context.Context {
	var mu sync.Mutex
	var last string
	var at time.Time
	return context.WithValue(ctx, reportKey{}, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err.Error() == last && time.Since(at) < repeatAfter {
			return
		}
		last, at = err.Error(), time.Now()
		tell(err)
	})
}
