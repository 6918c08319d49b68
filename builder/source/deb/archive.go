// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
)

// maxInRelease bounds a Release file; Debian's are around 150 kB.
const maxInRelease = 16 << 20

// IndexOptions say which archives to read and how.
type IndexOptions struct {
	Store        *store.Store
	Mirrors      Mirrors
	Architecture string
	// Suite is the release's code name, "trixie"; its updates and security suites are
	// read with it.
	Suite string
	// Now is the time that signatures are checked at.
	Now time.Time
	// Keyring holds the trusted keys; nil means those of Debian, which are embedded.
	Keyring openpgp.EntityList
	// Fetch tunes the downloads and receives their progress.
	Fetch fetch.Options
}

// suiteRef is one suite of one archive.
type suiteRef struct{ archive, suite string }

// suites lists what a release consists of. The main suite comes first: of equal versions
// its copy is taken.
func suites(release string) []suiteRef {
	return []suiteRef{
		{MainArchive, release},
		{MainArchive, release + "-updates"},
		{SecurityArchive, release + "-security"},
	}
}

// LoadIndex fetches and verifies the archive's signed indexes. It needs the network: a
// Release file is only worth something when it is fresh. Packages files are kept in the
// store by digest.
func LoadIndex(ctx context.Context, o IndexOptions) (*Index, error) {
	refs := suites(o.Suite)
	archives := make([]lock.Archive, len(refs))
	texts := make([]string, len(refs))
	g, gctx := errgroup.WithContext(ctx)
	for i, ref := range refs {
		g.Go(func() (err error) {
			archives[i], texts[i], err = loadSuite(gctx, o, ref)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	ix := NewIndex(o.Architecture)
	for i, ref := range refs {
		if err := ix.Add(ref.archive, ref.suite, ref.suite+" Packages", texts[i]); err != nil {
			return nil, fault.Wrap(fault.Config, err, "")
		}
	}
	ix.Archives = archives
	return ix, nil
}

func loadSuite(ctx context.Context, o IndexOptions, ref suiteRef) (lock.Archive, string, error) {
	rel, data, err := fetchInRelease(ctx, o, ref)
	if err != nil {
		return lock.Archive{}, "", err
	}
	a := lock.Archive{Name: ref.archive, Suite: ref.suite, Date: rel.DateText, InRelease: string(store.DigestOf(data)), SignedBy: rel.SignedBy}
	name := "main/binary-" + o.Architecture + "/Packages.xz"
	file, ok := rel.Files[name]
	if !ok {
		return a, "", fault.New(fault.Config, "", "%s %s: the signed Release file does not list %s", ref.archive, ref.suite, name)
	}
	text, err := loadPackages(ctx, o, ref, rel, file)
	return a, text, err
}

// fetchInRelease tries each mirror until one serves a Release file that verifies. The
// errors of all are reported when none does.
func fetchInRelease(ctx context.Context, o IndexOptions, ref suiteRef) (*Release, []byte, error) {
	ring := o.Keyring
	if ring == nil {
		var err error
		if ring, err = Keyring(); err != nil {
			return nil, nil, err
		}
	}
	urls, err := o.Mirrors.URLs(ref.archive, "dists/"+ref.suite+"/InRelease")
	if err != nil {
		return nil, nil, err
	}
	client := o.Fetch.Client
	if client == nil {
		client = fetch.NewClient()
	}
	var problems []error
	for _, u := range urls {
		data, err := get(ctx, client, u, maxInRelease)
		if err != nil {
			problems = append(problems, fault.Wrap(fault.Network, err, "check the network, or name another mirror with --mirror"))
			continue
		}
		rel, err := VerifyInRelease(u, data, ring, o.Now)
		if err == nil && rel.Codename != ref.suite {
			err = badSignature("%s: is the Release file of %q, not of %q", u, rel.Codename, ref.suite)
		}
		if err == nil {
			return rel, data, nil
		}
		problems = append(problems, err)
	}
	return nil, nil, errors.Join(problems...)
}

// get reads a small file that has no digest yet.
func get(ctx context.Context, client *http.Client, u string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", u, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", u, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("GET %s: the file is larger than %d bytes", u, limit)
	}
	return data, nil
}

// loadPackages returns the text of a Packages file, from the store when it has it.
func loadPackages(ctx context.Context, o IndexOptions, ref suiteRef, rel *Release, file IndexFile) (string, error) {
	e, err := o.Store.Derive(ctx, store.NewKey("deb-packages", 1, file.SHA256), func(ctx context.Context, dir string) error {
		path := "dists/" + ref.suite + "/" + file.Path
		if rel.ByHash {
			path = "dists/" + ref.suite + "/" + filepath.Dir(file.Path) + "/by-hash/SHA256/" + file.SHA256
		}
		urls, err := o.Mirrors.URLs(ref.archive, path)
		if err != nil {
			return err
		}
		item := fetch.Item{Name: ref.suite + " package index", URLs: urls, Size: file.Size, SHA256: store.Digest(file.SHA256)}
		if err := fetch.Fetch(ctx, o.Store, []fetch.Item{item}, o.Fetch); err != nil {
			return err
		}
		blob, err := o.Store.Blob(store.Digest(file.SHA256))
		if err != nil {
			return err
		}
		return decompressFile(blob, filepath.Ext(file.Path), filepath.Join(dir, "Packages"))
	})
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(e.Dir, "Packages"))
	return string(data), err
}

func decompressFile(from, suffix, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	r, err := decompress(suffix, io.NewSectionReader(in, 0, info.Size()))
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, r); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(suffix, "."), err)
	}
	return out.Close()
}
