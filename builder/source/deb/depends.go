// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"strings"
)

// Relation is one alternative of a dependency: a package name with an optional version
// constraint and architecture qualifier.
type Relation struct {
	Name string
	// Operator is one of <<, <=, =, >=, >>, or empty when Version is.
	Operator string
	Version  string
	// Qualifier is the architecture after a colon: "any", "native" or an architecture.
	Qualifier string
}

// Alternatives is satisfied when one of its relations is.
type Alternatives []Relation

func (r Relation) String() string {
	s := r.Name
	if r.Qualifier != "" {
		s += ":" + r.Qualifier
	}
	if r.Operator != "" {
		s += " (" + r.Operator + " " + r.Version + ")"
	}
	return s
}

func (a Alternatives) String() string {
	names := make([]string, len(a))
	for i, r := range a {
		names[i] = r.String()
	}
	return strings.Join(names, " | ")
}

// Allows reports whether version v satisfies the constraint of r.
func (r Relation) Allows(v string) bool {
	c := CompareVersions(v, r.Version)
	switch r.Operator {
	case "":
		return true
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}

// ParseRelations parses the value of a field such as Depends (Debian policy 7.1): groups
// separated by commas, alternatives within a group by bars. An empty value has no groups.
func ParseRelations(value string) ([]Alternatives, error) {
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	var out []Alternatives
	for group := range strings.SplitSeq(value, ",") {
		if strings.TrimSpace(group) == "" {
			return nil, fmt.Errorf("dependency list %q has an empty entry", clip(value))
		}
		var alts Alternatives
		for text := range strings.SplitSeq(group, "|") {
			r, err := parseRelation(text)
			if err != nil {
				return nil, err
			}
			alts = append(alts, r)
		}
		out = append(out, alts)
	}
	return out, nil
}

// parseRelation parses "name[:qualifier] [(op version)]". Architecture lists ([amd64])
// and build profiles (<!nocheck>) occur in source packages only and are refused.
func parseRelation(text string) (Relation, error) {
	text = strings.TrimSpace(text)
	head, constraint, hasConstraint := strings.Cut(text, "(")
	var r Relation
	r.Name, r.Qualifier, _ = strings.Cut(strings.TrimSpace(head), ":")
	if !validName(r.Name) {
		return r, fmt.Errorf("dependency %q: %q is not a package name", clip(text), clip(r.Name))
	}
	if strings.Contains(head, ":") && !validName(r.Qualifier) {
		return r, fmt.Errorf("dependency %q: %q is not an architecture qualifier", clip(text), clip(r.Qualifier))
	}
	if !hasConstraint {
		return r, nil
	}
	constraint, ok := strings.CutSuffix(constraint, ")")
	if !ok {
		return r, fmt.Errorf("dependency %q: the version constraint does not end in a parenthesis", clip(text))
	}
	constraint = strings.TrimSpace(constraint)
	n := len(constraint) - len(strings.TrimLeft(constraint, "<=>"))
	r.Operator, r.Version = constraint[:n], strings.TrimSpace(constraint[n:])
	switch r.Operator {
	case "<<", "<=", "=", ">=", ">>":
	default:
		return r, fmt.Errorf("dependency %q: operator %q is not one of <<, <=, =, >=, >>", clip(text), r.Operator)
	}
	if err := CheckVersion(r.Version); err != nil {
		return r, fmt.Errorf("dependency %q: %w", clip(text), err)
	}
	return r, nil
}

// validName follows Debian policy 5.6.1, without its minimum length of two.
func validName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || isDigit(c) || i > 0 && (c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return true
}
