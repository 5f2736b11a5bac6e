package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onair/peers/fanoutpb"
)

const (
	// send has every stream encode its own copy, as generated code does.
	send = "send"
	// prepared encodes once for all streams.
	prepared = "prepared"

	// queueLength is how many updates wait for a client before its stream is ended.
	queueLength = 64
)

// fanout is a server with a stream a client. What it publishes it is told on standard input.
type fanout struct {
	Mode    string `json:"mode"`
	Workers int    `json:"workers"`
}

type command struct {
	Publish *publish `json:"publish"`
}

// publish is so many updates of so many rows, at so many a second.
type publish struct {
	Count uint64  `json:"count"`
	Hz    float64 `json:"hz"`
	Rows  uint32  `json:"rows"`
}

func (f *fanout) run(commands io.Reader) error {
	if f.Mode != send && f.Mode != prepared {
		return fmt.Errorf("no mode %q: %s or %s", f.Mode, send, prepared)
	}
	if f.Workers > 0 {
		runtime.GOMAXPROCS(f.Workers)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	service := &service{mode: f.Mode, subscribers: make(map[*subscriber]struct{})}
	server := grpc.NewServer()
	fanoutpb.RegisterFanoutServer(server, service)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- service.obey(commands) }()
	err = say(map[string]any{"ready": map[string]int{"port": listener.Addr().(*net.TCPAddr).Port}})
	if err == nil {
		err = <-failed
	}
	server.Stop()
	return err
}

// service implements onair.bench.Fanout.
type service struct {
	fanoutpb.UnimplementedFanoutServer
	mode string

	// Guards all below.
	mutex       sync.Mutex
	subscribers map[*subscriber]struct{}
	version     uint64
	// The rows that all messages are made of.
	rows []*fanoutpb.Row
	// In mode prepared: the last snapshot that was asked for.
	snapshot snapshot
}

type stream = grpc.ServerStreamingServer[fanoutpb.Update]

type subscriber struct {
	stream stream
	// Of *fanoutpb.Update or *grpc.PreparedMsg. Closed when the client is too slow.
	queue chan any
}

type snapshot struct {
	rows    uint32
	version uint64
	message any
}

// Subscribe is onair.bench.Fanout/Subscribe.
func (s *service) Subscribe(request *fanoutpb.SubscribeRequest, stream stream) error {
	subscriber, first, err := s.enter(request.GetSnapshotRows(), stream)
	if err != nil {
		return err
	}
	defer s.leave(subscriber)
	if first != nil {
		if err := stream.SendMsg(first); err != nil {
			return err
		}
	}
	for {
		select {
		case message, open := <-subscriber.queue:
			if !open {
				return status.Error(codes.ResourceExhausted, "too slow for the updates")
			}
			if err := stream.SendMsg(message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// enter gives the snapshot that the subscriber's first update follows, if rows of it are asked for.
func (s *service) enter(rows uint32, stream stream) (*subscriber, any, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var first any
	if rows > 0 {
		wanted := snapshot{rows: rows, version: s.version}
		if s.mode == prepared && s.snapshot.rows == wanted.rows && s.snapshot.version == wanted.version {
			first = s.snapshot.message
		} else {
			message, err := s.message(rows, stream)
			if err != nil {
				return nil, nil, err
			}
			wanted.message = message
			first = message
			if s.mode == prepared {
				s.snapshot = wanted
			}
		}
	}
	subscriber := &subscriber{stream: stream, queue: make(chan any, queueLength)}
	s.subscribers[subscriber] = struct{}{}
	return subscriber, first, nil
}

func (s *service) leave(subscriber *subscriber) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.subscribers, subscriber)
}

// message is an update of the first rows. Any stream will do: all encode alike.
func (s *service) message(rows uint32, stream stream) (any, error) {
	update := &fanoutpb.Update{Version: s.version, SentNanos: now(), Rows: s.firstRows(rows)}
	if s.mode == send {
		return update, nil
	}
	prepared := new(grpc.PreparedMsg)
	return prepared, prepared.Encode(stream, update)
}

func (s *service) firstRows(count uint32) []*fanoutpb.Row {
	for id := uint64(len(s.rows)); id < uint64(count); id++ {
		s.rows = append(s.rows, &fanoutpb.Row{
			Id:       id,
			Uid:      1_000_000 + id*7,
			AreaId:   uint32(id % 40),
			Title:    fmt.Sprintf("Late night jazz and tea, %07d", id),
			LiveTime: 1_795_341_600_000_000 + id,
		})
	}
	return s.rows[:count]
}

// obey carries out the commands, a line each, until there are no more.
func (s *service) obey(commands io.Reader) error {
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		var command command
		if err := parse(lines.Bytes(), &command); err != nil {
			return fmt.Errorf("the command %s: %w", lines.Text(), err)
		}
		if command.Publish == nil {
			return fmt.Errorf("the command %s: publish is meant", lines.Text())
		}
		if err := s.publish(command.Publish); err != nil {
			return err
		}
	}
	return lines.Err()
}

// publish keeps to a schedule that is fixed when it begins, and says when it is through.
func (s *service) publish(order *publish) error {
	if order.Hz <= 0 {
		return errors.New("hz must be more than nothing")
	}
	start := time.Now()
	subscribers := 0
	for k := uint64(0); k < order.Count; k++ {
		time.Sleep(time.Until(start.Add(time.Duration(float64(k) / order.Hz * float64(time.Second)))))
		var err error
		if subscribers, err = s.publishOne(order.Rows); err != nil {
			return err
		}
	}
	return say(map[string]any{"published": map[string]any{"count": order.Count, "subscribers": subscribers}})
}

// publishOne gives every subscriber the next update, and how many they are.
func (s *service) publishOne(rows uint32) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.version++
	var message any
	for subscriber := range s.subscribers {
		if message == nil {
			var err error
			if message, err = s.message(rows, subscriber.stream); err != nil {
				return 0, err
			}
		}
		select {
		case subscriber.queue <- message:
		default:
			close(subscriber.queue)
			delete(s.subscribers, subscriber)
		}
	}
	return len(s.subscribers), nil
}

// now is CLOCK_MONOTONIC, which all processes share.
func now() uint64 {
	var now unix.Timespec
	// It cannot fail for this clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return uint64(now.Nano())
}
