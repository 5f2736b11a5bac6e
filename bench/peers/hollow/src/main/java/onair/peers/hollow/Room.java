package onair.peers.hollow;

import com.netflix.hollow.core.write.objectmapper.HollowPrimaryKey;

/** A row of the data set. Hollow makes its schema of these fields. */
@HollowPrimaryKey(fields = "id")
final class Room {
    static final String TYPE = "Room";

    /** Ids have so many bits. */
    private static final long ID_MASK = (1L << 42) - 1;
    /** Odd, so that no two rooms get the same id. */
    private static final long ID_STEP = 0x9E37_79B9_7F4A_7C15L;

    final long id;
    final long uid;
    final int area;
    final long time;

    /** The nth room, since this time. */
    Room(long number, long time) {
        this.id = id(number);
        this.uid = 1_000_000 + number * 7;
        this.area = (int) (number % 40);
        this.time = time;
    }

    /** Ids lie anywhere, as those of a service do. */
    static long id(long number) {
        return number * ID_STEP & ID_MASK;
    }
}
