package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	bound   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	running = bound.Add(time.Minute)
	deleted = bound.Add(time.Hour)
)

func TestNext(t *testing.T) {
	for name, test := range map[string]struct {
		phase       corev1.PodPhase
		annotations map[string]string
		deadline    int64 // 0: none
		grace       int64 // -1: not deleted
		due         time.Time
		becomes     corev1.PodPhase // "": nothing happens
		exit        int32
		reason      string
	}{
		"a bound pod starts at once": {
			phase: corev1.PodPending, grace: -1, due: bound, becomes: corev1.PodRunning,
		},
		"or when its images are there": {
			phase: corev1.PodPending, annotations: map[string]string{startTimeAnnotation: "2s"}, grace: -1,
			due: bound.Add(2 * time.Second), becomes: corev1.PodRunning,
		},
		"a running pod continues": {phase: corev1.PodRunning, grace: -1},
		"until its time is over": {
			phase: corev1.PodRunning, annotations: map[string]string{runTimeAnnotation: "1h"}, grace: -1,
			due: running.Add(time.Hour), becomes: corev1.PodSucceeded,
		},
		"maybe with an error": {
			phase:       corev1.PodRunning,
			annotations: map[string]string{runTimeAnnotation: "1h", exitAnnotation: "2"}, grace: -1,
			due: running.Add(time.Hour), becomes: corev1.PodFailed, exit: 2,
		},
		"an annotation that is no duration is ignored": {
			phase: corev1.PodRunning, annotations: map[string]string{runTimeAnnotation: "soon"}, grace: -1,
		},
		"a deadline comes first": {
			phase: corev1.PodRunning, annotations: map[string]string{runTimeAnnotation: "1h"}, deadline: 60, grace: -1,
			due: running.Add(time.Minute), becomes: corev1.PodFailed, exit: 143, reason: "DeadlineExceeded",
		},
		"a deadline comes last": {
			phase: corev1.PodRunning, annotations: map[string]string{runTimeAnnotation: "1s"}, deadline: 60, grace: -1,
			due: running.Add(time.Second), becomes: corev1.PodSucceeded,
		},
		"a deadline waits for the drain, and has failed all the same": {
			phase: corev1.PodRunning, annotations: map[string]string{drainTimeAnnotation: "5s"}, deadline: 60, grace: -1,
			due: running.Add(65 * time.Second), becomes: corev1.PodFailed, reason: "DeadlineExceeded",
		},
		"SIGTERM kills": {
			phase: corev1.PodRunning, grace: 30, due: deleted, becomes: corev1.PodFailed, exit: 143,
		},
		"unless it is handled": {
			phase: corev1.PodRunning, annotations: map[string]string{drainTimeAnnotation: "0s"}, grace: 30,
			due: deleted, becomes: corev1.PodSucceeded,
		},
		"which may take a while": {
			phase: corev1.PodRunning, annotations: map[string]string{drainTimeAnnotation: "30s"}, grace: 30,
			due: deleted.Add(30 * time.Second), becomes: corev1.PodSucceeded,
		},
		"but not longer than the grace period": {
			phase: corev1.PodRunning, annotations: map[string]string{drainTimeAnnotation: "31s"}, grace: 30,
			due: deleted.Add(30 * time.Second), becomes: corev1.PodFailed, exit: 137,
		},
		"a pod that has not started ends at once": {
			phase: corev1.PodPending, annotations: map[string]string{drainTimeAnnotation: "31s"}, grace: 30,
			due: deleted, becomes: corev1.PodFailed, exit: 137,
		},
		"an ended pod stays as it is": {phase: corev1.PodSucceeded, grace: -1},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: test.annotations},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
				Status:     corev1.PodStatus{Phase: test.phase},
			}
			if test.deadline != 0 {
				pod.Spec.ActiveDeadlineSeconds = &test.deadline
			}
			if test.grace >= 0 {
				at := metav1.NewTime(deleted.Add(time.Duration(test.grace) * time.Second))
				pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &test.grace
			}
			due, change := next(pod, moments{bound: bound, running: running, deleted: deleted})
			if change == nil || test.becomes == "" {
				if change != nil || test.becomes != "" {
					t.Fatalf("a change: %v; wanted: %q", change != nil, test.becomes)
				}
				return
			}
			status := change(pod, due)
			if !due.Equal(test.due) || status.Phase != test.becomes || status.Reason != test.reason {
				t.Errorf("%s %s at %v; wanted: %s %s at %v",
					status.Phase, status.Reason, due, test.becomes, test.reason, test.due)
			}
			if state := status.ContainerStatuses[0].State; test.becomes != corev1.PodRunning &&
				(state.Terminated == nil || state.Terminated.ExitCode != test.exit) {
				t.Errorf("the container is %+v; wanted: exit code %d", state, test.exit)
			}
		})
	}
}
