// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// maxUnpacked bounds what an archive may unpack to. The largest release today, Kubernetes'
// server archive, stays below 2 GB.
const maxUnpacked = 4 << 30

// maxShown is how many members an error lists.
const maxShown = 20

// errUnsafe marks an archive with a member that tries to leave the place it is unpacked to.
var errUnsafe = errors.New("unsafe archive")

// extract reads a tar.gz and hands the members named in wanted to write, each once. Paths
// in the archive never name files on disk: what is written where is up to write. All the
// same an archive with a member that is absolute, climbs out with "..", links outside, or
// is neither file, directory nor link is refused as a whole, because no project releases
// such a thing. A wanted member that is not a regular file, or is not there, is an error.
func extract(ctx context.Context, r io.Reader, wanted []string, write func(name string, size int64, content io.Reader) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("not a gzip file: %w", err)
	}
	defer z.Close()
	bounded := &io.LimitedReader{R: z, N: maxUnpacked}
	archive := tar.NewReader(bounded)
	var members []string
	done := map[string]bool{}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return atLimit(bounded, err)
		}
		name, err := memberName(h)
		if err != nil {
			return err
		}
		members = append(members, name)
		if !slices.Contains(wanted, name) {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("member %s is not a regular file", name)
		}
		if done[name] {
			return fmt.Errorf("member %s is there twice", name)
		}
		done[name] = true
		if err := write(name, h.Size, archive); err != nil {
			return atLimit(bounded, fmt.Errorf("member %s: %w", name, err))
		}
	}
	var missing []string
	for _, w := range wanted {
		if !done[w] {
			missing = append(missing, w)
		}
	}
	if len(missing) > 0 {
		if len(members) > maxShown {
			members = append(members[:maxShown], "...")
		}
		return fmt.Errorf("the archive does not have %s; it has %s", strings.Join(missing, ", "), strings.Join(members, ", "))
	}
	return nil
}

func atLimit(l *io.LimitedReader, err error) error {
	if l.N <= 0 {
		return fmt.Errorf("%w: it unpacks to more than %d bytes", errUnsafe, int64(maxUnpacked))
	}
	return err
}

// memberName returns the clean relative name of a member, or why the archive is refused.
func memberName(h *tar.Header) (string, error) {
	name := path.Clean(h.Name)
	if path.IsAbs(h.Name) || leaves(name) || strings.ContainsRune(h.Name, 0) {
		return "", fmt.Errorf("%w: member %q leaves the archive", errUnsafe, h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) || leaves(path.Join(path.Dir(name), h.Linkname)) {
			return "", fmt.Errorf("%w: member %q links to %q outside the archive", errUnsafe, h.Name, h.Linkname)
		}
	case tar.TypeLink:
		if path.IsAbs(h.Linkname) || leaves(path.Clean(h.Linkname)) {
			return "", fmt.Errorf("%w: member %q links to %q outside the archive", errUnsafe, h.Name, h.Linkname)
		}
	case tar.TypeXGlobalHeader:
	default:
		return "", fmt.Errorf("%w: member %q is of type %q", errUnsafe, h.Name, h.Typeflag)
	}
	return name, nil
}

// leaves reports whether a clean path climbs out of where it starts.
func leaves(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }
