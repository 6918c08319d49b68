// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// source are Go files whose types a page describes.
type source struct {
	files []*ast.File
	tag   string // the struct tag that names keys: yaml, json
	docs  map[string]string
	// values holds the constants of each string type, in order.
	values map[string][]string
	// defaults maps "Type.key" to the text of its default.
	defaults map[string]string
	// external are types of other packages, in the words of the page.
	external map[string]string
	// missing are keys that the code does not explain.
	missing []string
}

// parse reads files of one package, in the order in which the page shows their types.
func parse(root, tag string, files ...string) (*source, error) {
	s := &source{tag: tag, docs: map[string]string{}, values: map[string][]string{}}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
		s.learn(f)
	}
	return s, nil
}

// learn notes what a file says about types and constants.
func (s *source) learn(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			switch v := spec.(type) {
			case *ast.TypeSpec:
				doc := v.Doc
				if doc == nil {
					doc = g.Doc
				}
				s.docs[v.Name.Name] = oneLine(doc)
			case *ast.ValueSpec:
				if t, ok := v.Type.(*ast.Ident); ok && g.Tok == token.CONST && len(v.Values) == 1 {
					if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						text, _ := strconv.Unquote(lit.Value)
						s.values[t.Name] = append(s.values[t.Name], text)
					}
				}
			}
		}
	}
}

// structs writes a section for each struct type that has keys, in the order of the files.
func (s *source) structs(b *strings.Builder) error {
	for _, f := range s.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				t := spec.(*ast.TypeSpec)
				if st, ok := t.Type.(*ast.StructType); ok {
					s.section(b, t.Name.Name, st)
				}
			}
		}
	}
	if len(s.missing) > 0 {
		return fmt.Errorf("%s: no comment explains %s", s.files[0].Name.Name, strings.Join(s.missing, ", "))
	}
	return nil
}

func (s *source) section(b *strings.Builder, name string, st *ast.StructType) {
	var rows strings.Builder
	for _, f := range st.Fields.List {
		key, optional := s.key(f)
		if key == "" {
			continue
		}
		if optional {
			key = "`" + key + "` (optional)"
		} else {
			key = "`" + key + "`"
		}
		meaning := s.meaning(f)
		if meaning == "" {
			s.missing = append(s.missing, name+"."+f.Names[0].Name)
		}
		bare, _ := s.key(f)
		cells := []string{key, s.typeText(f.Type)}
		if s.defaults != nil {
			cells = append(cells, s.defaults[name+"."+bare])
		}
		fmt.Fprintf(&rows, "| %s |\n", strings.Join(append(cells, cell(meaning)), " | "))
	}
	if rows.Len() == 0 {
		return
	}
	head := "| key | type | meaning |\n| --- | --- | --- |\n"
	if s.defaults != nil {
		head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
	}
	fmt.Fprintf(b, "## %s\n\n%s\n\n%s%s\n", name, s.docs[name], head, rows.String())
}

// key returns the name of a field in the file, empty for fields that are not in it.
func (s *source) key(f *ast.Field) (key string, optional bool) {
	if f.Tag == nil || len(f.Names) == 0 {
		return "", false
	}
	tag, _ := strconv.Unquote(f.Tag.Value)
	key, options, _ := strings.Cut(reflect.StructTag(tag).Get(s.tag), ",")
	return key, slices.Contains(strings.Split(options, ","), "omitempty")
}

// meaning is the field's comment, or what its type says of itself.
func (s *source) meaning(f *ast.Field) string {
	if text := strings.TrimSpace(oneLine(f.Doc) + " " + oneLine(f.Comment)); text != "" {
		return text
	}
	name := elem(f.Type)
	if name == "Secret" || name == "Duration" {
		return "" // how they print says nothing about what they are for
	}
	first, _, _ := strings.Cut(s.docs[name], ". ")
	if first != "" && !strings.HasSuffix(first, ".") {
		first += "."
	}
	return first
}

// elem returns the name of the type that lists and pointers lead to, also one of another
// package.
func elem(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.SelectorExpr:
		return t.Sel.Name
	case *ast.ArrayType:
		return elem(t.Elt)
	case *ast.StarExpr:
		return elem(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// typeText names a Go type in the words of the file format.
func (s *source) typeText(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.ArrayType:
		return "list of " + s.typeText(t.Elt)
	case *ast.MapType:
		return "mapping of text to " + s.typeText(t.Value)
	case *ast.StarExpr:
		return s.typeText(t.X)
	case *ast.SelectorExpr:
		return s.external[t.Sel.Name]
	case *ast.Ident:
		switch t.Name {
		case "string":
			return "text"
		case "Secret":
			return "secret text"
		case "Duration":
			return "duration"
		case "bool":
			return "true or false"
		case "int", "int32", "int64", "uint32", "float64":
			return "number"
		}
		if v := s.values[t.Name]; v != nil {
			return "`" + strings.Join(v, "`, `") + "`"
		}
		return "[" + t.Name + "](#" + strings.ToLower(t.Name) + ")"
	}
	return "?"
}

func oneLine(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }

// packageDoc returns the package comment in a file.
func packageDoc(dir, file string) (string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		return "", err
	}
	return f.Doc.Text(), nil
}
