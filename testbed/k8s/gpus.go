package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations on a node that describe its GPUs and their power. They may
// change at any time.
const (
	// idleWattsAnnotation: the power of a device that no running pod holds.
	idleWattsAnnotation = "daylight.dev/simulated-idle-watts"
	// timeSlicingAnnotation: the number of pods that share each device. The node's
	// capacity counts the shares, as NVIDIA's device plugin does.
	timeSlicingAnnotation = "daylight.dev/simulated-time-slicing"
	// migAnnotation: the number of instances of each device. The
	// node's capacity counts the instances (the plugin's "single" strategy).
	migAnnotation = "daylight.dev/simulated-mig"
	// bootsAnnotation: the node boots whenever this value changes, and its
	// devices count their energy from 0.
	bootsAnnotation = "daylight.dev/simulated-boots"
	// replacedAnnotation: the indexes of devices that were replaced ("0,3");
	// one that is named twice was replaced twice.
	replacedAnnotation = "daylight.dev/simulated-replaced-gpus"
	// energyJumpAnnotation: joules that each device's counter is ahead of
	// what was drawn; behind it, if negative.
	energyJumpAnnotation = "daylight.dev/simulated-energy-jump"
)

// wattsAnnotation on a pod: what each of its GPUs draws while it runs.
const wattsAnnotation = "daylight.dev/simulated-watts"

const (
	defaultIdleWatts = 60
	defaultWatts     = 350

	nvidiaResource = corev1.ResourceName("nvidia.com/gpu")
	amdResource    = corev1.ResourceName("amd.com/gpu")
)

// hardware is the GPUs of all simulated nodes.
type hardware struct {
	mu       sync.Mutex
	machines map[string]*machine
}

func newHardware() *hardware { return &hardware{machines: map[string]*machine{}} }

// machine is one node's: pods get devices as kubelet's device manager gives
// them, when they are bound, the first that are free; and each device counts
// its energy by what draws it.
type machine struct {
	name string

	mu       sync.Mutex
	resource corev1.ResourceName
	gpus     []*gpu
	claims   []*claim // in the order in which their pods were bound
	slots    int      // pods or instances that share a device
	mig      bool
	boots    string
	jump     int64  // joules
	idle     uint64 // milliwatts
	settled  time.Time
}

type gpu struct {
	uuid, serial string
	nanojoules   uint64
	holders      []*share // by slot; nil where it is free
}

// claim is a pod's on devices.
type claim struct {
	pod     types.UID
	placed  bool
	running bool
	watts   uint64 // milliwatts for each device
	wanted  []share
}

// share is a container's part in a device.
type share struct {
	claim                     *claim
	namespace, pod, container string
}

// reading is what can be seen of a device at one moment.
type reading struct {
	index        int
	uuid, serial string
	milliwatts   uint64
	millijoules  uint64
	busy         bool
	parts        []part
}

// part is one line's worth of a device: an instance, a pod's share, or the
// whole. Without a holder its pod is "".
type part struct {
	instance int // 0: not an instance
	share
}

// machine is that node's, made if it was not known.
func (h *hardware) machine(node string) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.machines[node]
	if !ok {
		m = &machine{name: node, slots: 1, idle: defaultIdleWatts * 1000, settled: time.Now()}
		h.machines[node] = m
	}
	return m
}

// removed forgets a node that is gone.
func (h *hardware) removed(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.machines, node)
}

// configure applies the node's annotations to its devices.
func (m *machine) configure(node *corev1.Node, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(now)
	said := func(annotation string, otherwise int64) int64 {
		number, err := strconv.ParseInt(node.Annotations[annotation], 10, 64)
		if err != nil {
			return otherwise
		}
		return number
	}
	m.idle = uint64(max(0, said(idleWattsAnnotation, defaultIdleWatts))) * 1000
	m.jump = said(energyJumpAnnotation, 0)

	instances := said(migAnnotation, 0)
	slots := int(max(1, instances, said(timeSlicingAnnotation, 1)))
	m.resource = nvidiaResource
	total := node.Status.Capacity[nvidiaResource]
	if total.IsZero() {
		m.resource = amdResource
		total = node.Status.Capacity[amdResource]
	}
	count := int(total.Value()) / slots
	m.mig = instances > 0
	if count != len(m.gpus) || slots != m.slots {
		m.slots = slots
		for len(m.gpus) < count {
			m.gpus = append(m.gpus, &gpu{})
		}
		m.gpus = m.gpus[:count]
		for _, gpu := range m.gpus {
			gpu.holders = make([]*share, slots)
		}
		for _, claim := range m.claims {
			claim.placed = false
		}
	}
	if boots := node.Annotations[bootsAnnotation]; boots != m.boots {
		m.boots = boots
		for _, gpu := range m.gpus {
			gpu.nanojoules = 0
		}
	}
	replaced := strings.Split(node.Annotations[replacedAnnotation], ",")
	for index, gpu := range m.gpus {
		times := 0
		for _, one := range replaced {
			if strings.TrimSpace(one) == strconv.Itoa(index) {
				times++
			}
		}
		gpu.become(fmt.Sprintf("%s/%d/%d", m.name, index, times))
	}
	m.place()
}

// become makes it the device of this identity; another than before is new.
func (g *gpu) become(identity string) {
	hash := sha256.Sum256([]byte(identity))
	uuid := fmt.Sprintf("GPU-%x-%x-%x-%x-%x", hash[:4], hash[4:6], hash[6:8], hash[8:10], hash[10:16])
	if uuid != g.uuid {
		g.uuid, g.serial, g.nanojoules = uuid, fmt.Sprintf("%x", hash[16:22]), 0
	}
}

// observe gives a bound pod its devices, and takes them when it has ended.
func (m *machine) observe(pod *corev1.Pod, now time.Time) {
	if isTerminal(pod) {
		m.release(pod.UID, now)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(now)
	at := slices.IndexFunc(m.claims, func(claim *claim) bool { return claim.pod == pod.UID })
	if at < 0 {
		claim := newClaim(pod)
		if len(claim.wanted) == 0 {
			return
		}
		at = len(m.claims)
		m.claims = append(m.claims, claim)
	}
	m.claims[at].running = pod.Status.Phase == corev1.PodRunning
	m.claims[at].watts = wattsOf(pod)
	m.place()
}

func newClaim(pod *corev1.Pod) *claim {
	c := &claim{pod: pod.UID}
	for _, container := range pod.Spec.Containers {
		count := container.Resources.Limits[nvidiaResource]
		if count.IsZero() {
			count = container.Resources.Limits[amdResource]
		}
		for range count.Value() {
			c.wanted = append(c.wanted, share{c, pod.Namespace, pod.Name, container.Name})
		}
	}
	return c
}

func wattsOf(pod *corev1.Pod) uint64 {
	watts, err := strconv.ParseUint(pod.Annotations[wattsAnnotation], 10, 32)
	if err != nil {
		watts = defaultWatts
	}
	return watts * 1000
}

// release takes a pod's devices.
func (m *machine) release(pod types.UID, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(now)
	m.claims = slices.DeleteFunc(m.claims, func(claim *claim) bool { return claim.pod == pod })
	for _, gpu := range m.gpus {
		for slot, holder := range gpu.holders {
			if holder != nil && holder.claim.pod == pod {
				gpu.holders[slot] = nil
			}
		}
	}
	m.place()
}

// place gives devices to claims that have none, the first that are free.
func (m *machine) place() {
	free := []**share{}
	for _, gpu := range m.gpus {
		for slot := range gpu.holders {
			if gpu.holders[slot] == nil {
				free = append(free, &gpu.holders[slot])
			}
		}
	}
	for _, claim := range m.claims {
		if claim.placed || len(claim.wanted) > len(free) {
			continue
		}
		for i := range claim.wanted {
			*free[i] = &claim.wanted[i]
		}
		claim.placed, free = true, free[len(claim.wanted):]
	}
}

// settle counts the energy until now at what is drawn since the last change.
func (m *machine) settle(now time.Time) {
	elapsed := now.Sub(m.settled).Microseconds()
	if elapsed <= 0 {
		return
	}
	m.settled = m.settled.Add(time.Duration(elapsed) * time.Microsecond)
	for _, gpu := range m.gpus {
		milliwatts, _ := m.draw(gpu)
		gpu.nanojoules += milliwatts * uint64(elapsed)
	}
}

// draw is what a device draws, in milliwatts, and whether a pod runs on it. Of
// a shared one each part draws its share.
func (m *machine) draw(gpu *gpu) (uint64, bool) {
	var milliwatts uint64
	busy := false
	for _, holder := range gpu.holders {
		if holder != nil && holder.claim.running {
			milliwatts, busy = milliwatts+holder.claim.watts, true
		} else {
			milliwatts += m.idle
		}
	}
	return milliwatts / uint64(max(1, len(gpu.holders))), busy
}

// read is what can be seen now of each device of one vendor, named by its
// resource.
func (m *machine) read(resource corev1.ResourceName, now time.Time) []reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(now)
	if resource != m.resource {
		return nil
	}
	readings := make([]reading, 0, len(m.gpus))
	for index, gpu := range m.gpus {
		milliwatts, busy := m.draw(gpu)
		readings = append(readings, reading{
			index: index, uuid: gpu.uuid, serial: gpu.serial,
			milliwatts: milliwatts, busy: busy,
			millijoules: uint64(max(0, int64(gpu.nanojoules/1_000_000)+m.jump*1000)),
			parts:       m.parts(gpu),
		})
	}
	return readings
}

func (m *machine) parts(gpu *gpu) []part {
	parts := []part{}
	for slot, holder := range gpu.holders {
		one := part{}
		if holder != nil {
			one.share = *holder
		}
		if m.mig {
			one.instance = firstInstance + slot
		} else if holder == nil || slices.Contains(parts, one) {
			continue
		}
		parts = append(parts, one)
	}
	if len(parts) == 0 {
		parts = append(parts, part{})
	}
	return parts
}

// firstInstance is the GPU instance ID from which an H100's smallest count.
const firstInstance = 7
