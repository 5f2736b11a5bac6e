package onair.peers.debezium;

import java.time.Duration;
import java.util.concurrent.Callable;
import onair.peers.Run;

/** The first seconds of a JVM are its compiler's. */
final class Warm {
    private Warm() {}

    /** The last of the passes that begin in so many seconds and one more. */
    static Run measure(long warmSeconds, Callable<Run> pass) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(warmSeconds).toNanos();
        while (System.nanoTime() < end) {
            pass.call();
        }
        return pass.call();
    }
}
