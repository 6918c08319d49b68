// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/status"
)

var statusVerb = verb{
	name: "status", args: "[--json]", purpose: "show how first boot stands and when certificates expire",
	flags: func(fs *pflag.FlagSet) { fs.Bool("json", false, "print the status file as it is") },
	run: func(_ context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(e.Root, status.Path))
		if err != nil {
			return fmt.Errorf("%w: no status yet: %w", errNotReady, err)
		}
		var st status.Status
		if err := json.Unmarshal(data, &st); err != nil {
			return fmt.Errorf("%s: %w", status.Path, err)
		}
		if raw, _ := fs.GetBool("json"); raw {
			_, err = e.Stdout.Write(data)
		} else if err = printStatus(e.Stdout, st); err == nil {
			err = printExpiries(e.Stdout, e.expiries(), time.Now())
		}
		if err == nil && st.State != status.Ready {
			err = fmt.Errorf("%w: first boot is %s", errNotReady, st.State)
		}
		return err
	},
}

func printStatus(out io.Writer, st status.Status) error {
	fmt.Fprintf(out, "node %s, role %s: %s", st.Node, st.Role, st.State)
	if st.Ended > 0 {
		fmt.Fprintf(out, " at %.1f s", st.Ended)
	}
	fmt.Fprintln(out)
	if st.Error != "" {
		fmt.Fprintln(out, "reason:", st.Error)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PHASE\tSTATE\tSTART (s)\tTOOK (s)\tERROR")
	for _, p := range st.Phases {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%.2f\t%s\n", p.Name, p.State, p.Started, p.Took, p.Error)
	}
	return w.Flush()
}
