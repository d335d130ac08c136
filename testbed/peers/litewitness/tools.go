//go:build tools

// litewitness itself is built at the version, and from the sums, that go.mod and
// go.sum have.
package main

import _ "filippo.io/torchwood/cmd/litewitness"
