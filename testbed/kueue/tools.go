//go:build tools

// Package tools has Kueue among what go.mod requires, so that it is built at
// the version, and from the sums, that stand there.
package tools

import _ "sigs.k8s.io/kueue/cmd/kueue"
