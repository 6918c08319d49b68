// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"

	"github.com/imgbuild/imgbuild/firstboot/preflight"
)

// inspect looks at the machine. Its moment becomes the run's, as the clock may have been set
// since the run began.
func inspect(_ context.Context, s *State) error {
	m := preflight.Machine{Root: s.Root, Node: s.Node, Start: s.Start, Now: s.now,
		Warn: func(condition string, problem error) {
			s.Log.Warn("preflight", "condition", condition, "problem", problem)
		}}
	err := m.Check()
	s.Start = m.Start
	return err
}
