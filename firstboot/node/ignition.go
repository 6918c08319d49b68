// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	ignition "github.com/coreos/ignition/v2/config/v3_5"
)

// ErrIgnition reports an Ignition config that is invalid or holds no usable node document.
var ErrIgnition = errors.New("not a usable Ignition config")

// maxDocument bounds a decompressed document in bytes.
const maxDocument = 16 << 20

// FromIgnition validates an Ignition config (spec 3.x up to 3.5) with Ignition's own types
// and returns the node document inside: the storage file at Path with its content inline,
// as a data URL. On a node the document is read from the file that Ignition wrote; this is
// for whoever writes configs.
func FromIgnition(file string, data []byte) ([]byte, error) {
	cfg, rep, err := ignition.ParseCompatibleVersion(data)
	if err != nil || rep.IsFatal() {
		var lines []string
		for _, e := range rep.Entries {
			lines = append(lines, file+": "+e.String())
		}
		if err != nil {
			lines = append(lines, file+": "+err.Error())
		}
		return nil, fmt.Errorf("%w:\n%s", ErrIgnition, strings.Join(lines, "\n"))
	}
	for _, f := range cfg.Storage.Files {
		if f.Path != Path {
			continue
		}
		if f.Contents.Source == nil {
			return nil, fmt.Errorf("%s: %w: storage file %s has no contents", file, ErrIgnition, Path)
		}
		doc, err := dataURL(*f.Contents.Source)
		if err == nil && f.Contents.Compression != nil && *f.Contents.Compression == "gzip" {
			doc, err = gunzip(doc)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w: storage file %s: %w", file, ErrIgnition, Path, err)
		}
		return doc, nil
	}
	return nil, fmt.Errorf("%s: %w: no storage file %s; configs that this one merges or replaces are not followed", file, ErrIgnition, Path)
}

// dataURL decodes a data URL (RFC 2397).
func dataURL(source string) ([]byte, error) {
	rest, ok := strings.CutPrefix(source, "data:")
	if !ok {
		return nil, errors.New("the contents are not inline; only data URLs can be read here")
	}
	head, body, ok := strings.Cut(rest, ",")
	if !ok {
		return nil, errors.New("the data URL has no comma")
	}
	text, err := url.PathUnescape(body)
	if err != nil {
		return nil, errors.New("the data URL has an invalid escape")
	}
	if !strings.HasSuffix(head, ";base64") {
		return []byte(text), nil
	}
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("the data URL is not valid base64")
	}
	return doc, nil
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(out) > maxDocument {
		err = fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	return out, err
}
