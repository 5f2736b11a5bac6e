package onair.peers.hollow;

import com.netflix.hollow.api.consumer.HollowConsumer;
import com.netflix.hollow.core.index.HollowPrimaryKeyIndex;
import java.lang.management.ManagementFactory;
import java.lang.ref.Reference;
import java.time.Duration;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.LongSupplier;
import java.util.function.Supplier;
import java.util.stream.Stream;
import onair.peers.Meter;
import onair.peers.Peer;
import onair.peers.Run;

/** What a consumer does: loading a snapshot, indexing it, looking rooms up, following deltas, holding all that. */
record Sdk(int rows, int deltas, int changes, int lookups, long warmSeconds) implements Peer.Job {
    /** The median of so many is said. */
    private static final int SAMPLES = 5;
    /** What is shorter is done again and again: CPU is counted in hundredths of a second. */
    private static final long SAMPLE_NANOS = Duration.ofMillis(500).toNanos();

    private static final int HITS_OF_FOUR = 3;

    Sdk {
        if (rows <= 0 || deltas <= 0 || changes <= 0 || changes > rows || lookups <= 0) {
            throw new IllegalArgumentException("rows, deltas, changes and lookups must be at least 1, changes at most rows");
        }
    }

    @Override
    public void run() throws Exception {
        DataSet data = new DataSet(rows, deltas, changes);
        long[] ids = ids();
        long end = System.nanoTime() + Duration.ofSeconds(warmSeconds).toNanos();
        while (System.nanoTime() < end) {
            delta(data);
            new DataSet.Lookup(data.load()).find(ids);
        }
        HollowConsumer consumer = data.load();
        DataSet.Lookup lookup = new DataSet.Lookup(consumer);
        Map<String, Run> runs = new LinkedHashMap<>();
        runs.put("load", median(() -> repeated(rows, "rows", () -> populated(data.load()))));
        runs.put("index", median(() -> repeated(rows, "rows", () -> populated(DataSet.index(consumer)))));
        runs.put("lookup", median(() -> repeated(lookups, "found", () -> lookup.find(ids))));
        runs.put("delta", median(() -> delta(data)));
        runs.put("memory", memory(data));
        Peer.say(runs);
        System.err.println("sum of what was read: " + lookup.sum());
    }

    /** Three of four are there. */
    private long[] ids() {
        SplittableRandom random = new SplittableRandom(1);
        return random.longs(lookups, 0, rows)
                .map(number -> Room.id(random.nextInt(4) < HITS_OF_FOUR ? number : rows + number))
                .toArray();
    }

    private static Run median(Supplier<Run> measure) {
        return Stream.generate(measure)
                .limit(SAMPLES)
                .sorted(Comparator.comparingDouble(run -> run.userSeconds() + run.systemSeconds()))
                .skip(SAMPLES / 2)
                .findFirst()
                .orElseThrow();
    }

    /** One of the repetitions that fill a sample. Each counts the same. */
    private static Run repeated(long units, String counted, LongSupplier work) {
        Meter meter = new Meter();
        long end = System.nanoTime() + SAMPLE_NANOS;
        int times = 0;
        long count;
        do {
            count = work.getAsLong();
            times++;
        } while (System.nanoTime() < end);
        return meter.stop(units, Map.of(counted, count)).dividedBy(times);
    }

    private static long populated(HollowConsumer consumer) {
        return consumer.getStateEngine().getTypeState(Room.TYPE).getPopulatedOrdinals().cardinality();
    }

    private static long populated(HollowPrimaryKeyIndex index) {
        return index.getTypeState().getPopulatedOrdinals().cardinality();
    }

    /** All deltas at a new consumer whose index follows them. */
    private Run delta(DataSet data) {
        HollowConsumer consumer = data.load();
        HollowPrimaryKeyIndex index = DataSet.index(consumer);
        index.listenForDeltaUpdates();
        Meter meter = new Meter();
        data.applyDeltas(consumer);
        return meter.stop(deltas, Map.of("rows", populated(index), "changed", DataSet.changed(consumer)));
    }

    /** What a consumer and its index hold of the heap. */
    private Run memory(DataSet data) {
        Meter meter = new Meter();
        long before = usedHeap();
        HollowConsumer consumer = data.load();
        HollowPrimaryKeyIndex index = DataSet.index(consumer);
        long held = usedHeap() - before;
        Run run = meter.stop(rows, Map.of("rows", populated(index)));
        Reference.reachabilityFence(consumer);
        return new Run(
                run.units(), run.userSeconds(), run.systemSeconds(), run.wallSeconds(), held, run.counts());
    }

    private static long usedHeap() {
        // The second one frees what the first one's finalizers and references let go.
        System.gc();
        System.gc();
        return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
    }
}
