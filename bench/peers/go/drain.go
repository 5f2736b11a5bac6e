package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// drain reads a server's binlog from the first transaction, every row decoded, until so many transactions were seen.
// Nothing writes meanwhile.
type drain struct {
	Library      string `json:"library"`
	Host         string `json:"host"`
	Port         uint16 `json:"port"`
	User         string `json:"user"`
	Password     string `json:"password"`
	Rows         uint64 `json:"rows"`
	Transactions uint64 `json:"transactions"`
	LiveStatusAt int    `json:"live_status_at"`
	Database     string `json:"database"`
	Table        string `json:"table"`
}

func (d *drain) run() (measured, error) {
	read := map[string]func(*tally) error{"canal": d.canal, "replication": d.replication}[d.Library]
	if read == nil {
		return measured{}, fmt.Errorf("no library %q: canal or replication", d.Library)
	}
	if d.Transactions == 0 || d.LiveStatusAt < 0 {
		return measured{}, errors.New("transactions and live_status_at must be given")
	}
	meter, err := startMeter()
	if err != nil {
		return measured{}, err
	}
	tally := &tally{drain: d, done: make(chan struct{})}
	failed := make(chan error, 1)
	go func() { failed <- read(tally) }()
	select {
	case <-tally.done:
		return meter.stop(d.Rows, map[string]uint64{
			"rows":             tally.rows,
			"rows in the feed": tally.touching,
			"transactions":     tally.transactions,
		})
	case err := <-failed:
		return measured{}, fmt.Errorf("%s ended: %w", d.Library, err)
	}
}

// tally counts what comes. One goroutine writes; done says that it has stopped.
type tally struct {
	drain                        *drain
	rows, touching, transactions uint64
	done                         chan struct{}
}

// updates takes pairs of an image before and one after.
func (t *tally) updates(images [][]any) {
	for ; len(images) >= 2; images = images[2:] {
		t.rows++
		if t.isLive(images[0]) || t.isLive(images[1]) {
			t.touching++
		}
	}
}

// isLive looks at one value, a TINYINT.
func (t *tally) isLive(row []any) bool {
	at := t.drain.LiveStatusAt
	return at < len(row) && row[at] == int8(1)
}

func (t *tally) transaction() {
	if t.transactions++; t.transactions == t.drain.Transactions {
		close(t.done)
	}
}

// canal is the example of its README at its defaults, without the dump of the table that would come first.
func (d *drain) canal(tally *tally) error {
	config := canal.NewDefaultConfig()
	config.Addr = net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port)))
	config.User = d.User
	config.Password = d.Password
	config.Dump.ExecutionPath = ""
	canal, err := canal.NewCanal(config)
	if err != nil {
		return err
	}
	canal.SetEventHandler(&handler{tally: tally})
	// It takes an empty GTID set for none, and no position for the first file.
	return canal.RunFrom(mysql.Position{})
}

type handler struct {
	canal.DummyEventHandler
	tally *tally
}

func (h *handler) OnRow(event *canal.RowsEvent) error {
	if event.Action == canal.UpdateAction {
		h.tally.updates(event.Rows)
	}
	return nil
}

func (h *handler) OnXID(*replication.EventHeader, mysql.Position) error {
	h.tally.transaction()
	return nil
}

func (h *handler) String() string { return "drain" }

// replication is the decoder alone at its best: no goroutine between it and us, no GTID set kept, times not made text.
func (d *drain) replication(tally *tally) error {
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID:                1<<20 + rand.Uint32N(1<<30),
		Flavor:                  mysql.MySQLFlavor,
		Host:                    d.Host,
		Port:                    d.Port,
		User:                    d.User,
		Password:                d.Password,
		ParseTime:               true,
		DisableRetrySync:        true,
		DiscardGTIDSet:          true,
		SynchronousEventHandler: tally,
		// Names of columns and the like, which nobody asks for.
		TableMapOptionalMetaDecodeFunc: func([]byte) error { return nil },
	})
	first, err := mysql.ParseGTIDSet(mysql.MySQLFlavor, "")
	if err != nil {
		return err
	}
	stream, err := syncer.StartSyncGTID(first)
	if err != nil {
		return err
	}
	// The events go to the handler; what comes here is the error that ended it.
	_, err = stream.GetEvent(context.Background())
	return err
}

// HandleEvent makes a tally a replication.EventHandler.
func (t *tally) HandleEvent(event *replication.BinlogEvent) error {
	switch event.Header.EventType {
	case replication.UPDATE_ROWS_EVENTv2:
		t.updates(event.Event.(*replication.RowsEvent).Rows)
	case replication.XID_EVENT:
		t.transaction()
	}
	return nil
}
