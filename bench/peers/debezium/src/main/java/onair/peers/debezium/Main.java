package onair.peers.debezium;

import java.util.Map;
import onair.peers.Peer;

/** Debezium's embedded engine as a peer. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        // Of the binlog client, which java.util.logging serves.
        java.util.logging.LogManager.getLogManager().reset();
        Peer.main(
                arguments,
                Map.of(
                        "drain", Drain.class,
                        "snapshot", Snapshot.class,
                        "latency", Latency.class,
                        "to_kafka", ToKafka.class));
    }
}
