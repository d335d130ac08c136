// Tessera as a peer of Daylight's ledger: it checks a log that is served over
// HTTP, writes logs on its POSIX storage, and makes and verifies cosignatures
// with other people's libraries.
//
//	tessera fsck URL KEY
//	tessera append DIRECTORY PRIVATE-KEY [POLICY-FILE] < ENTRIES
//	tessera rate DIRECTORY PRIVATE-KEY BATCHES ENTRIES PERIOD
//	tessera cosign PRIVATE-KEY < NOTE
//	tessera verify KEY < NOTE
//
// ENTRIES has one entry a line, and NOTE is a signed checkpoint. KEY is a
// verifier key, of type 0x01 for fsck, and 0x04 or 0x06 for verify. cosign takes
// a private key of type 0x06.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/mldsa"
	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "fsck":
		return check(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "append":
		return add(ctx, args[1], args[2], nil)
	case len(args) == 4 && args[0] == "append":
		policy, err := os.ReadFile(args[3])
		if err != nil {
			return err
		}
		return add(ctx, args[1], args[2], policy)
	case len(args) == 6 && args[0] == "rate":
		return rate(ctx, args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "cosign":
		return cosign(args[1])
	case len(args) == 2 && args[0] == "verify":
		return verify(args[1])
	}
	return errors.New("usage: tessera fsck|append|cosign|verify ...")
}

// check is tessera's cmd/fsck, with an exit code.
func check(ctx context.Context, address, key string) error {
	verifier, err := f_note.NewVerifier(key)
	if err != nil {
		return err
	}
	root, err := url.Parse(address)
	if err != nil {
		return err
	}
	source, err := client.NewHTTPFetcher(root, http.DefaultClient)
	if err != nil {
		return err
	}
	return fsck.New(verifier.Name(), verifier, source, leaves, fsck.Opts{N: 1}).Check(ctx)
}

func leaves(bundle []byte) ([][]byte, error) {
	entries := &api.EntryBundle{}
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// add appends each line of standard input to a log, and waits for a checkpoint
// with all of them.
func add(ctx context.Context, directory, key string, policy []byte) error {
	signer, err := note.NewSigner(key)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: directory})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(1024, 50*time.Millisecond).
		WithPushback(1 << 20).
		WithCheckpointInterval(100 * time.Millisecond)
	if policy != nil {
		witnesses, err := tessera.NewWitnessGroupFromPolicy(policy)
		if err != nil {
			return err
		}
		options.WithWitnesses(witnesses, &tessera.WitnessOptions{Timeout: 10 * time.Second})
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	var added []tessera.IndexFuture
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		added = append(added, appender.Add(ctx, tessera.NewEntry(bytes.Clone(lines.Bytes()))))
	}
	if err := lines.Err(); err != nil {
		return err
	}
	published := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	for _, one := range added {
		if _, _, err := published.Await(ctx, one); err != nil {
			return err
		}
	}
	return shutdown(ctx)
}

// rate appends batches of entries of 600 bytes, and prints how long each took
// until all its entries had a place in the log, and the last until a checkpoint
// had them. A batch begins each period, or after the one before.
func rate(ctx context.Context, directory, key string, numbers []string) error {
	signer, err := note.NewSigner(key)
	if err != nil {
		return err
	}
	batches, err1 := strconv.Atoi(numbers[0])
	entries, err2 := strconv.Atoi(numbers[1])
	period, err3 := time.ParseDuration(numbers[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: directory})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(entries), 100*time.Millisecond).
		WithPushback(1 << 20).
		WithCheckpointInterval(100 * time.Millisecond)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	padding := strings.Repeat("x", 570)
	took := make([]time.Duration, batches)
	failed := make([]error, batches)
	var all sync.WaitGroup
	began := time.Now()
	for batch := range batches {
		since := time.Now()
		if period > 0 {
			since = began.Add(time.Duration(batch) * period)
			time.Sleep(time.Until(since))
		}
		added := make([]tessera.IndexFuture, entries)
		for one := range added {
			// Entries that are the same may be stored once.
			text := fmt.Sprintf(`{"at":"%d","padding":"%s"}`, batch*entries+one, padding)
			added[one] = appender.Add(ctx, tessera.NewEntry([]byte(text)))
		}
		wait := func() {
			for _, one := range added {
				if _, err := one(); err != nil {
					failed[batch] = err
				}
			}
			took[batch] = time.Since(since)
		}
		if period > 0 {
			all.Go(wait)
		} else {
			wait()
		}
	}
	all.Wait()
	total := time.Since(began)
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if err := shutdown(ctx); err != nil {
		return err
	}
	slices.Sort(took)
	at := func(percent int) float64 {
		return took[(len(took)-1)*percent/100].Seconds() * 1000
	}
	fmt.Printf("%.0f entries/s, a batch has its place after %.1f ms, p99 %.1f ms, at most %.1f ms\n",
		float64(batches*entries)/total.Seconds(), at(50), at(99), at(100))
	return nil
}

// cosign prints an ML-DSA-44 cosignature of the checkpoint on standard input.
func cosign(key string) error {
	_, text, err := readNote()
	if err != nil {
		return err
	}
	parts := strings.Split(strings.TrimPrefix(key, "PRIVATE+KEY+"), "+")
	if len(parts) < 3 {
		return errors.New("not a private key")
	}
	name, id := parts[0], parts[1]
	seed, err := base64.StdEncoding.DecodeString(strings.Join(parts[2:], "+"))
	if err != nil || len(seed) != 33 || seed[0] != 6 {
		return errors.New("not a private key of type 0x06")
	}
	private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[1:])
	if err != nil {
		return err
	}
	now := uint64(time.Now().Unix())
	message, err := subtree(name, now, text)
	if err != nil {
		return err
	}
	signature, err := private.Sign(nil, message, nil)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return err
	}
	line := binary.BigEndian.AppendUint32(nil, uint32(number))
	line = binary.BigEndian.AppendUint64(line, now)
	line = append(line, signature...)
	fmt.Printf("— %s %s\n", name, base64.StdEncoding.EncodeToString(line))
	return nil
}

// verify fails unless the key cosigned the checkpoint on standard input.
func verify(key string) error {
	signed, text, err := readNote()
	if err != nil {
		return err
	}
	parts := strings.SplitN(key, "+", 3)
	if len(parts) != 3 {
		return errors.New("not a verifier key")
	}
	public, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	if public[0] != 6 {
		verifier, err := f_note.NewVerifierForCosignatureV1(key)
		if err != nil {
			return err
		}
		_, err = note.Open(signed, note.VerifierList(verifier))
		return err
	}
	parsed, err := mldsa.NewPublicKey(mldsa.MLDSA44(), public[1:])
	if err != nil {
		return err
	}
	prefix := "— " + parts[0] + " "
	for _, line := range strings.Split(string(signed), "\n") {
		encoded, ok := strings.CutPrefix(line, prefix)
		if !ok {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return err
		}
		if fmt.Sprintf("%x", signature[:4]) != parts[1] {
			continue
		}
		message, err := subtree(parts[0], binary.BigEndian.Uint64(signature[4:]), text)
		if err != nil {
			return err
		}
		return mldsa.Verify(parsed, message, signature[12:], nil)
	}
	return errors.New("no signature of this key")
}

func readNote() (signed []byte, text string, err error) {
	signed, err = io.ReadAll(os.Stdin)
	end := bytes.LastIndex(signed, []byte("\n\n"))
	if err != nil || end < 0 {
		return nil, "", errors.Join(errors.New("not a note"), err)
	}
	return signed, string(signed[:end+1]), nil
}

// subtree is what an ML-DSA-44 cosignature of a checkpoint signs, by C2SP
// tlog-cosignature.
func subtree(cosigner string, time uint64, text string) ([]byte, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return nil, errors.New("not a checkpoint")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return nil, err
	}
	message := append([]byte("subtree/v1\n\x00"), byte(len(cosigner)))
	message = append(message, cosigner...)
	message = binary.BigEndian.AppendUint64(message, time)
	message = append(message, byte(len(lines[0])))
	message = append(message, lines[0]...)
	message = binary.BigEndian.AppendUint64(message, 0)
	message = binary.BigEndian.AppendUint64(message, size)
	return append(message, root...), nil
}
