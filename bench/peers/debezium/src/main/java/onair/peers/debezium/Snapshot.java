package onair.peers.debezium;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import onair.peers.Meter;
import onair.peers.Peer;
import onair.peers.Run;

/** Reads the table's rows, or those that are live. There must be one. */
record Snapshot(
        @JsonProperty(required = true) String host,
        int port,
        @JsonProperty(required = true) String user,
        @JsonProperty(required = true) String password,
        @JsonProperty(required = true) String database,
        @JsonProperty(required = true) String table,
        String liveWhen,
        long warmSeconds,
        @JsonProperty(required = true) Settings settings)
        implements Source, Peer.Job {

    @Override
    public void run() throws Exception {
        Peer.say(Warm.measure(warmSeconds, this::pass));
    }

    private Run pass() throws Exception {
        Properties connector = connector();
        connector.put("snapshot.mode", "initial_only");
        if (liveWhen != null) {
            String overrides = "snapshot.select.statement.overrides";
            connector.put(overrides, qualifiedTable());
            connector.put(
                    overrides + "." + qualifiedTable(),
                    "SELECT * FROM `%s`.`%s` WHERE %s".formatted(database, table, liveWhen));
        }
        CompletableFuture<Run> done = new CompletableFuture<>();
        Meter meter = new Meter();
        long[] rows = {0};
        try (Engine engine = Engine.start(settings, connector, change -> {
            if (change.operation().equals("r")) {
                rows[0]++;
            }
            if (change.isLast()) {
                done.complete(meter.stop(rows[0], Map.of("rows", rows[0])));
            }
        })) {
            return engine.await(done);
        }
    }
}
