// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Items returns what to download for pkgs. Without mirrors the items have no URLs, which
// is enough for asking what the store holds.
func Items(pkgs []lock.Package, mirrors Mirrors) []fetch.Item {
	items := make([]fetch.Item, len(pkgs))
	for i, p := range pkgs {
		urls, _ := mirrors.URLs(p.Archive, p.Path)
		items[i] = fetch.Item{Name: p.Name + " " + p.Version, URLs: urls, Size: p.Size, SHA256: store.Digest(p.SHA256)}
	}
	return items
}

// Fetch makes sure the store holds every package of pkgs. Mirrors is called only when
// something is missing, so that a warm build does not need to know one.
func Fetch(ctx context.Context, st *store.Store, pkgs []lock.Package, mirrors func() (Mirrors, error), o fetch.Options) error {
	var missing []lock.Package
	for _, p := range pkgs {
		if !st.Has(store.Digest(p.SHA256)) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if o.Offline { // fetch reports what is missing
		return fetch.Fetch(ctx, st, Items(missing, nil), o)
	}
	m, err := mirrors()
	if err != nil {
		return err
	}
	for _, p := range missing {
		if _, err := m.URLs(p.Archive, p.Path); err != nil {
			return err
		}
	}
	return fetch.Fetch(ctx, st, Items(missing, m), o)
}
