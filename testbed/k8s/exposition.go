package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// exposition writes readings as one kind of exporter does.
type exposition struct {
	port     uint16
	resource corev1.ResourceName // the devices that it knows
	// families are its metrics, with or without the power limit.
	families func(limit bool) []family
	labels   func(node string, device reading, part part, more string) string
	blank    func(family) string
	format   func(family, float64) string
}

// family is one metric.
type family struct {
	name, kind, help string
	// whole is whether its values are whole numbers.
	whole bool
	value func(reading) float64
	// more are its own labels, as written.
	more string
}

// deviations are the differences from the answer of a sound exporter.
type deviations struct {
	blank, missing []string // metrics
	// offset, if there is one, is the error of the timestamp on each line.
	offset *time.Duration
}

var expositions = map[string]exposition{
	"dcgm": {
		port: 9400, resource: nvidiaResource, families: dcgmFamilies, labels: dcgmLabels,
		// DCGM_INT64_BLANK and DCGM_FP64_BLANK.
		blank: func(f family) string {
			if f.whole {
				return "9223372036854775792"
			}
			return "140737488355328.000000"
		},
		format: func(f family, value float64) string {
			if f.whole {
				return strconv.FormatFloat(value, 'f', 0, 64)
			}
			return strconv.FormatFloat(value, 'f', 6, 64)
		},
	},
	"amd": {
		port: 5000, resource: amdResource, families: amdFamilies, labels: amdLabels,
		blank:  func(family) string { return "1.8446744073709552e+19" },
		format: func(_ family, value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) },
	},
}

// write is the answer to a scrape.
func (e exposition) write(
	node string, at time.Time, readings []reading, limit bool, how deviations,
) []byte {
	var out bytes.Buffer
	headed := ""
	for _, family := range e.families(limit) {
		if slices.Contains(how.missing, family.name) {
			continue
		}
		if family.name != headed {
			fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", family.name, family.help, family.name, family.kind)
			headed = family.name
		}
		for _, device := range readings {
			value := e.format(family, family.value(device))
			if slices.Contains(how.blank, family.name) {
				value = e.blank(family)
			}
			for _, part := range device.parts {
				out.WriteString(family.name)
				out.WriteString(e.labels(node, device, part, family.more))
				out.WriteByte(' ')
				out.WriteString(value)
				if how.offset != nil {
					fmt.Fprintf(&out, " %d", at.Add(*how.offset).UnixMilli())
				}
				out.WriteByte('\n')
			}
		}
	}
	return out.Bytes()
}

// ---- dcgm-exporter 4.x with its default set of fields ------------------------

const (
	memoryMiB  = 81559
	idleMiB    = 4
	runningMiB = 61440
)

func watts(device reading) float64 { return float64(device.milliwatts) / 1000 }

// either is one number for a device on which a pod runs, another for an idle
// one.
func either(running, idle float64) func(reading) float64 {
	return func(device reading) float64 {
		if device.busy {
			return running
		}
		return idle
	}
}

func dcgmFamilies(limit bool) []family {
	gauge := func(name, help string, value func(reading) float64) family {
		return family{name: name, kind: "gauge", help: help, whole: true, value: value}
	}
	counter := func(name, help string, value func(reading) float64) family {
		return family{name: name, kind: "counter", help: help, whole: true, value: value}
	}
	ratio := func(name, help string, running float64) family {
		return family{name: name, kind: "gauge", help: help, value: either(running, 0)}
	}
	families := []family{
		gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", either(1980, 345)),
		gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", either(2619, 2619)),
		gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).",
			func(device reading) float64 { return 34 + float64(device.milliwatts/12_000) }),
		gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).",
			func(device reading) float64 { return 27 + float64(device.milliwatts/12_000) }),
		{name: "DCGM_FI_DEV_POWER_USAGE", kind: "gauge", help: "Power draw (in W).", value: watts},
		counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).",
			func(device reading) float64 { return float64(device.millijoules) }),
		counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", either(0, 0)),
		gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", either(100, 0)),
		gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", either(41, 0)),
		gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", either(0, 0)),
		gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", either(0, 0)),
		gauge("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.", either(0, 0)),
		gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).",
			either(memoryMiB-runningMiB, memoryMiB-idleMiB)),
		gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", either(runningMiB, idleMiB)),
		counter("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
			"Total number of NVLink bandwidth counters for all lanes.", either(0, 0)),
		gauge("DCGM_FI_DEV_VGPU_LICENSE_STATUS", "vGPU License status", either(0, 0)),
		counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
			"Number of remapped rows for uncorrectable errors", either(0, 0)),
		counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
			"Number of remapped rows for correctable errors", either(0, 0)),
		gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed", either(0, 0)),
		ratio("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", 0.99),
		ratio("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles the tensor (HMMA) pipe is active.", 0.38),
		ratio("DCGM_FI_PROF_DRAM_ACTIVE",
			"Ratio of cycles the device memory interface is active sending or receiving data.", 0.41),
		gauge("DCGM_FI_PROF_PCIE_TX_BYTES",
			"The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes per second.",
			either(184_000_000, 700_000)),
		gauge("DCGM_FI_PROF_PCIE_RX_BYTES",
			"The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per second.",
			either(211_000_000, 900_000)),
	}
	if limit {
		families = append(families, family{
			name: "DCGM_FI_DEV_POWER_MGMT_LIMIT", kind: "gauge",
			help: "Current power limit for the device (in W).", value: either(700, 700),
		})
	}
	return families
}

func dcgmLabels(node string, device reading, part part, _ string) string {
	var out strings.Builder
	fmt.Fprintf(&out, `{gpu="%d",UUID="%s",pci_bus_id="00000000:%02X:00.0",device="nvidia%d",modelName="NVIDIA H100 80GB HBM3"`,
		device.index, device.uuid, 0x0b+device.index*0x10, device.index)
	if part.instance > 0 {
		fmt.Fprintf(&out, `,GPU_I_PROFILE="1g.10gb",GPU_I_ID="%d"`, part.instance)
	}
	fmt.Fprintf(&out, `,Hostname="%s",DCGM_FI_DRIVER_VERSION="580.95.05"`, node)
	if part.pod != "" {
		fmt.Fprintf(&out, `,container="%s",namespace="%s",pod="%s"`, part.container, part.namespace, part.pod)
	}
	out.WriteByte('}')
	return out.String()
}

// ---- AMD's device-metrics-exporter 1.4 on MI300X -----------------------------

// amdFamilies are in the order of their names, as client_golang writes them.
// The power limit is not among what this exporter knows.
func amdFamilies(bool) []family {
	gauge := func(name, help string, value func(reading) float64) family {
		return family{name: name, kind: "gauge", help: help, value: value}
	}
	clock := func(kind string, index int, value func(reading) float64) family {
		f := gauge("gpu_clock", "Clock measure of the GPU in Mhz", value)
		f.more = fmt.Sprintf(`clock_index="%d",clock_type="GPU_CLOCK_TYPE_%s",`, index, kind)
		return f
	}
	return []family{
		clock("SYSTEM", 0, either(2100, 132)),
		clock("MEMORY", 8, either(1300, 900)),
		gauge("gpu_energy_consumed", "Accumulated energy consumed by the GPU in uJ",
			func(device reading) float64 { return float64(device.millijoules) * 1000 }),
		gauge("gpu_free_vram", "Free VRAM memory in MB", either(135_168, 196_300)),
		gauge("gpu_gfx_activity", "Graphics engine usage in Percentage (0-100)", either(100, 0)),
		gauge("gpu_junction_temperature", "Hotspot (aka junction) temperature value in Celsius",
			func(device reading) float64 { return 36 + float64(device.milliwatts/12_000) }),
		gauge("gpu_memory_temperature", "Memory temperature value in Celsius",
			func(device reading) float64 { return 31 + float64(device.milliwatts/12_000) }),
		gauge("gpu_package_power", "Current socket power in Watts", watts),
		gauge("gpu_power_usage", "GPU power usage in Watts", watts),
		gauge("gpu_total_vram", "Total VRAM memory in MB", either(196_592, 196_592)),
		gauge("gpu_umc_activity", "Memory engine usage in Percentage (0-100)", either(41, 0)),
		gauge("gpu_used_vram", "Used VRAM memory in MB", either(61_424, 292)),
	}
}

func amdLabels(node string, device reading, part part, more string) string {
	return fmt.Sprintf(`{card_model="102-G30211-0C",%scontainer="%s",gpu_compute_partition_type="spx",gpu_id="%d",`+
		`gpu_memory_partition_type="nps1",gpu_partition_id="0",hostname="%s",job_id="",job_partition="",job_user="",`+
		`namespace="%s",pod="%s",serial_number="%s"}`,
		more, part.container, device.index, node, part.namespace, part.pod, device.serial)
}
