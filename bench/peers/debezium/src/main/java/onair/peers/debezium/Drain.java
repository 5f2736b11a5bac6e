package onair.peers.debezium;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import onair.peers.Meter;
import onair.peers.Peer;
import onair.peers.Run;

/** Reads a backlog of updates that begins at a position of the binlog, until its last row. Nothing writes meanwhile. */
record Drain(
        @JsonProperty(required = true) String host,
        int port,
        @JsonProperty(required = true) String user,
        @JsonProperty(required = true) String password,
        long rows,
        Long transactions,
        Integer liveStatusAt,
        @JsonProperty(required = true) String database,
        @JsonProperty(required = true) String table,
        @JsonProperty(required = true) String file,
        long pos,
        @JsonProperty(required = true) String gtids,
        long warmSeconds,
        @JsonProperty(required = true) Settings settings)
        implements Source, Peer.Job {

    Drain {
        if (gtids.isEmpty()) {
            throw new IllegalArgumentException("gtids must not be empty: Debezium cannot ask for an empty set's rest");
        }
    }

    @Override
    public void run() throws Exception {
        Peer.say(Warm.measure(warmSeconds, this::pass));
    }

    private Run pass() throws Exception {
        Properties connector = connector();
        PresetOffsets.beginAt(offset(), connector);
        // The position is known and the schema is not: it is read from the server, as it is now.
        connector.put("snapshot.mode", "recovery");
        CompletableFuture<Run> done = new CompletableFuture<>();
        Tally tally = new Tally(new Meter(), done);
        try (Engine engine = Engine.start(settings, connector, tally::add)) {
            return engine.await(done);
        }
    }

    private String offset() throws Exception {
        Map<String, Object> offset = new LinkedHashMap<>();
        offset.put("file", file);
        offset.put("pos", pos);
        offset.put("gtids", gtids);
        return new ObjectMapper().writeValueAsString(offset);
    }

    /** Counts what comes, on one thread. */
    private final class Tally {
        private final Meter meter;
        private final CompletableFuture<Run> done;
        private long read;
        private long touching;
        private long begun;
        private String transaction = "";

        Tally(Meter meter, CompletableFuture<Run> done) {
            this.meter = meter;
            this.done = done;
        }

        void add(Change change) {
            if (!change.operation().equals("u")) {
                return;
            }
            read++;
            if (change.isLive()) {
                touching++;
            }
            if (!transaction.equals(change.transaction())) {
                transaction = change.transaction();
                begun++;
            }
            if (read == rows) {
                done.complete(meter.stop(
                        rows, Map.of("rows", read, "rows in the feed", touching, "transactions", begun)));
            }
        }
    }
}
