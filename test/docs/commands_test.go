// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/cli"
	"github.com/imgbuild/imgbuild/firstboot/cmd/verbs"
)

// commands returns the command lines of a block: those after a prompt in a console block,
// all in a shell block. Continued lines are joined, comments taken off.
func commands(f fence) []string {
	var all []string
	text := strings.ReplaceAll(f.text, "\\\n", " ")
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		command, prompted := strings.CutPrefix(line, "$ ")
		switch f.language {
		case "console":
			if !prompted {
				continue
			}
		case "sh":
			command = line
		default:
			continue
		}
		if i := strings.Index(" "+command, " #"); i >= 0 {
			command = strings.TrimSpace(command[:max(i-1, 0)])
		}
		if command != "" {
			all = append(all, command)
		}
	}
	return all
}

var assignment = regexp.MustCompile(`^([A-Z][A-Z0-9_]*)=\S*$`)

// placeholder is what a reader replaces: IMAGE, NAME.
var placeholder = regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$`)

func checkCommand(line string) error {
	words := strings.Fields(line)
	for len(words) > 0 && assignment.MatchString(words[0]) {
		name, _, _ := strings.Cut(words[0], "=")
		if !variableKnown(name) {
			return fmt.Errorf("nothing in this repository reads %s", name)
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	for i, w := range words { // what follows a pipe or redirection is not ours
		if strings.ContainsAny(w[:1], "|>") {
			words = words[:i]
			break
		}
	}
	switch words[0] {
	case "imgbuild", "out/imgbuild":
		return checkImgbuild(words[1:])
	case "firstboot":
		return checkFirstboot(words[1:])
	case "make":
		return checkMake(words[1:])
	}
	return nil
}

func checkImgbuild(args []string) error {
	cmd, rest, err := cli.Commands().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if f := cmd.Flags().Lookup("profile"); f != nil && f.Changed && !placeholder.MatchString(f.Value.String()) {
		if _, err := os.Stat(filepath.Join(root, "profiles", f.Value.String()+".yaml")); err != nil && !exampleProfiles[f.Value.String()] {
			return fmt.Errorf("there is no profile %s", f.Value)
		}
	}
	return nil
}

// exampleProfiles are those that the documents themselves define.
var exampleProfiles = map[string]bool{"edge": true}

// checkFirstboot looks for the flags in what a verb says about itself.
func checkFirstboot(args []string) error {
	if len(args) == 0 || args[0] == "help" {
		return nil
	}
	var out, problems bytes.Buffer
	env := &verbs.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &problems, Root: "/nonexistent"}
	if verbs.Main(context.Background(), env, []string{args[0], "--help"}) != verbs.ExitOK {
		return fmt.Errorf("%s", problems.String())
	}
	for _, a := range args[1:] {
		name, _, _ := strings.Cut(a, "=")
		if strings.HasPrefix(name, "--") && !strings.Contains(out.String(), name+" ") {
			return fmt.Errorf("firstboot %s has no flag %s", args[0], name)
		}
	}
	return nil
}

func checkMake(args []string) error {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return err
	}
	for _, a := range args {
		if name, _, ok := strings.Cut(a, "="); ok {
			if !variableKnown(name) {
				return fmt.Errorf("nothing in this repository reads %s", name)
			}
		} else if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(a) + `:`).Match(makefile) {
			return fmt.Errorf("the Makefile has no target %s", a)
		}
	}
	return nil
}

// variableKnown looks for an environment or make variable where such are read.
func variableKnown(name string) bool {
	for _, pattern := range []string{"Makefile", "scripts/*", "builder/source/*/*.go", "builder/store/*.go", "test/*/*.go"} {
		files, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, file := range files {
			if strings.HasSuffix(file, "commands_test.go") {
				continue
			}
			if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(name)) {
				return true
			}
		}
	}
	return strings.HasPrefix(name, "GO") || name == "XDG_CACHE_HOME"
}

func TestCommandsParse(t *testing.T) {
	seen := 0
	for _, f := range allFences(t) {
		for _, line := range commands(f) {
			seen++
			if err := checkCommand(line); err != nil {
				t.Errorf("%s:%d: %s\n  %v", f.file, f.line, line, err)
			}
		}
	}
	if seen < 20 {
		t.Fatalf("only %d commands found", seen)
	}
}

func TestCheckCommand(t *testing.T) {
	for line, good := range map[string]bool{
		"imgbuild --profile controlplane":                     true,
		"out/imgbuild inspect --json IMAGE | jq .":            true,
		"imgbuild tool run verify sgdisk -v IMAGE":            true,
		"IMGBUILD_DEBIAN_MIRROR=https://x.example make image": true,
		"make image PROFILE=worker":                           true,
		"firstboot plan --role worker":                        true,
		"cd assets":                                           true,
		"imgbuild bild":                                       false,
		"imgbuild plan --profil controlplane":                 false,
		"imgbuild plan --profile nowhere":                     false,
		"imgbuild inspect":                                    false,
		"imgbuild lock extra":                                 false,
		"IMGBUILD_NO_SUCH_VARIABLE=1 imgbuild version":        false,
		"make no-such-target":                                 false,
		"firstboot plan --no-such-flag":                       false,
		"firstboot no-such-verb":                              false,
	} {
		if err := checkCommand(line); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
	got := commands(fence{language: "console", text: "$ a b \\\n    c  # why\nout\n$ # all\n$ d\n"})
	if len(got) != 2 || strings.Join(strings.Fields(got[0]), " ") != "a b c" || got[1] != "d" {
		t.Errorf("%q", got)
	}
}
