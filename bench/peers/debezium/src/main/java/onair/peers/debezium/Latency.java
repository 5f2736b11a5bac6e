package onair.peers.debezium;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import onair.peers.Peer;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

/** Notes when the handler gets each row that is inserted. */
record Latency(
        @JsonProperty(required = true) String host,
        int port,
        @JsonProperty(required = true) String user,
        @JsonProperty(required = true) String password,
        @JsonProperty(required = true) String database,
        @JsonProperty(required = true) String table,
        Integer pollMs)
        implements Source, Peer.Job {

    @Override
    public void run() throws Exception {
        Seen seen = new Seen();
        try (Engine engine = Engine.startConnect(streaming(this, pollMs), seen::note)) {
            engine.awaitStreaming();
            Peer.say(Map.of("ready", Map.of()));
            BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String order = orders.readLine(); order != null; order = orders.readLine()) {
                if (!order.replace(" ", "").equals("{\"end\":{}}")) {
                    throw new IllegalArgumentException("the order " + order + ": {\"end\":{}} is meant");
                }
                Peer.say(Map.of("seen", seen.take()));
            }
        }
    }

    /** From now on, without a snapshot. */
    static Properties streaming(Source source, Integer pollMs) {
        Properties connector = source.connector();
        connector.put("snapshot.mode", "no_data");
        if (pollMs != null) {
            connector.put("poll.interval.ms", pollMs.toString());
        }
        return connector;
    }

    /** Pairs of uid and nanoseconds of CLOCK_MONOTONIC. */
    private static final class Seen {
        private List<long[]> seen = new ArrayList<>();

        synchronized void note(SourceRecord record) {
            // On Linux it is CLOCK_MONOTONIC, which all processes share.
            long now = System.nanoTime();
            if (record.value() instanceof Struct change
                    && change.schema().field("op") != null
                    && change.getString("op").equals("c")) {
                seen.add(new long[] {change.getStruct("after").getInt64("uid"), now});
            }
        }

        synchronized List<long[]> take() {
            List<long[]> taken = seen;
            seen = new ArrayList<>();
            return taken;
        }
    }
}
