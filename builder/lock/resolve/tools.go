// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/profile/strict"
)

// ToolsFile lists the programs that imgbuild runs from locked packages, below the root of
// a checkout.
const ToolsFile = "assets/tools.yaml"

// Tool is a program, or a few that belong together, with the packages it runs from.
type Tool struct {
	Name string `yaml:"name"`
	// Purpose says what runs it.
	Purpose  string   `yaml:"purpose"`
	Packages []string `yaml:"packages"`
	// Omit leaves out dependencies that the program runs without.
	Omit []profile.Omission `yaml:"omit,omitempty"`
}

// Tools reads and validates the tools of a checkout.
func Tools(root string) ([]Tool, error) {
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(ToolsFile)))
	if err != nil {
		return nil, err
	}
	return decodeTools(ToolsFile, data)
}

func decodeTools(name string, data []byte) ([]Tool, error) {
	var f struct {
		Tools []Tool `yaml:"tools"`
	}
	doc, err := strict.Parse(name, data)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "")
	}
	problems := doc.Decode(&f)
	var names []string
	for i, t := range f.Tools {
		at := fmt.Sprintf("tools[%d]", i)
		if t.Name == "" || slices.Contains(names, t.Name) {
			problems = append(problems, doc.Problem(at+".name", "is missing or given twice", ""))
		}
		names = append(names, t.Name)
		if t.Purpose == "" {
			problems = append(problems, doc.Problem(at+".purpose", "is required", ""))
		}
		if len(t.Packages) == 0 {
			problems = append(problems, doc.Problem(at+".packages", "is required", ""))
		}
	}
	if len(problems) > 0 {
		return nil, fault.Wrap(fault.Config, errors.Join(strict.Sort(problems)...), "correct "+name)
	}
	return f.Tools, nil
}
