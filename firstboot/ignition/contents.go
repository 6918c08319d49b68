// SPDX-License-Identifier: Apache-2.0

// Package ignition puts content into Ignition configs and takes it out again. What decides
// over a config is Ignition's own code; this is the part that configs leave to their writers.
package ignition

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/vincent-petithory/dataurl"
)

const (
	// packFrom is the size in bytes from which content is compressed.
	packFrom = 2 << 10
	// most bounds decompressed content in bytes.
	most = 16 << 20
)

// compressed is the only compression that Ignition knows.
const compressed = "gzip"

// Contents puts the content of a file into a data URL (RFC 2397), compressed when that saves
// a tenth. Configs travel through places that are small (the user data of clouds) or slow
// (QEMU's fw_cfg, which a guest reads byte by byte).
func Contents(data []byte) types.Resource {
	var r types.Resource
	if len(data) > packFrom {
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one of gzip's own
		_, _ = w.Write(data)                                       // a Buffer does not fail
		_ = w.Close()
		if packed.Len() < len(data)*9/10 {
			data = packed.Bytes()
			kind := compressed
			r.Compression = &kind
		}
	}
	source := dataurl.EncodeBytes(data)
	r.Source = &source
	return r
}

// Data returns the content of a resource that holds it inline. Nothing is fetched, and errors
// never quote content.
func Data(r types.Resource) ([]byte, error) {
	if r.Source == nil {
		return nil, errors.New("there are no contents")
	}
	if !strings.HasPrefix(*r.Source, "data:") {
		return nil, errors.New("the contents are not inline; only data URLs can be read here")
	}
	url, err := dataurl.DecodeString(*r.Source)
	if err != nil {
		return nil, errors.New("the data URL is invalid") // the cause could quote a part of it
	}
	switch {
	case r.Compression == nil || *r.Compression == "":
		return url.Data, nil
	case *r.Compression != compressed:
		return nil, fmt.Errorf("the compression %q is not known; Ignition has %s", *r.Compression, compressed)
	}
	return gunzip(url.Data)
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the gzip data is damaged: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the gzip data is damaged: %w", err)
	case len(out) > most:
		return nil, fmt.Errorf("the contents are larger than %d bytes", most)
	}
	return out, nil
}
