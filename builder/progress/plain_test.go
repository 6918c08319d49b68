// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	sink := &plain{w: &out, interval: 5 * time.Second, now: func() time.Time { return clock }}

	task := sink.Start("fetch linux", 4096)
	task.Add(1024) // too soon for a line
	clock = clock.Add(6 * time.Second)
	task.Add(1024)
	clock = clock.Add(time.Second)
	task.Note("resumed")
	task.Add(2048)
	task.Done(nil)
	task.Done(errors.New("a second end is ignored"))

	sink.Start("over at once", 10).Done(nil)

	broken := sink.Start("compile", 0)
	clock = clock.Add(1500 * time.Millisecond)
	broken.Done(errors.New("boom"))
	stopped := sink.Start("download", 0)
	clock = clock.Add(time.Second)
	stopped.Done(fmt.Errorf("download: %w", context.Canceled))

	want := "  ... fetch linux 2.0 KiB of 4.0 KiB (50%)\n" +
		"  ok  fetch linux 4.0 KiB (resumed) 7s\n" +
		"  FAIL compile after 1.5s\n" +
		"  stopped download after 1s\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 512 << 20: "512.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}
