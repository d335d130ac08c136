package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations that make a pod an exporter of its node's GPUs.
const (
	// exporterAnnotation: the vendor of the exporter, a key of expositions. It
	// listens on the pod's own loopback address while the pod runs.
	exporterAnnotation = "daylight.dev/simulated-exporter"
	// refreshAnnotation: the interval at which it reads its values. Scrapes in
	// between repeat them. Default 30s.
	refreshAnnotation = "daylight.dev/simulated-exporter-refresh"
	// powerLimitAnnotation: "true" adds the power limit to its fields.
	powerLimitAnnotation = "daylight.dev/simulated-exporter-power-limit"
)

// Annotations on a node that cause faults of its exporter. They may change at
// any time.
const (
	// restartsAnnotation: the exporter restarts whenever this value changes.
	restartsAnnotation = "daylight.dev/simulated-exporter-restarts"
	// faultsAnnotation: a comma-separated list of
	//
	//	hang           it accepts requests and does not respond
	//	error          it responds with 500
	//	frozen         it repeats its values for ever
	//	blank=METRIC   the metric has the number for "no value"
	//	missing=METRIC the metric is left out
	//	time=OFFSET    each line has a timestamp with this error ("-1h")
	faultsAnnotation = "daylight.dev/simulated-exporter-faults"
)

const (
	defaultRefresh = 30 * time.Second
	// restartTime is how long an exporter that restarts is away.
	restartTime = time.Second
)

// exporters are those of all nodes.
type exporters struct {
	hardware *hardware

	mu      sync.Mutex
	running map[types.UID]*exporter
}

func newExporters(hardware *hardware) *exporters {
	return &exporters{hardware: hardware, running: map[types.UID]*exporter{}}
}

// exporter is one pod's.
type exporter struct {
	exposition
	node    string
	machine *machine
	refresh time.Duration
	limit   bool
	address netip.AddrPort
	stop    context.CancelFunc
	// restart restarts it when it receives a value.
	restart chan struct{}

	mu       sync.Mutex
	restarts string
	faults   faults
	at       time.Time
	readings []reading
	answer   []byte // the text of at and readings; nil until it is written
}

type faults struct {
	hang, fail, frozen bool
	deviations
}

// isExporter returns whether the pod simulates an exporter.
func isExporter(pod *corev1.Pod) bool {
	_, ok := expositions[pod.Annotations[exporterAnnotation]]
	return ok
}

// open starts the pod's exporter if it does not run, on the address that the
// pod has or else on a free one, and returns that.
func (e *exporters) open(pod *corev1.Pod, node *corev1.Node) (netip.Addr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.running[pod.UID]; ok {
		return known.address.Addr(), nil
	}
	refresh, ok := duration(pod, refreshAnnotation)
	if !ok || refresh <= 0 {
		refresh = defaultRefresh
	}
	x := &exporter{
		exposition: expositions[pod.Annotations[exporterAnnotation]],
		node:       node.Name,
		machine:    e.hardware.machine(node.Name),
		refresh:    refresh,
		limit:      pod.Annotations[powerLimitAnnotation] == "true",
		restart:    make(chan struct{}, 1),
		restarts:   restartsOf(node),
		faults:     faultsOf(node),
	}
	listener, err := listen(pod.Status.PodIP, x.port)
	if err != nil {
		return netip.Addr{}, err
	}
	x.address = listener.Addr().(*net.TCPAddr).AddrPort()
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	e.running[pod.UID] = x
	go x.run(ctx, listener)
	return x.address.Addr(), nil
}

// close ends the pod's exporter, if there is one.
func (e *exporters) close(pod types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.running[pod]; ok {
		x.stop()
		delete(e.running, pod)
	}
}

// configure applies the node's annotations to its exporter.
func (e *exporters) configure(node *corev1.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.running {
		if x.node == node.Name {
			x.configure(node)
		}
	}
}

func (x *exporter) configure(node *corev1.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults, x.answer = faultsOf(node), nil
	if restarts := restartsOf(node); restarts != x.restarts {
		x.restarts = restarts
		select {
		case x.restart <- struct{}{}:
		default: // one is under way
		}
	}
}

// restartsOf is another string after each restart of the exporter or its node.
func restartsOf(node *corev1.Node) string {
	return node.Annotations[restartsAnnotation] + "/" + node.Annotations[bootsAnnotation]
}

func faultsOf(node *corev1.Node) faults {
	found := faults{}
	for _, fault := range strings.Split(node.Annotations[faultsAnnotation], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(fault), "=")
		switch name {
		case "":
		case "hang":
			found.hang = true
		case "error":
			found.fail = true
		case "frozen":
			found.frozen = true
		case "blank":
			found.blank = append(found.blank, value)
		case "missing":
			found.missing = append(found.missing, value)
		case "time":
			offset, err := time.ParseDuration(value)
			if err != nil {
				slog.Warn("a fault's time is not a duration", "node", node.Name, "time", value)
				continue
			}
			found.offset = &offset
		default:
			slog.Warn("no such fault", "node", node.Name, "fault", name)
		}
	}
	return found
}

// listen listens at the pod's address; if it has none yet, at a free one. Other
// clusters on this machine take theirs from the same network.
func listen(podIP string, port uint16) (net.Listener, error) {
	if podIP != "" {
		return net.Listen("tcp4", net.JoinHostPort(podIP, fmt.Sprint(port)))
	}
	for range 100 {
		n := rand.Uint32()
		address := netip.AddrFrom4([4]byte{127, byte(1 + n>>16%254), byte(n >> 8), byte(1 + n%254)})
		listener, err := net.Listen("tcp4", netip.AddrPortFrom(address, port).String())
		if !errors.Is(err, syscall.EADDRINUSE) {
			return listener, err
		}
	}
	return nil, fmt.Errorf("no address with a free port %d was found in 127.0.0.0/8", port)
}

// run answers scrapes until ctx is done.
func (x *exporter) run(ctx context.Context, listener net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", x.serve)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	for {
		x.take(true)
		server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(listener) }()
		restart := x.refreshUntilRestart(ctx)
		_ = server.Close()
		if !restart {
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(restartTime):
			}
			var err error
			if listener, err = listen(x.address.Addr().String(), x.port); err == nil {
				break
			}
			slog.Warn("an exporter cannot listen again", "address", x.address, "err", err)
		}
	}
}

// refreshUntilRestart takes values at each refresh. It returns false when ctx
// is done.
func (x *exporter) refreshUntilRestart(ctx context.Context) bool {
	ticker := time.NewTicker(x.refresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-x.restart:
			return true
		case <-ticker.C:
			x.take(false)
		}
	}
}

// take takes the devices' values; when they are frozen, only to have some.
func (x *exporter) take(first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.faults.frozen && !first {
		return
	}
	x.at = time.Now()
	x.readings, x.answer = x.machine.read(x.resource, x.at), nil
}

func (x *exporter) serve(writer http.ResponseWriter, request *http.Request) {
	x.mu.Lock()
	faults := x.faults
	if x.answer == nil {
		x.answer = x.write(x.node, x.at, x.readings, x.limit, faults.deviations)
	}
	answer := x.answer
	x.mu.Unlock()
	switch {
	case faults.hang:
		<-request.Context().Done()
	case faults.fail:
		http.Error(writer, "internal server error", http.StatusInternalServerError)
	default:
		writer.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = writer.Write(answer)
	}
}
