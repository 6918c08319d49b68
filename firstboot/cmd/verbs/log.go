// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/imgbuild/imgbuild/firstboot/status"
)

// tail keeps the last lines written through it.
type tail struct {
	mu    sync.Mutex
	lines []string
	limit int
	out   io.Writer
	clean *status.Redactor
}

func (t *tail) Write(p []byte) (int, error) {
	text := t.clean.Text(string(p))
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.Lines(text) {
		t.lines = append(t.lines, strings.TrimRight(line, "\n"))
	}
	if extra := len(t.lines) - t.limit; extra > 0 {
		t.lines = slices.Delete(t.lines, 0, extra)
	}
	if _, err := io.WriteString(t.out, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Lines returns the lines kept, oldest first.
func (t *tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// newLog returns a logger to w that removes secrets and remembers its last 50 lines. The
// system journal adds time stamps, so the lines carry none.
func newLog(w io.Writer, clean *status.Redactor) (*slog.Logger, *tail) {
	t := &tail{limit: 50, out: w, clean: clean}
	h := slog.NewTextHandler(t, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), t
}
