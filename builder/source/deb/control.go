// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"strings"
)

// Field is one field of a control paragraph. Value keeps continuation lines as they
// were written, newline and leading blank included.
type Field struct {
	Name, Value string
	Line        int
}

// Paragraph is one block of fields in the format of deb822(5).
type Paragraph []Field

// Get returns the value of the named field (case-insensitive), or "".
func (p Paragraph) Get(name string) string {
	for i := range p {
		if strings.EqualFold(p[i].Name, name) {
			return p[i].Value
		}
	}
	return ""
}

// Lines returns the continuation lines of a value, without blanks around them.
func (f Field) Lines() []string {
	var out []string
	for line := range strings.SplitSeq(f.Value, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// Paragraphs calls yield for each paragraph of data, which is named name in errors. The
// paragraph is reused between calls; its strings are slices of data and stay valid.
//
// It accepts what deb822(5) defines: fields, continuation lines that start with a blank,
// paragraphs separated by empty lines, and comment lines only where comments is true.
// A repeated field, a line that is neither, or a field name with characters that the
// format does not allow is an error.
func Paragraphs(name, data string, comments bool, yield func(Paragraph) error) error {
	var p Paragraph
	line := 0
	flush := func() error {
		if len(p) == 0 {
			return nil
		}
		err := yield(p)
		p = p[:0]
		return err
	}
	for data != "" {
		line++
		text, rest, _ := strings.Cut(data, "\n")
		switch {
		case strings.TrimRight(text, " \t\r") == "":
			if err := flush(); err != nil {
				return err
			}
		case text[0] == '#' && comments:
		case text[0] == ' ' || text[0] == '\t':
			if len(p) == 0 {
				return fmt.Errorf("%s:%d:1: %q continues a field, but none was started", name, line, clip(text))
			}
			// Continuation lines follow their field without a gap, except after a
			// comment, so joining is usually a longer slice of the same string.
			last := &p[len(p)-1]
			last.Value += "\n" + text
		default:
			f, err := parseField(text)
			if err != nil {
				return fmt.Errorf("%s:%d:1: %w", name, line, err)
			}
			if prev := findField(p, f.Name); prev != nil {
				return fmt.Errorf("%s:%d:1: field %q was already given on line %d", name, line, f.Name, prev.Line)
			}
			f.Line = line
			p = append(p, f)
		}
		data = rest
	}
	return flush()
}

func findField(p Paragraph, name string) *Field {
	for i := range p {
		if strings.EqualFold(p[i].Name, name) {
			return &p[i]
		}
	}
	return nil
}

func parseField(text string) (Field, error) {
	name, value, ok := strings.Cut(text, ":")
	if !ok {
		return Field{}, fmt.Errorf("%q is neither a field (Name: value) nor a continuation line", clip(text))
	}
	if name == "" || name[0] == '-' || name[0] == '#' {
		return Field{}, fmt.Errorf("%q is not a field name", clip(name))
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return Field{}, fmt.Errorf("field name %q: %q is not allowed", clip(name), name[i])
		}
	}
	return Field{Name: name, Value: strings.TrimSpace(value)}, nil
}

// clip shortens a value for an error message.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
