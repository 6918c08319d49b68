// SPDX-License-Identifier: Apache-2.0

// Package english keeps kubectl from loading its translations. kubectl translates the help
// texts of its commands in package variables, so that in a program linked from several,
// every one of them would parse a catalogue at its start: a third of the time all
// packages take to initialise, and 4 MB of memory per process. Without a catalogue the
// texts are the English originals.
//
// Go initialises packages that do not depend on each other in the order of their import
// paths: this one comes before k8s.io/kubectl/pkg/cmd/..., right after the package it imports.
package english

import "k8s.io/kubectl/pkg/util/i18n"

func init() {
	if err := i18n.SetLoadTranslationsFunc(func() error { return nil }); err != nil {
		panic(err) // translations were loaded: the order of initialisation changed
	}
}
