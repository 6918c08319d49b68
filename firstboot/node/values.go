// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Secret is a string that formats as "[redacted]" with every fmt verb and in JSON. YAML
// keeps the value, because the document itself is where it lives.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter so that no verb reaches the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Reveal returns the value, for the one place that must use it.
func (s Secret) Reveal() string { return string(s) }

// Split returns the id and the secret of a bootstrap token.
func (s Secret) Split() (id, secret string, ok bool) { return strings.Cut(string(s), ".") }

// Duration is a time.Duration written as Go writes it ("90s", "8760h").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("is not a duration; write for example 90s, 5m or 8760h")
	}
	*d = Duration(v)
	return nil
}

// D returns the duration as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }
