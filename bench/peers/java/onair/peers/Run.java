package onair.peers;

import java.util.Map;

/** What a stretch of work did, and what that cost this process. */
public record Run(
        long units,
        double userSeconds,
        double systemSeconds,
        double wallSeconds,
        long memoryPeakBytes,
        Map<String, Long> counts) {

    /** One of so many like it in a row. */
    public Run dividedBy(int times) {
        return new Run(
                units, userSeconds / times, systemSeconds / times, wallSeconds / times, memoryPeakBytes, counts);
    }
}
