// Peers in Go that OnAir is measured beside: see ../README.md.
//
// The one argument is a job. Standard output has JSON lines, standard error the rest.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
)

// job has one field that is set.
type job struct {
	Drain  *drain  `json:"drain"`
	Fanout *fanout `json:"fanout"`
}

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("one argument is meant, a job in JSON")
	}
	var job job
	if err := parse([]byte(arguments[0]), &job); err != nil {
		return fmt.Errorf("the job %s: %w", arguments[0], err)
	}
	switch {
	case job.Drain != nil && job.Fanout == nil:
		measured, err := job.Drain.run()
		if err != nil {
			return err
		}
		return say(measured)
	case job.Fanout != nil && job.Drain == nil:
		return job.Fanout.run(os.Stdin)
	}
	return fmt.Errorf("the job %s: one of drain and fanout is meant", arguments[0])
}

// parse refuses what it does not know.
func parse(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("more than one value")
	}
	return nil
}

// say writes one line to standard output.
func say(line any) error {
	return json.NewEncoder(os.Stdout).Encode(line)
}
