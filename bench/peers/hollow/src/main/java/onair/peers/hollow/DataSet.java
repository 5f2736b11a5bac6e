package onair.peers.hollow;

import com.netflix.hollow.api.consumer.HollowConsumer;
import com.netflix.hollow.api.producer.HollowProducer;
import com.netflix.hollow.api.producer.fs.HollowInMemoryBlobStager;
import com.netflix.hollow.core.index.HollowPrimaryKeyIndex;
import com.netflix.hollow.core.read.engine.object.HollowObjectTypeReadState;

/** A published data set: one version with all rooms, and those that lead away from it by deltas. */
final class DataSet {
    /** 2026-11-22 10:00 in microseconds. */
    private static final long FIRST_TIME = 1_795_341_600_000_000L;

    private final Blobs blobs = new Blobs();
    private final long[] versions;

    DataSet(long rows, int deltas, int changes) {
        HollowProducer.Incremental producer = HollowProducer.withPublisher(blobs)
                .withBlobStager(new HollowInMemoryBlobStager())
                .withNumStatesBetweenSnapshots(Integer.MAX_VALUE)
                .buildIncremental();
        producer.initializeDataModel(Room.class);
        versions = new long[deltas + 1];
        versions[0] = producer.runIncrementalCycle(state -> {
            for (long number = 0; number < rows; number++) {
                state.addOrModify(new Room(number, FIRST_TIME));
            }
        });
        for (int delta = 1; delta <= deltas; delta++) {
            long from = (long) (delta - 1) * changes;
            long time = FIRST_TIME + delta;
            versions[delta] = producer.runIncrementalCycle(state -> {
                for (long number = from; number < from + changes; number++) {
                    state.addOrModify(new Room(number % rows, time));
                }
            });
        }
    }

    /** A consumer of the version before all deltas. */
    HollowConsumer load() {
        HollowConsumer consumer = HollowConsumer.withBlobRetriever(blobs).build();
        consumer.triggerRefreshTo(versions[0]);
        return consumer;
    }

    /** Takes a consumer that {@link #load} gave through all deltas. */
    void applyDeltas(HollowConsumer consumer) {
        for (int delta = 1; delta < versions.length; delta++) {
            consumer.triggerRefreshTo(versions[delta]);
        }
    }

    static HollowPrimaryKeyIndex index(HollowConsumer consumer) {
        return new HollowPrimaryKeyIndex(consumer.getStateEngine(), Room.TYPE, "id");
    }

    /** How many rooms a delta has changed. */
    static long changed(HollowConsumer consumer) {
        HollowObjectTypeReadState rooms = rooms(consumer);
        int time = rooms.getSchema().getPosition("time");
        return rooms.getPopulatedOrdinals().stream()
                .filter(ordinal -> rooms.readLong(ordinal, time) != FIRST_TIME)
                .count();
    }

    private static HollowObjectTypeReadState rooms(HollowConsumer consumer) {
        return (HollowObjectTypeReadState) consumer.getStateEngine().getTypeState(Room.TYPE);
    }

    /** Reads what is found, as generated code does: the ordinal from the index, each field by its position. */
    static final class Lookup {
        private final HollowPrimaryKeyIndex index;
        private final HollowObjectTypeReadState rooms;
        private final int uid;
        private final int time;
        /** Of all that was read, so that reading it is not left out. */
        private long sum;

        Lookup(HollowConsumer consumer) {
            index = index(consumer);
            rooms = rooms(consumer);
            uid = rooms.getSchema().getPosition("uid");
            time = rooms.getSchema().getPosition("time");
        }

        /** How many of these ids are there. */
        long find(long[] ids) {
            long found = 0;
            for (long id : ids) {
                int ordinal = index.getMatchingOrdinal(id);
                if (ordinal != -1) {
                    found++;
                    sum += rooms.readLong(ordinal, uid) ^ rooms.readLong(ordinal, time);
                }
            }
            return found;
        }

        long sum() {
            return sum;
        }
    }
}
