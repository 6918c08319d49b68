// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"io"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Bars is a Sink that draws one bar per running task on a terminal. Close must be called
// before anything else is written there.
type Bars struct{ p *mpb.Progress }

// NewBars returns a Sink for the terminal behind w.
func NewBars(w io.Writer) *Bars {
	return &Bars{p: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithAutoRefresh())}
}

// Start implements Sink.
func (b *Bars) Start(name string, total int64) Task {
	t := &barTask{}
	t.note.Store("")
	label := decor.Any(func(decor.Statistics) string { return t.note.Load().(string) }, decor.WCSyncSpaceR)
	if total > 0 {
		t.bar = b.p.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace), label))
	} else {
		t.bar = b.p.New(0, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS), label))
	}
	return t
}

// Close waits until the last frame is drawn.
func (b *Bars) Close() { b.p.Shutdown() }

type barTask struct {
	bar   *mpb.Bar
	note  atomic.Value
	ended atomic.Bool
}

func (t *barTask) Total(n int64)    { t.bar.SetTotal(n, false) }
func (t *barTask) Add(n int64)      { t.bar.IncrInt64(n) }
func (t *barTask) Note(text string) { t.note.Store(text) }

func (t *barTask) Done(err error) {
	if t.ended.Swap(true) {
		return
	}
	if err != nil {
		t.bar.Abort(true)
		return
	}
	t.bar.SetTotal(-1, true)
}
