// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MiB is 2^20 bytes, the granularity of partitions.
const MiB = 1 << 20

// sizeUnits are the suffixes of a quantity. Decimal units are refused rather than
// guessed at: MB means 10^6 to some and 2^20 to others.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// ParseSize reads a quantity such as "512MiB" and returns it in bytes.
func ParseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || strings.HasPrefix(digits, "+") {
			return 0, fmt.Errorf("size %q: %q is not a whole number", s, digits)
		}
		if n > math.MaxInt64/uint64(u.bytes) {
			return 0, fmt.Errorf("size %q is too large", s)
		}
		return int64(n) * u.bytes, nil
	}
	return 0, fmt.Errorf("size %q is not a whole number followed by KiB, MiB, GiB or TiB", s)
}
