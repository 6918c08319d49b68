// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Commands returns the command tree, for the reference pages and for tests that hold the
// examples in documents against it. Executing one of its commands prints nothing.
func Commands() *cobra.Command {
	app := &app{Streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}
	return app.command()
}
