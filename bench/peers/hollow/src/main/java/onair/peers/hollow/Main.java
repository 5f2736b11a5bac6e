package onair.peers.hollow;

import java.util.Map;
import onair.peers.Peer;

/** Netflix Hollow as a peer. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        // Hollow says every cycle by java.util.logging.
        java.util.logging.LogManager.getLogManager().reset();
        Peer.main(arguments, Map.of("sdk", Sdk.class));
    }
}
