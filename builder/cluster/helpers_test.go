// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

func gunzip(t *testing.T, data []byte) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
