module daylight.dev/testbed/workload

go 1.26.0
