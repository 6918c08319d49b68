// SPDX-License-Identifier: Apache-2.0

package profile

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

//go:embed types.go
var typesSource string

// Reference returns docs/reference/profile.md: every key of a profile with its type and
// meaning, in the order and the words of the types in this package.
func Reference() (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", typesSource, parser.ParseComments)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`# Profile reference

<!-- Generated from builder/profile/types.go. To change it, change the comments there and run
     go test ./builder/profile -run TestReference -update -->

A profile is a YAML file ` + "`profiles/<name>.yaml`" + `. Keys that are not listed here are errors. A profile that
extends another inherits all of its keys except ` + codes(own) + `:
lists are appended (the parent's entries first), mappings are merged by key, and any other value of the
child replaces the parent's.

Sizes are whole numbers followed by KiB, MiB, GiB or TiB. File modes are octal and best put in quotes.

`)
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			if s, ok := t.Type.(*ast.StructType); ok {
				section(&b, t.Name.Name, g.Doc, s)
			}
		}
	}
	fmt.Fprintf(&b, "## Allowed values\n\n| key | values |\n| --- | --- |\n| `roles` | %s |\n| `delivery` | %s |\n| `layout.sectorSize` | `512`, `4096` |\n", codes(Roles), codes(Deliveries))
	return b.String(), nil
}

func codes(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = "`" + s + "`"
	}
	return strings.Join(out, ", ")
}

func section(b *strings.Builder, name string, doc *ast.CommentGroup, s *ast.StructType) {
	fmt.Fprintf(b, "## %s\n\n%s\n\n| key | type | meaning |\n| --- | --- | --- |\n", name, strings.ReplaceAll(strings.TrimSpace(doc.Text()), "\n", " "))
	for _, f := range s.Fields.List {
		tag, _ := strconv.Unquote(f.Tag.Value)
		key, options, _ := strings.Cut(reflect.StructTag(tag).Get("yaml"), ",")
		text := strings.TrimSpace(f.Doc.Text() + " " + f.Comment.Text())
		text = strings.Join(strings.Fields(text), " ")
		if slices.Contains(strings.Split(options, ","), "omitempty") {
			key += "` (optional)"
		} else {
			key += "`"
		}
		fmt.Fprintf(b, "| `%s | %s | %s |\n", key, typeText(f.Type), strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(text))
	}
	b.WriteString("\n")
}

// typeText names a Go type in the words of the file format, linking to its section.
func typeText(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.ArrayType:
		return "list of " + typeText(t.Elt)
	case *ast.MapType:
		return "mapping of text to " + typeText(t.Value)
	case *ast.Ident:
		switch t.Name {
		case "string":
			return "text"
		case "bool":
			return "true or false"
		case "int", "uint32":
			return "number"
		}
		return "[" + t.Name + "](#" + strings.ToLower(t.Name) + ")"
	}
	return "?"
}
