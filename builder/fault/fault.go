// SPDX-License-Identifier: Apache-2.0

// Package fault classifies errors. Every class has one documented exit status, so that a
// script that runs imgbuild can tell a bad profile from a full disk without reading text.
package fault

import (
	"errors"
	"fmt"
)

// Class is the kind of a failure. The zero value means unclassified.
type Class int

// The classes, each with the exit status that docs/exit-codes.md lists.
const (
	Unclassified Class = 0
	// Usage: unknown verb or flag, missing argument.
	Usage Class = 2
	// Config: a profile, lock or other input file is invalid.
	Config Class = 3
	// MissingPin: the profile wants something the lock does not hold, or an origin no
	// longer serves a pin.
	MissingPin Class = 4
	// Digest: bytes do not match their pin, or a signature does not verify.
	Digest Class = 5
	// Network: an origin cannot be reached and the cache does not have the bytes.
	Network Class = 6
	// NoSpace: the disk is full, or would be.
	NoSpace Class = 7
	// TooSmall: the content does not fit the layout.
	TooSmall Class = 8
	// Build: a component or a tool failed.
	Build Class = 9
	// Machine: QEMU is missing or failed, or the guest did not become Ready.
	Machine Class = 10
	// Corrupt: an image or a store entry is damaged beyond repair.
	Corrupt Class = 11
	// Interrupted: a signal ended the run; nothing half-written stays behind.
	Interrupted Class = 130
)

// Error carries a class and, when there is one, the next thing to do.
type Error struct {
	Class Class
	Err   error
	// Hint is one sentence telling the user what to do next.
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  next: " + e.Hint
}

func (e *Error) Unwrap() error { return e.Err }

// Wrap gives err a class and a hint. A nil err stays nil.
func Wrap(class Class, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Err: err, Hint: hint}
}

// New returns a classified error. Format and args are those of fmt.Errorf.
func New(class Class, hint, format string, args ...any) error {
	return &Error{Class: class, Err: fmt.Errorf(format, args...), Hint: hint}
}

// ClassOf returns the class of the outermost classified error in err's tree.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Unclassified
}
