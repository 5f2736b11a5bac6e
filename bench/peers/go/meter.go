package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// measured is what a stretch of work did, and what that cost this process.
type measured struct {
	Units           uint64            `json:"units"`
	UserSeconds     float64           `json:"user_seconds"`
	SystemSeconds   float64           `json:"system_seconds"`
	WallSeconds     float64           `json:"wall_seconds"`
	MemoryPeakBytes int64             `json:"memory_peak_bytes"`
	AllocatedBytes  uint64            `json:"allocated_bytes"`
	Counts          map[string]uint64 `json:"counts"`
}

// meter runs from startMeter to stop.
type meter struct {
	before    unix.Rusage
	allocated uint64
	begun     time.Time
}

func startMeter() (meter, error) {
	before, err := usage()
	return meter{before: before, allocated: allocated(), begun: time.Now()}, err
}

func (m meter) stop(units uint64, counts map[string]uint64) (measured, error) {
	wall := time.Since(m.begun)
	after, err := usage()
	return measured{
		Units:         units,
		UserSeconds:   seconds(after.Utime) - seconds(m.before.Utime),
		SystemSeconds: seconds(after.Stime) - seconds(m.before.Stime),
		WallSeconds:   wall.Seconds(),
		// Linux says kibibytes.
		MemoryPeakBytes: after.Maxrss << 10,
		AllocatedBytes:  allocated() - m.allocated,
		Counts:          counts,
	}, err
}

// usage is that of all threads, the garbage collector's too.
func usage() (usage unix.Rusage, err error) {
	err = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return usage, err
}

// allocated is all that was ever allocated, also what was collected.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

func seconds(value unix.Timeval) float64 {
	return time.Duration(value.Nano()).Seconds()
}
