package main

import (
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
	Counts          map[string]uint64 `json:"counts"`
}

// meter runs from startMeter to stop.
type meter struct {
	before unix.Rusage
	begun  time.Time
}

func startMeter() (meter, error) {
	before, err := usage()
	return meter{before: before, begun: time.Now()}, err
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
		Counts:          counts,
	}, err
}

// usage is that of all threads, the garbage collector's too.
func usage() (usage unix.Rusage, err error) {
	err = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return usage, err
}

func seconds(value unix.Timeval) float64 {
	return time.Duration(value.Nano()).Seconds()
}
