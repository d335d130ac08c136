//go:build tools

// Package tools has btcd among what go.mod requires, so that it is built at
// the version, and from the sums, that stand there.
package tools

import _ "github.com/btcsuite/btcd"
