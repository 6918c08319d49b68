// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// SharedFiles are the files below the PKI directory that all control planes have in common.
var SharedFiles = []string{
	"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key",
	"etcd/ca.crt", "etcd/ca.key", "sa.key", "sa.pub",
}

// Seal encrypts shared files (by name below the PKI directory) with the certificate key, 64
// hexadecimal digits: AES-256-GCM, nonce first, no additional data, as kubeadm reads it.
func Seal(files map[string][]byte, key node.Secret, random io.Reader) (map[string][]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		nonce := make([]byte, gcm.NonceSize())
		if _, err := io.ReadFull(random, nonce); err != nil {
			return nil, fmt.Errorf("encrypting %s: %w", name, err)
		}
		out[strings.ReplaceAll(name, "/", "-")] = gcm.Seal(nonce, nonce, files[name], nil)
	}
	return out, nil
}

// Open reverses Seal for one file of a kubeadm-certs secret.
func Open(sealed map[string][]byte, name string, key node.Secret) ([]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	box := sealed[strings.ReplaceAll(name, "/", "-")]
	if len(box) < gcm.NonceSize()+gcm.Overhead() {
		return nil, fmt.Errorf("secret kubeadm-certs: no usable entry for %s; upload the certificates again", name)
	}
	plain, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], nil)
	if err != nil {
		return nil, fmt.Errorf("secret kubeadm-certs: %s was encrypted with another key; check pki.certificateKey", name)
	}
	return plain, nil
}

func aead(key node.Secret) (cipher.AEAD, error) {
	raw, err := hex.DecodeString(key.Reveal())
	if err != nil || len(raw) != 32 {
		return nil, errors.New("pki.certificateKey: not 64 hexadecimal digits")
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, errors.New("pki.certificateKey: cannot be used as an AES-256 key")
	}
	return cipher.NewGCM(block)
}

// ProxyTTL is how long uploaded certificates stay readable.
const ProxyTTL = 2 * time.Hour
