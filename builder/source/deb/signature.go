// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// verifySignatures checks each signature of block on its own, because one by an unknown
// or retired key must not hide a good one. It returns the primary key fingerprints of
// the good ones, sorted, and fails when there is none.
func verifySignatures(name string, block *clearsign.Block, ring openpgp.EntityList, now time.Time) ([]string, error) {
	raw, err := io.ReadAll(block.ArmoredSignature.Body)
	if err != nil {
		return nil, badSignature("%s: reading the signature: %v", name, err)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	var good, bad []string
	packets := packet.NewReader(bytes.NewReader(raw))
	for {
		p, err := packets.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, badSignature("%s: reading the signature: %v", name, err)
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			continue
		}
		var one bytes.Buffer
		if err := sig.Serialize(&one); err != nil {
			return nil, badSignature("%s: reading the signature: %v", name, err)
		}
		_, signer, err := openpgp.VerifyDetachedSignature(ring, bytes.NewReader(block.Bytes), &one, config)
		if err != nil {
			bad = append(bad, fingerprint(sig.IssuerFingerprint)+": "+err.Error())
			continue
		}
		good = append(good, fingerprint(signer.PrimaryKey.Fingerprint))
	}
	if len(good) == 0 {
		if len(bad) == 0 {
			bad = []string{"there is no signature"}
		}
		return nil, badSignature("%s: no signature is by a trusted key: %s", name, strings.Join(bad, "; "))
	}
	slices.Sort(good)
	return slices.Compact(good), nil
}

func fingerprint(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
