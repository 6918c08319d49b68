// SPDX-License-Identifier: Apache-2.0

package status

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock relates wall-clock readings to kernel start.
type Clock struct {
	// Uptime returns the time since kernel start, sleep included (CLOCK_BOOTTIME).
	Uptime func() time.Duration
	Now    func() time.Time
}

// SystemClock reads the machine's clocks.
func SystemClock() Clock {
	return Clock{Now: time.Now, Uptime: func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			return 0 // the clock exists since Linux 2.6.39
		}
		return time.Duration(ts.Nano())
	}}
}

// BootID returns the kernel's boot id, or "" where there is none.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// seconds rounds to milliseconds, which keeps the file readable.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
