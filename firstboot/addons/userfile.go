// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// UserObject is an object of a user's manifest, and where it was written.
type UserObject struct {
	File string
	// Document counts the documents of the file from 1; empty ones count, too.
	Document int
	Obj      *unstructured.Unstructured
}

// String is for messages: file, document and what the object is called.
func (o UserObject) String() string {
	return fmt.Sprintf("%s: document %d: %s", o.File, o.Document, Key(o.Obj))
}

// first says that others may need the object to be there: it makes a namespace or a kind.
func (o UserObject) first() bool {
	kind := o.Obj.GetKind()
	return kind == "Namespace" || kind == "CustomResourceDefinition"
}

// ReadManifests reads the files that network.manifests names, below root. The objects keep
// their order, except that those others need come first.
func ReadManifests(root string, files []string) ([]UserObject, error) {
	var first, rest []UserObject
	var errs []error
	for i, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("network.manifests[%d]: %s does not exist; deliver it as a storage file of the Ignition config", i, file)
		}
		var objs []UserObject
		if err == nil {
			objs, err = ParseManifest(file, text)
		}
		errs = append(errs, err)
		for _, o := range objs {
			if o.first() {
				first = append(first, o)
			} else {
				rest = append(rest, o)
			}
		}
	}
	return append(first, rest...), errors.Join(errs...)
}

// ParseManifest reads the objects of a file: YAML documents or JSON, lists taken apart. All
// problems are reported together; none quotes the file, which may hold secrets.
func ParseManifest(file string, text []byte) ([]UserObject, error) {
	var out []UserObject
	var errs []error
	docs := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: document %d: %w", file, n, err))
			break
		}
		objs, err := parseDocument(doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: document %d: %w", file, n, err))
		}
		for _, o := range objs {
			out = append(out, UserObject{File: file, Document: n, Obj: o})
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: holds no object; write at least one, or leave the file out of network.manifests", file))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func parseDocument(doc []byte) ([]*unstructured.Unstructured, error) {
	var content any
	if err := yaml.UnmarshalStrict(doc, &content); err != nil {
		return nil, errors.New("is not YAML, or names a field twice; check it with kubectl apply --dry-run=client")
	}
	if content == nil {
		return nil, nil // comments
	}
	fields, ok := content.(map[string]any)
	if !ok {
		return nil, errors.New("is not an object; one begins with apiVersion and kind")
	}
	u := &unstructured.Unstructured{Object: fields}
	if items, ok := fields["items"].([]any); ok && u.GetKind() == "List" {
		var out []*unstructured.Unstructured
		var errs []error
		for i, item := range items {
			fields, _ := item.(map[string]any)
			one := &unstructured.Unstructured{Object: fields}
			if err := complete(one); err != nil {
				errs = append(errs, fmt.Errorf("items[%d]: %w", i, err))
			}
			out = append(out, one)
		}
		return out, errors.Join(errs...)
	}
	return []*unstructured.Unstructured{u}, complete(u)
}

// complete says what an object lacks to be written.
func complete(u *unstructured.Unstructured) error {
	switch {
	case u.Object == nil:
		return errors.New("is not an object")
	case u.GetAPIVersion() == "":
		return errors.New("apiVersion is missing")
	case u.GetKind() == "":
		return errors.New("kind is missing")
	case u.GetName() == "":
		return errors.New("metadata.name is missing; a generated name would make another object every time")
	}
	return nil
}
