// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/firstboot/strict"
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
	doc := strict.Decode(name, data, &f)
	var names []string
	for i, t := range f.Tools {
		at := fmt.Sprintf("tools[%d]", i)
		if t.Name == "" || slices.Contains(names, t.Name) {
			doc.Report(at+".name", "is missing or given twice")
		}
		names = append(names, t.Name)
		if t.Purpose == "" {
			doc.Report(at+".purpose", "is required")
		}
		if len(t.Packages) == 0 {
			doc.Report(at+".packages", "is required")
		}
	}
	if err := doc.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct "+name)
	}
	return f.Tools, nil
}
