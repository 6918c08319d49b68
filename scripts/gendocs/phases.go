// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

func phasesPage(root string) (string, error) {
	var n node.Node
	node.SetDefaults(&n)
	graph, err := phases.Graph(n.Timeouts)
	if err != nil {
		return "", err
	}
	steps := graph.Plan("")
	var b strings.Builder
	fmt.Fprintf(&b, "# Phases of first boot\n\n"+notice, "firstboot/phases/phases.go")
	fmt.Fprintf(&b, "A phase starts as soon as all it needs is done; independent ones run at the same time. Timeouts are those of a\n"+
		"[node document](node.md#timeouts) that names none. The journal is `%s`; `%s` exists once the\n"+
		"last phase is done. `firstboot plan` prints this table on a node.\n\n"+
		"*Changed document*: what happens on a rerun when the phase ran under another node document. `refuse` stops before\n"+
		"anything happens (exit status 4), `redo` runs the phase again.\n\n", phase.JournalPath, phases.DoneMarker)
	b.WriteString("| phase | true afterwards | needs | roles | timeout | attempts | changed document |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range steps {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %d | %s |\n", s.Name, s.Purpose, orAll(s.Needs, "nothing"), orAll(s.Roles, "all"), s.Timeout, s.Attempts, s.OnChange)
	}
	b.WriteString("\n## As a graph\n\n```mermaid\nflowchart LR\n")
	for _, s := range steps {
		for _, need := range s.Needs {
			fmt.Fprintf(&b, "  %s --> %s\n", need, s.Name)
		}
	}
	b.WriteString("```\n\n## Preflight\n\n")
	b.WriteString("`preflight` looks at all of these and reports every one that does not hold. Warnings are logged and stop nothing.\n\n")
	b.WriteString("| condition | severity | holds if |\n| --- | --- | --- |\n")
	list, err := conditions(root)
	for _, c := range list {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.name, c.severity, cell(c.means))
	}
	return b.String(), err
}

func orAll(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// condition is a row of the table of preflight conditions.
type condition struct{ name, severity, means string }

// conditions reads that table. Each row has to say what it means.
func conditions(root string) ([]condition, error) {
	const file, table = "firstboot/preflight/preflight.go", "conditions"
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
	if err != nil {
		return nil, err
	}
	var found []condition
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Names) != 1 || v.Names[0].Name != table {
			return true
		}
		for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
			row := condition{severity: "error"}
			for _, kv := range e.(*ast.CompositeLit).Elts {
				pair := kv.(*ast.KeyValueExpr)
				switch key := pair.Key.(*ast.Ident).Name; key {
				case "name":
					row.name, _ = strconv.Unquote(pair.Value.(*ast.BasicLit).Value)
				case "means":
					row.means, _ = strconv.Unquote(pair.Value.(*ast.BasicLit).Value)
				case "warn":
					row.severity = "warning"
				}
			}
			found = append(found, row)
		}
		return false
	})
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no table %s", file, table)
	}
	for _, c := range found {
		if c.means == "" {
			return nil, fmt.Errorf("%s: condition %s says not what it means", file, c.name)
		}
	}
	return found, nil
}
