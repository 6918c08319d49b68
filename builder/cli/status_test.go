// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func TestExitStatus(t *testing.T) {
	live := t.Context()
	ended, end := context.WithCancelCause(context.Background())
	end(errors.New("interrupt signal received"))
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"success", live, nil, 0},
		{"success although told to end", ended, nil, 0},
		{"unknown", live, errors.New("odd"), 1},
		{"class", live, fault.New(fault.TooSmall, "", "no room"), 8},
		{"class below", live, fmt.Errorf("image: %w", fault.New(fault.Digest, "", "wrong")), 5},
		{"outermost class", live, fault.Wrap(fault.Machine, fault.New(fault.Build, "", "tool"), ""), 10},
		{"disk full anywhere", live, fmt.Errorf("receipt: %w", syscall.ENOSPC), 7},
		{"quota", live, syscall.EDQUOT, 7},
		{"class of a full disk", live, fault.Wrap(fault.Config, syscall.ENOSPC, ""), 3},
		{"interrupted", ended, context.Canceled, 130},
		{"compiler killed with us", ended, fault.New(fault.Build, "", "signal: killed"), 130},
		{"canceled without a signal", live, context.Canceled, 1},
	} {
		if got := exitStatus(c.ctx, c.err); got != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got, c.want)
		}
	}
	if text := message(ended, context.Canceled); !strings.HasPrefix(text, "interrupted: ") {
		t.Errorf("message %q", text)
	}
}
