// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// EndingSignals are those that end the work in progress and let it clean up: Ctrl-C, a polite
// kill, and the end of the terminal. Who was started by nohup outlives that.
func EndingSignals() []os.Signal {
	out := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		out = append(out, syscall.SIGHUP)
	}
	return out
}
