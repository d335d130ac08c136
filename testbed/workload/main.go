// Command workload is the only program in the default image of pods on a real
// node. Without arguments it also holds their sandboxes. Its flags correspond to
// the annotations of a simulated pod: it runs until SIGTERM or for the time of
// -run, takes the time of -drain to end after SIGTERM, and exits with the code of
// -exit. With -memory it takes this amount of memory first, with -disk this
// amount of its file system.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	run := flag.Duration("run", 0, "end by itself after this `time`; 0 is never")
	drain := flag.Duration("drain", 0, "after SIGTERM, continue for this `time`")
	exit := flag.Int("exit", 0, "end with this `code`")
	memory := flag.Int("memory", 0, "write to this number of `MiB`")
	disk := flag.Int("disk", 0, "write this number of `MiB` to the file system, or until it is full")
	flag.Parse()

	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("started")
	taken := make([]byte, *memory<<20)
	for at := 0; at < len(taken); at += 4096 {
		taken[at] = 1
	}

	if *disk > 0 {
		if err := fill("/filled", *disk); err != nil {
			fmt.Println(err)
		}
	}

	var over <-chan time.Time
	if *run > 0 {
		over = time.After(*run)
	}
	select {
	case <-over:
		fmt.Println("ran for", *run)
	case <-terminate:
		fmt.Println("SIGTERM, draining for", *drain)
		time.Sleep(*drain)
	}
	runtime.KeepAlive(taken)
	os.Exit(*exit)
}

// fill writes mebibytes MiB to a file.
func fill(path string, mebibytes int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for range mebibytes {
		if _, err := file.Write(block); err != nil {
			return err
		}
	}
	return nil
}
