package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
)

// Annotations on a pod that control it on a simulated node. Times are Go
// durations: "1500ms", "30s", "1h30m".
const (
	// startTimeAnnotation: from being bound to Running and Ready. Default 0.
	startTimeAnnotation = "daylight.dev/simulated-start-time"
	// runTimeAnnotation: from Running to the end by itself. Default: runs
	// until it is deleted or its activeDeadlineSeconds have passed.
	runTimeAnnotation = "daylight.dev/simulated-run-time"
	// drainTimeAnnotation: from SIGTERM to the end. With it, "0s" included,
	// the program handles SIGTERM and exits 0 unless exitAnnotation says
	// otherwise; without it, SIGTERM ends it at once with code 143. A drain
	// longer than the grace period ends by SIGKILL, code 137.
	drainTimeAnnotation = "daylight.dev/simulated-drain-time"
	// exitAnnotation: the exit code, when the program ends by itself or
	// after a drain. Default 0.
	exitAnnotation = "daylight.dev/simulated-exit"
	// messageAnnotation: the containers' termination message. Default: none.
	messageAnnotation = "daylight.dev/simulated-termination-message"
)

// outageAnnotation, "true" on a node: it has no kubelet, and its pods do not
// change.
const outageAnnotation = "daylight.dev/simulated-outage"

const (
	exitTerminated = 128 + 15 // died of SIGTERM
	exitKilled     = 128 + 9  // died of SIGKILL
)

// podSimulator does for pods on simulated nodes what kubelets do: starts
// them, ends them when their time is over, and on deletion lets them drain,
// reports them terminal, and only then removes them.
//
// kwok's stages could nearly do this; what they cannot: retry a write that
// broke with its connection (an API server that restarts would leave pods
// pending for ever), delete with a UID precondition (a pod of the same name
// may be a new one), and keep a timer running while the object changes.
type podSimulator struct {
	client kubernetes.Interface
	pods   cache.Indexer
	nodes  cache.Store
	queue  workqueue.TypedRateLimitingInterface[string]

	mu sync.Mutex
	// seen has the moments that the API knows only to the second.
	seen map[types.UID]moments

	nextIP    atomic.Uint32
	hardware  *hardware
	exporters *exporters
	pages     *pages
}

// moments are when a pod was first seen in each state, and the version of it
// that was acted upon last, so that none is acted upon twice.
type moments struct {
	bound, running, deleted time.Time
	acted                   string
}

const byNode = "node"

// simulatePods runs until ctx is done. kubeconfig is a path.
func simulatePods(ctx context.Context, kubeconfig string, workers int) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.UserAgent = "simulated-kubelets"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.RateLimiter = flowcontrol.NewFakeAlwaysRateLimiter()
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}

	s := &podSimulator{
		client: client,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 2*time.Second)),
		seen:     map[types.UID]moments{},
		hardware: newHardware(),
	}
	s.exporters = newExporters(s.hardware)
	s.pages = newPages()

	core := client.CoreV1().RESTClient()
	nodes := cache.NewSharedIndexInformer(
		cache.NewListWatchFromClient(core, "nodes", metav1.NamespaceAll, fields.Everything()),
		&corev1.Node{}, 0, cache.Indexers{})
	pods := cache.NewSharedIndexInformer(
		cache.NewListWatchFromClient(core, "pods", metav1.NamespaceAll,
			fields.OneTermNotEqualSelector("spec.nodeName", "")),
		&corev1.Pod{}, 0, cache.Indexers{byNode: func(object any) ([]string, error) {
			return []string{object.(*corev1.Pod).Spec.NodeName}, nil
		}})
	s.nodes, s.pods = nodes.GetStore(), pods.GetIndexer()
	for _, informer := range []cache.SharedIndexInformer{nodes, pods} {
		if err := informer.SetTransform(withoutManagedFields); err != nil {
			return err
		}
	}

	if _, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			s.configure(object.(*corev1.Node))
			s.arrived(object.(*corev1.Node))
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			if node, ok := object.(*corev1.Node); ok {
				s.hardware.removed(node.Name)
			}
		},
		UpdateFunc: func(old, object any) {
			if devicesDiffer(old.(*corev1.Node), object.(*corev1.Node)) {
				s.configure(object.(*corev1.Node))
			}
			if isAway(old.(*corev1.Node)) && !isAway(object.(*corev1.Node)) {
				s.arrived(object.(*corev1.Node))
			}
		},
	}); err != nil {
		return err
	}
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { s.observe(object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { s.observe(object.(*corev1.Pod)) },
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				s.forget(pod)
			}
		},
	}); err != nil {
		return err
	}

	go nodes.Run(ctx.Done())
	go pods.Run(ctx.Done())
	for range workers {
		go s.work(ctx)
	}
	<-ctx.Done()
	s.queue.ShutDown()
	return nil
}

// arrived looks at the pods that waited for their node.
func (s *podSimulator) arrived(node *corev1.Node) {
	keys, err := s.pods.IndexKeys(byNode, node.Name)
	if err != nil {
		return
	}
	for _, key := range keys {
		s.queue.Add(key)
	}
}

// configure applies the node's annotations to its devices and their exporter.
func (s *podSimulator) configure(node *corev1.Node) {
	s.hardware.machine(node.Name).configure(node, time.Now())
	s.exporters.configure(node)
}

func devicesDiffer(a, b *corev1.Node) bool {
	return !maps.Equal(a.Annotations, b.Annotations) ||
		!maps.EqualFunc(a.Status.Capacity, b.Status.Capacity, resource.Quantity.Equal)
}

func isAway(node *corev1.Node) bool { return node.Annotations[outageAnnotation] == "true" }

// withoutManagedFields leaves out what is of no use here and large.
func withoutManagedFields(object any) (any, error) {
	if meta, ok := object.(metav1.Object); ok {
		meta.SetManagedFields(nil)
	}
	return object, nil
}

// observe notes since when the pod is in the state it is in, and looks at it.
func (s *podSimulator) observe(pod *corev1.Pod) {
	now := time.Now()
	s.mu.Lock()
	m := s.seen[pod.UID]
	if m.bound.IsZero() {
		m.bound = now
	}
	if m.running.IsZero() && pod.Status.Phase == corev1.PodRunning {
		m.running = noEarlier(now, pod.Status.StartTime)
	}
	if m.deleted.IsZero() && pod.DeletionTimestamp != nil {
		grace := time.Duration(deletionGrace(pod)) * time.Second
		m.deleted = noEarlier(now, &metav1.Time{Time: pod.DeletionTimestamp.Add(-grace)})
	}
	s.seen[pod.UID] = m
	s.mu.Unlock()
	s.hardware.machine(pod.Spec.NodeName).observe(pod, now)
	if isTerminal(pod) {
		s.exporters.close(pod.UID)
		s.pages.close(pod.UID)
	}
	s.queue.Add(pod.Namespace + "/" + pod.Name)
}

// noEarlier is the moment that was stamped with stamp, which has whole
// seconds only: now, if that is within the second, else (this process began
// later) the stamp's own second.
func noEarlier(now time.Time, stamp *metav1.Time) time.Time {
	if stamp == nil || now.Sub(stamp.Time) < 2*time.Second {
		return now
	}
	return stamp.Time
}

func (s *podSimulator) forget(pod *corev1.Pod) {
	s.mu.Lock()
	delete(s.seen, pod.UID)
	s.mu.Unlock()
	s.hardware.machine(pod.Spec.NodeName).release(pod.UID, time.Now())
	s.exporters.close(pod.UID)
	s.pages.close(pod.UID)
}

func (s *podSimulator) work(ctx context.Context) {
	for {
		key, shutdown := s.queue.Get()
		if shutdown {
			return
		}
		err := s.step(ctx, key)
		s.queue.Done(key)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
			// Gone or changed: the watch delivers the change.
			s.queue.Forget(key)
		default:
			s.queue.AddRateLimited(key)
		}
	}
}

// step moves the pod to its next state if its time has come, and otherwise
// queues it for then.
func (s *podSimulator) step(ctx context.Context, key string) error {
	object, exists, err := s.pods.GetByKey(key)
	if err != nil || !exists {
		return err
	}
	pod := object.(*corev1.Pod)
	// There is no kubelet without a node. The node's creation queues its pods again.
	found, exists, err := s.nodes.GetByKey(pod.Spec.NodeName)
	if err != nil || !exists || isAway(found.(*corev1.Node)) {
		return err
	}
	node := found.(*corev1.Node)
	s.mu.Lock()
	m := s.seen[pod.UID]
	s.mu.Unlock()
	if m.acted == pod.ResourceVersion {
		return nil
	}

	if pod.DeletionTimestamp != nil && isTerminal(pod) {
		if deletionGrace(pod) == 0 {
			return nil // held by finalizers only
		}
		return s.acted(pod, s.remove(ctx, pod))
	}
	if isExporter(pod) && pod.Status.Phase == corev1.PodRunning {
		// It continues after a restart of this process.
		if _, err := s.exporters.open(pod, node); err != nil {
			return err
		}
	}
	if hasPage(pod) && pod.Status.Phase == corev1.PodRunning {
		if _, err := s.pages.open(pod); err != nil {
			return err
		}
	}
	due, change := next(pod, m)
	if change == nil {
		return nil
	}
	if wait := time.Until(due); wait > 0 {
		s.queue.AddAfter(key, wait)
		return nil
	}
	status := change(pod, time.Now())
	if status.Phase == corev1.PodRunning {
		if err := s.address(pod, node, status); err != nil {
			return err
		}
	}
	if err := s.acted(pod, s.report(ctx, pod, status)); err != nil {
		return err
	}
	if pod.DeletionTimestamp != nil && deletionGrace(pod) != 0 {
		return s.remove(ctx, pod)
	}
	return nil
}

// acted records that this version of the pod is handled, unless there is an
// error.
func (s *podSimulator) acted(pod *corev1.Pod, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.seen[pod.UID]; ok {
		m.acted = pod.ResourceVersion
		s.seen[pod.UID] = m
	}
	return nil
}

// next is what happens to the pod next, and when. Nothing happens to a pod
// that has ended, or that runs without end.
func next(pod *corev1.Pod, m moments) (time.Time, func(*corev1.Pod, time.Time) *corev1.PodStatus) {
	drain, handlesTerm := duration(pod, drainTimeAnnotation)
	if pod.DeletionTimestamp != nil {
		grace := time.Duration(deletionGrace(pod)) * time.Second
		code := exitTerminated
		switch {
		case pod.Status.Phase != corev1.PodRunning:
			drain, code = 0, exitKilled
		case drain > grace:
			drain, code = grace, exitKilled
		case handlesTerm:
			code = exitCode(pod)
		}
		return m.deleted.Add(drain), ended(code, "", "")
	}
	switch pod.Status.Phase {
	case corev1.PodRunning:
		const never = time.Duration(1<<63 - 1)
		run, deadline := never, never
		if said, ok := duration(pod, runTimeAnnotation); ok {
			run = said
		}
		if seconds := pod.Spec.ActiveDeadlineSeconds; seconds != nil {
			deadline = time.Duration(*seconds) * time.Second
		}
		switch {
		case run == never && deadline == never:
			return time.Time{}, nil
		case run <= deadline:
			return m.running.Add(run), ended(exitCode(pod), "", "")
		default:
			grace := 30 * time.Second
			if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
				grace = time.Duration(*seconds) * time.Second
			}
			code := exitTerminated
			if drain > grace {
				drain, code = grace, exitKilled
			} else if handlesTerm {
				code = exitCode(pod)
			}
			return m.running.Add(deadline + drain), ended(code, "DeadlineExceeded",
				"Pod was active on the node longer than the specified deadline")
		}
	case corev1.PodSucceeded, corev1.PodFailed:
		return time.Time{}, nil
	default:
		start, _ := duration(pod, startTimeAnnotation)
		return m.bound.Add(start), started
	}
}

// started is the status of a pod whose containers all run and are ready.
func started(pod *corev1.Pod, now time.Time) *corev1.PodStatus {
	at := metav1.NewTime(now)
	status := &corev1.PodStatus{
		Phase:     corev1.PodRunning,
		StartTime: &at,
		Conditions: conditions(at, corev1.ConditionTrue, "",
			corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady),
	}
	for _, gate := range pod.Spec.ReadinessGates {
		status.Conditions = append(status.Conditions,
			conditions(at, corev1.ConditionTrue, "", gate.ConditionType)...)
	}
	running := func(container corev1.Container) corev1.ContainerStatus {
		yes := true
		return corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
		}
	}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, running(container))
	}
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			status.InitContainerStatuses = append(status.InitContainerStatuses, running(container))
			continue
		}
		status.InitContainerStatuses = append(status.InitContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: true,
			State: corev1.ContainerState{Terminated: terminated(0, at, at)},
		})
	}
	return status
}

// ended is the status of a pod whose containers have exited with code. The
// reason and message are the pod's own, and may be empty.
func ended(code int, reason, message string) func(*corev1.Pod, time.Time) *corev1.PodStatus {
	return func(pod *corev1.Pod, now time.Time) *corev1.PodStatus {
		at := metav1.NewTime(now)
		status := &corev1.PodStatus{Phase: corev1.PodSucceeded, Reason: reason, Message: message}
		why := "PodCompleted"
		if code != 0 || reason != "" {
			status.Phase, why = corev1.PodFailed, "PodFailed"
		}
		status.Conditions = append(
			conditions(at, corev1.ConditionFalse, why, corev1.PodReady, corev1.ContainersReady),
			conditions(at, corev1.ConditionFalse, "", corev1.PodReadyToStartContainers)...)
		exited := func(now corev1.ContainerStatus) corev1.ContainerStatus {
			if now.State.Terminated != nil {
				return now
			}
			no, since := false, at
			if now.State.Running != nil {
				since = now.State.Running.StartedAt
			}
			now.Ready, now.Started = false, &no
			now.State = corev1.ContainerState{Terminated: terminated(code, since, at)}
			now.State.Terminated.Message = pod.Annotations[messageAnnotation]
			return now
		}
		statuses := pod.Status.ContainerStatuses
		if len(statuses) == 0 { // it never started
			for _, container := range pod.Spec.Containers {
				statuses = append(statuses, corev1.ContainerStatus{Name: container.Name, Image: container.Image})
			}
		}
		for _, container := range statuses {
			status.ContainerStatuses = append(status.ContainerStatuses, exited(container))
		}
		for _, container := range pod.Status.InitContainerStatuses {
			status.InitContainerStatuses = append(status.InitContainerStatuses, exited(container))
		}
		return status
	}
}

func terminated(code int, from, to metav1.Time) *corev1.ContainerStateTerminated {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, StartedAt: from, FinishedAt: to,
	}
}

func conditions(
	at metav1.Time, status corev1.ConditionStatus, reason string, kinds ...corev1.PodConditionType,
) []corev1.PodCondition {
	all := make([]corev1.PodCondition, 0, len(kinds))
	for _, kind := range kinds {
		all = append(all, corev1.PodCondition{
			Type: kind, Status: status, Reason: reason, LastTransitionTime: at,
		})
	}
	return all
}

// address gives a starting pod its node's address and one of its own, which is
// one that can be reached if the pod is an exporter or has a page.
func (s *podSimulator) address(pod *corev1.Pod, node *corev1.Node, status *corev1.PodStatus) error {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			status.HostIP = address.Address
			status.HostIPs = []corev1.HostIP{{IP: address.Address}}
			break
		}
	}
	status.PodIP = status.HostIP
	if isExporter(pod) {
		address, err := s.exporters.open(pod, node)
		if err != nil {
			return err
		}
		status.PodIP = address.String()
	} else if hasPage(pod) {
		address, err := s.pages.open(pod)
		if err != nil {
			return err
		}
		status.PodIP = address.String()
	} else if !pod.Spec.HostNetwork {
		n := s.nextIP.Add(1)
		status.PodIP = netip.AddrFrom4([4]byte{10, byte(128 | n>>16&0x7f), byte(n >> 8), byte(n)}).String()
	}
	if status.PodIP != "" {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	return nil
}

// report patches the status in, of this very pod and not of another that has
// got its name.
func (s *podSimulator) report(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = s.client.CoreV1().Pods(pod.Namespace).Patch(
		ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// remove deletes this very pod at once. Finalizers still hold it.
func (s *podSimulator) remove(ctx context.Context, pod *corev1.Pod) error {
	now := int64(0)
	return s.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now,
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
}

func isTerminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func deletionGrace(pod *corev1.Pod) int64 {
	if pod.DeletionGracePeriodSeconds == nil {
		return 0
	}
	return *pod.DeletionGracePeriodSeconds
}

// duration reads an annotation; one that cannot be read counts as absent.
func duration(pod *corev1.Pod, annotation string) (time.Duration, bool) {
	said, ok := pod.Annotations[annotation]
	if !ok {
		return 0, false
	}
	length, err := time.ParseDuration(said)
	return length, err == nil
}

func exitCode(pod *corev1.Pod) int {
	code, err := strconv.Atoi(pod.Annotations[exitAnnotation])
	if err != nil {
		return 0
	}
	return code
}
