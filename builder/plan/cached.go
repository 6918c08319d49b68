// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/store"
)

// Have answers what the store holds, to several askers at once. *store.Store does.
type Have interface {
	Has(store.Digest) bool
	Lookup(store.Key) (*store.Entry, bool)
}

// MarkCached fills the Cached fields of p from what have holds. A fetched package counts
// as cached when its unpacked form is there, since nothing will read the package again.
func (p *Plan) MarkCached(have Have) {
	unpacked := map[string]bool{}
	if unpack := p.Step("unpack"); unpack != nil {
		var looking errgroup.Group // each costs a few reads, and there are hundreds
		looking.SetLimit(runtime.GOMAXPROCS(0))
		for i := range unpack.Inputs {
			looking.Go(func() error {
				_, unpack.Inputs[i].Cached = have.Lookup(store.Key(unpack.Inputs[i].Digest))
				return nil
			})
		}
		_ = looking.Wait()
		unpack.Cached = true
		for _, in := range unpack.Inputs {
			unpacked[in.Name+" "+in.Version] = in.Cached
			unpack.Cached = unpack.Cached && in.Cached
		}
	}
	for _, s := range p.Steps {
		switch {
		case s.Kind == Fetch:
			s.Cached = true
			for i := range s.Inputs {
				in := &s.Inputs[i]
				in.Cached = unpacked[in.Name+" "+in.Version] || have.Has(store.Digest(in.Digest))
				s.Cached = s.Cached && in.Cached
			}
		case s.Key != "":
			_, s.Cached = have.Lookup(s.Key)
		}
	}
}

// Download returns the bytes that executing p would fetch.
func (p *Plan) Download() int64 {
	var total int64
	for _, s := range p.Steps {
		if s.Kind != Fetch {
			continue
		}
		for _, in := range s.Inputs {
			if !in.Cached {
				total += in.Size
			}
		}
	}
	return total
}

// Missing counts the inputs of s that the store does not hold.
func (s *Step) Missing() int {
	missing := 0
	for _, in := range s.Inputs {
		if !in.Cached {
			missing++
		}
	}
	return missing
}
