// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/cmd/verbs"
)

// commandPages returns a page for root and each command below it.
func commandPages(root *cobra.Command) map[string]string {
	all := map[string]string{}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		all[directory+"/cli/"+pageName(cmd)] = commandPage(cmd)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	return all
}

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".md"
}

func commandPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n"+notice, cmd.CommandPath(), "builder/cli")
	fmt.Fprintf(&b, "%s.\n\n", cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(&b, "%s\n\n", cmd.Long)
	}
	if cmd.Runnable() {
		fmt.Fprintf(&b, "```text\n%s\n```\n\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		b.WriteString("## Examples\n\n```console\n")
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			fmt.Fprintf(&b, "$ %s\n", strings.TrimSpace(line))
		}
		b.WriteString("```\n\n")
	}
	if subs := cmd.Commands(); len(subs) > 0 {
		b.WriteString("## Verbs\n\n| verb | purpose |\n| --- | --- |\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, "| [`%s`](%s) | %s |\n", sub.CommandPath(), pageName(sub), cell(sub.Short))
		}
		b.WriteString("\n")
	}
	flagTable(&b, "Flags", cmd.NonInheritedFlags(), cmd.PersistentFlags())
	if cmd.HasParent() {
		fmt.Fprintf(&b, "The [flags of every verb](%s#flags-of-every-verb) apply as well. ", pageName(cmd.Root()))
	} else {
		flagTable(&b, "Flags of every verb", cmd.PersistentFlags(), nil)
	}
	b.WriteString("[Exit status](../../exit-codes.md).\n")
	return b.String()
}

// flagTable lists flags but those in without.
func flagTable(b *strings.Builder, title string, flags, without *pflag.FlagSet) {
	var rows strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || without != nil && without.Lookup(f.Name) != nil {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		def := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			def = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", name, value, def, cell(usage))
	})
	if rows.Len() > 0 {
		fmt.Fprintf(b, "## %s\n\n| flag | value | default | meaning |\n| --- | --- | --- | --- |\n%s\n", title, rows.String())
	}
}

// cell makes text fit a table, where <name> would pass for HTML.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(strings.Join(strings.Fields(s), " "))
}

// firstbootPage shows what firstboot says about itself.
func firstbootPage(string) (string, error) {
	help := func(args ...string) (string, error) {
		var out, problems bytes.Buffer
		env := &verbs.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &problems, Root: "/nonexistent"}
		if status := verbs.Main(context.Background(), env, args); status != verbs.ExitOK {
			return "", fmt.Errorf("firstboot %s: status %d: %s", strings.Join(args, " "), status, problems.String())
		}
		return strings.TrimSpace(out.String()), nil
	}
	text, err := help("help")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# firstboot\n\n"+notice, "firstboot/cmd/verbs")
	fmt.Fprintf(&b, "What `firstboot help` prints. It is a program of the image: units run it, people see its lines on the console.\n\n```text\n%s\n```\n", text)
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "firstboot" || !strings.HasPrefix(line, " ") {
			continue
		}
		usage, err := help(words[1], "--help")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n", words[1], trimLines(usage))
	}
	doc, err := packageDoc("firstboot/cmd/verbs", "verbs.go")
	if err != nil {
		return "", err
	}
	_, statuses, _ := strings.Cut(doc, "Exit statuses:")
	fmt.Fprintf(&b, "\n## Exit status\n\n```text\n%s\n```\n", trimTabs(statuses))
	return b.String(), nil
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// trimTabs takes the indentation of a preformatted block off.
func trimTabs(s string) string {
	var out []string
	for line := range strings.SplitSeq(strings.Trim(s, "\n"), "\n") {
		out = append(out, strings.TrimPrefix(line, "\t"))
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}
