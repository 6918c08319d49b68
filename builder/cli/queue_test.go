// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// paused is a terminal that shows nothing until it is told to go on.
type paused struct {
	bytes.Buffer
	goOn chan struct{}
}

func (p *paused) Write(text []byte) (int, error) {
	<-p.goOn
	return p.Buffer.Write(text)
}

// Writing does not wait for a reader, and nothing is lost.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &paused{goOn: make(chan struct{})}
		q := newQueue(out, func(err error) { t.Error(err) })
		var want strings.Builder
		for i := range 10000 { // would block for ever
			fmt.Fprintf(io.MultiWriter(q, &want), "line %d\n", i)
		}
		closed := make(chan error)
		go func() { closed <- q.Close() }()
		synctest.Wait()
		if out.Len() > 0 {
			t.Error("something was shown while the terminal was paused")
		}
		close(out.goOn)
		if err := <-closed; err != nil || out.String() != want.String() {
			t.Errorf("%d of %d bytes are written, %v", out.Len(), want.Len(), err)
		}
	})
}

// When nobody reads any more, that is said once, and nobody waits.
func TestQueueBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		gone, told := errors.New("gone"), make(chan error, 2)
		r.CloseWithError(gone)
		q := newQueue(w, func(err error) { told <- err })
		_, _ = q.Write([]byte("a"))
		if err := <-told; err != gone {
			t.Error(err)
		}
		if _, err := q.Write([]byte("b")); err != gone {
			t.Error(err)
		}
		if err := q.Close(); err != gone || len(told) > 0 {
			t.Error(err)
		}
	})
}
