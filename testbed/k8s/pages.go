package main

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// metricsAnnotation: what the pod answers at /metrics on port 9735 of an
// address of its own, while it runs.
const metricsAnnotation = "daylight.dev/simulated-metrics"

const metricsPort = 9735

// pages are what pods answer over HTTP, each on an address of its own.
type pages struct {
	mu      sync.Mutex
	running map[types.UID]*http.Server
	at      map[types.UID]netip.Addr
}

func newPages() *pages {
	return &pages{running: map[types.UID]*http.Server{}, at: map[types.UID]netip.Addr{}}
}

func hasPage(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[metricsAnnotation]
	return ok
}

// open serves the pod's page if that is not done yet, on the address that the
// pod has or else on a free one, and returns that.
func (p *pages) open(pod *corev1.Pod) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if address, ok := p.at[pod.UID]; ok {
		return address, nil
	}
	listener, err := listen(pod.Status.PodIP, metricsPort)
	if err != nil {
		return netip.Addr{}, err
	}
	text := pod.Annotations[metricsAnnotation]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(writer http.ResponseWriter, _ *http.Request) {
		writer.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(writer, text)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	address := listener.Addr().(*net.TCPAddr).AddrPort().Addr()
	p.running[pod.UID], p.at[pod.UID] = server, address
	go func() { _ = server.Serve(listener) }()
	return address, nil
}

// close ends the pod's page, if there is one.
func (p *pages) close(pod types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if server, ok := p.running[pod]; ok {
		_ = server.Close()
		delete(p.running, pod)
		delete(p.at, pod)
	}
}
