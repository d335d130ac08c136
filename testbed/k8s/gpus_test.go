package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func gpuNode(count string, annotations map[string]string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: annotations},
		Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{nvidiaResource: resource.MustParse(count)},
		},
	}
}

func gpuPod(name, count, watts string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "a", UID: types.UID(name),
			Annotations: map[string]string{wattsAnnotation: watts},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{nvidiaResource: resource.MustParse(count)},
		}}}},
		Status: corev1.PodStatus{Phase: phase},
	}
}

func machineAt(t time.Time, node *corev1.Node) *machine {
	m := newHardware().machine("n")
	m.settled = t
	m.configure(node, t)
	return m
}

func holders(m *machine, now time.Time) []string {
	names := []string{}
	for _, device := range m.read(nvidiaResource, now) {
		names = append(names, device.parts[0].pod)
	}
	return names
}

func wantHolders(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%q, not %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%q, not %q", got, want)
		}
	}
}

func TestEnergyIsWhatWasDrawn(t *testing.T) {
	at := running
	m := machineAt(at, gpuNode("2", map[string]string{idleWattsAnnotation: "50"}))
	m.observe(gpuPod("p", "1", "400", corev1.PodPending), at.Add(10*time.Second))
	m.observe(gpuPod("p", "1", "400", corev1.PodRunning), at.Add(20*time.Second))
	m.observe(gpuPod("p", "1", "400", corev1.PodSucceeded), at.Add(50*time.Second))
	devices := m.read(nvidiaResource, at.Add(60*time.Second))
	// 20 s and 10 s idle, 30 s busy.
	if got := devices[0].millijoules; got != (30*50+30*400)*1000 {
		t.Errorf("device 0 counts %d mJ", got)
	}
	if got := devices[1].millijoules; got != 60*50*1000 {
		t.Errorf("device 1 counts %d mJ", got)
	}
	if devices[0].busy || devices[0].milliwatts != 50_000 {
		t.Errorf("device 0 is not idle: %+v", devices[0])
	}
}

func TestPodsGetTheFirstFreeDevices(t *testing.T) {
	at := running
	m := machineAt(at, gpuNode("3", nil))
	m.observe(gpuPod("a", "1", "", corev1.PodRunning), at)
	m.observe(gpuPod("b", "2", "", corev1.PodRunning), at)
	wantHolders(t, holders(m, at), "a", "b", "b")
	m.release("a", at)
	wantHolders(t, holders(m, at), "", "b", "b")
	m.observe(gpuPod("c", "2", "", corev1.PodPending), at) // has to wait
	m.observe(gpuPod("d", "1", "", corev1.PodPending), at)
	wantHolders(t, holders(m, at), "d", "b", "b")
	m.release("b", at)
	wantHolders(t, holders(m, at), "d", "c", "c")
}

func TestAnotherBootAndAnotherDeviceCountFromZero(t *testing.T) {
	at := running
	m := machineAt(at, gpuNode("2", nil))
	before := m.read(nvidiaResource, at.Add(time.Minute))
	m.configure(gpuNode("2", map[string]string{replacedAnnotation: "1"}), at.Add(time.Minute))
	after := m.read(nvidiaResource, at.Add(time.Minute))
	if after[0].uuid != before[0].uuid || after[0].millijoules != before[0].millijoules {
		t.Errorf("device 0 was replaced, too: %+v", after[0])
	}
	if after[1].uuid == before[1].uuid || after[1].millijoules != 0 {
		t.Errorf("device 1 is the old one: %+v", after[1])
	}
	m.configure(gpuNode("2", map[string]string{replacedAnnotation: "1", bootsAnnotation: "2"}), at.Add(2*time.Minute))
	booted := m.read(nvidiaResource, at.Add(2*time.Minute))
	if booted[0].millijoules != 0 || booted[1].uuid != after[1].uuid {
		t.Errorf("after a boot: %+v", booted)
	}
}

func TestPartsOfADevice(t *testing.T) {
	at := running
	sliced := machineAt(at, gpuNode("4", map[string]string{timeSlicingAnnotation: "4", idleWattsAnnotation: "40"}))
	sliced.observe(gpuPod("a", "1", "400", corev1.PodRunning), at)
	sliced.observe(gpuPod("b", "1", "400", corev1.PodRunning), at)
	devices := sliced.read(nvidiaResource, at)
	if len(devices) != 1 || len(devices[0].parts) != 2 || devices[0].milliwatts != 220_000 {
		t.Errorf("time-slicing: %+v", devices)
	}
	mig := machineAt(at, gpuNode("14", map[string]string{migAnnotation: "7"}))
	mig.observe(gpuPod("a", "1", "", corev1.PodRunning), at)
	devices = mig.read(nvidiaResource, at)
	if len(devices) != 2 || len(devices[0].parts) != 7 || devices[0].parts[6].instance != 13 ||
		devices[0].parts[0].pod != "a" || devices[0].parts[1].pod != "" {
		t.Errorf("MIG: %+v", devices)
	}
}
