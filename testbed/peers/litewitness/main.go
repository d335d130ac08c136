// Prepares and starts torchwood's litewitness, which ends with this program.
//
//	prepared LITEWITNESS DIRECTORY NAME SEED ADDRESS KEY
//
// SEED is that of the witness's key, in hexadecimal. litewitness takes the key
// from an SSH agent, which this program is. KEY is the verifier key of the one
// log that the witness knows.
package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 6 {
		return errors.New("usage: prepared LITEWITNESS DIRECTORY NAME SEED ADDRESS KEY")
	}
	program, directory, name, address, log := args[0], args[1], args[2], args[4], args[5]
	seed, err := hex.DecodeString(args[3])
	if err != nil || len(seed) != ed25519.SeedSize {
		return errors.New("SEED must be 32 bytes in hexadecimal")
	}
	database := filepath.Join(directory, "witness.db")
	if err := know(database, log); err != nil {
		return err
	}
	key := ed25519.NewKeyFromSeed(seed)
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	socket := filepath.Join(directory, "agent")
	if err := serve(socket, key); err != nil {
		return err
	}
	witness := exec.Command(program, "-db", database, "-name", name, "-listen", address,
		"-ssh-agent", socket, "-key", ssh.FingerprintSHA256(public))
	witness.Stdout, witness.Stderr = os.Stdout, os.Stderr
	witness.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return witness.Run()
}

// know does what witnessctl's add-log and add-key do.
func know(path, key string) error {
	database, err := sqlite.OpenConn(path, 0)
	if err != nil {
		return err
	}
	defer database.Close()
	origin, _, _ := strings.Cut(key, "+")
	// The root hash of the empty tree.
	empty := "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	return errors.Join(
		sqlitex.ExecScript(database, `
			CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL);
			CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin));
		`),
		sqlitex.Exec(database, "INSERT INTO log VALUES (?, 0, ?)", nil, origin, empty),
		sqlitex.Exec(database, "INSERT INTO key VALUES (?, ?)", nil, origin, key),
	)
}

// serve is an SSH agent with one key.
func serve(socket string, key ed25519.PrivateKey) error {
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keys, connection)
		}
	}()
	return nil
}
