// SPDX-License-Identifier: Apache-2.0

package status

import (
	"regexp"
	"strings"
	"sync"
)

const redacted = "[redacted]"

// Shapes of secrets that are removed wherever they appear, known or not: private keys in
// PEM (whole or cut off), bootstrap tokens, bearer tokens. What follows the word bearer in a
// sentence of ours ("token", "tokens") is shorter than a secret.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`),
	regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`),
	regexp.MustCompile(`(?i)bearer +[A-Za-z0-9._~+/=-]{8,}`),
}

// Redactor removes secrets from text. It is a second line of defence: secrets have a type
// that does not print. It is safe for concurrent use.
type Redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// Add registers values that must never be shown. Values shorter than 6 bytes are ignored:
// removing them would destroy ordinary text.
func (r *Redactor) Add(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if len(v) >= 6 {
			r.secrets = append(r.secrets, v)
		}
	}
}

// Text returns s without secrets.
func (r *Redactor) Text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, v := range r.secrets {
		s = strings.ReplaceAll(s, v, redacted)
	}
	for _, re := range shapes {
		s = re.ReplaceAllString(s, redacted)
	}
	return s
}

// Line returns s without secrets and on one line.
func (r *Redactor) Line(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(r.Text(s), "\n", " ")), " ")
}
