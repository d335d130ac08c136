// Command k8s is a whole Kubernetes in one static binary: etcd, the control
// plane, the node agents, kwok, kubectl and helm, each as released upstream.
// The first argument (or, for a link to this binary, the name it was called
// by) chooses which of them to be; the rest of the arguments are that
// program's own. One program is the testbed's: simulated-nodes, kwok's nodes
// with pods that behave as their annotations say (see podSimulator).
//
// A server exits when its standard input closes: gracefully if it can within
// a few seconds, otherwise at once. The program that started it holds the other
// end of a pipe, so nothing outlives its parent, not even one that was killed.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	// For time zones in CronJobs, as in the upstream binaries.
	_ "time/tzdata"

	// Authentication plugins for kubectl, helm and kwok.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// program is one of the programs in this binary. It sees os.Args as if it
// were alone, and returns its exit code.
type program struct {
	run func() int
	// server programs run until a signal, or the end of their standard input.
	server bool
}

var programs = map[string]program{
	"etcd":                    {etcd, true},
	"kube-apiserver":          {apiserver, true},
	"kube-controller-manager": {controllerManager, true},
	"kube-scheduler":          {scheduler, true},
	"kube-proxy":              {proxy, true},
	"kubelet":                 {kubelet, true},
	"kwok":                    {kwok, true},
	"simulated-nodes":         {simulatedNodes, true},
	"kubectl":                 {kubectl, false},
	"helm":                    {helm, false},
}

func main() {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	chosen, ok := programs[name]
	if !ok {
		if len(os.Args) < 2 {
			usage("no program named")
		}
		name = os.Args[1]
		if chosen, ok = programs[name]; !ok {
			usage(fmt.Sprintf("no program %q in this binary", name))
		}
		os.Args = slices.Concat([]string{name}, os.Args[2:])
	}
	if chosen.server {
		exitWhenStdinCloses()
	}
	os.Exit(chosen.run())
}

func usage(problem string) {
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "k8s: %s\nusage: k8s PROGRAM [ARGUMENT...], with PROGRAM one of: %s\n",
		problem, strings.Join(names, ", "))
	os.Exit(2)
}
