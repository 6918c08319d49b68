// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// ErrAbsent reports that the machine has no node document.
var ErrAbsent = errors.New("no node document")

// Load reads, decodes, completes and validates the document at path and returns it with
// the digest ("sha256:...") of its bytes. A missing file wraps ErrAbsent; a wrong document
// is a strict.Problems with every problem.
func Load(path string) (*Node, string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: %w; deliver it as a storage file of the Ignition config", path, ErrAbsent)
	}
	if err != nil {
		return nil, "", err
	}
	n, err := Parse(path, data)
	return n, Digest(data), err
}

// Digest names the bytes of a document.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Parse decodes one document strictly, fills its defaults and validates it. File names it
// in problems. On error the node is nil and the error a strict.Problems.
func Parse(file string, data []byte) (*Node, error) {
	n := &Node{}
	doc := strict.Decode(file, data, n, strict.EmptyIsZero)
	SetDefaults(n)
	validate(doc, n)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return n, nil
}

// Secrets returns every secret value of the document, for redaction.
func (n *Node) Secrets() []string {
	out := []string{n.PKI.CertificateKey.Reveal(), n.VIP.Password.Reveal(), n.Callback.Token.Reveal()}
	for _, t := range n.BootstrapTokens {
		out = append(out, t.Token.Reveal())
		if _, secret, ok := t.Token.Split(); ok {
			out = append(out, secret)
		}
	}
	return out
}
