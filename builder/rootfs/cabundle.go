// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// CABundle is where Go, OpenSSL (through its default file) and GnuTLS look.
const CABundle = "/etc/ssl/certs/ca-certificates.crt"

// caSources is where ca-certificates ships its certificates.
const caSources = "/usr/share/ca-certificates"

// caBundle joins every certificate that ca-certificates ships into one file, ordered by
// path. The single files leave the image: the bundle is what programs read, and a pod
// that mounts /etc/ssl/certs needs nothing else.
func (c *composer) caBundle() error {
	var bundle bytes.Buffer
	seen := false
	for _, n := range c.t.Below(caSources) {
		if n.Kind != tree.Regular || path.Ext(n.Path) != ".crt" {
			continue
		}
		seen = true
		data, err := n.Content.ReadAll()
		if err != nil {
			return err
		}
		block, rest := pem.Decode(data)
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("%s: want exactly one PEM block", n.Path)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		bundle.Write(bytes.TrimSpace(data))
		bundle.WriteByte('\n')
	}
	if !seen {
		return nil
	}
	c.t.Remove(caSources)
	return c.put("ca-bundle", CABundle, bundle.String())
}
