package main

import (
	"io"
	"os"
	"syscall"
	"time"
)

// graceAfterStdin is how long a server may take to end by itself after its
// standard input closed.
const graceAfterStdin = 3 * time.Second

// exitWhenStdinCloses ends this process when its standard input does: first
// by SIGTERM to itself, so that connections are closed in good order, then
// outright.
func exitWhenStdinCloses() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(graceAfterStdin)
		os.Exit(1)
	}()
}
