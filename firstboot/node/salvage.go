// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Salvage returns what a document says of its callback and the secrets in it, also when Load
// refuses the document, so that somebody learns of it. The callback is empty unless its URL and
// what that is verified against are right; a token that is wrong is left out.
func Salvage(path string) (Callback, []string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Callback{}, nil
	}
	n := &Node{}
	doc := strict.Decode(path, data, n, strict.EmptyIsZero)
	(&validator{doc: doc}).callback(n)
	c := n.Callback
	for _, p := range doc.Problems() {
		switch p.Path {
		case "callback", "callback.url", "callback.ca":
			return Callback{}, n.Secrets()
		case "callback.token":
			c.Token = ""
		}
	}
	return c, n.Secrets()
}
