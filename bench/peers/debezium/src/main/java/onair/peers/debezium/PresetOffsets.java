package onair.peers.debezium;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.connect.runtime.WorkerConfig;
import org.apache.kafka.connect.storage.MemoryOffsetBackingStore;

/** Keeps offsets in memory. The first one may be given, so that the same backlog is read again and again. */
public final class PresetOffsets extends MemoryOffsetBackingStore {
    private static final String FIRST = "onair.first.offset";
    private static final String KEY = "[\"%1$s\",{\"server\":\"%1$s\"}]".formatted(Source.NAME);

    /** Has the engine begin at this offset, as JSON. */
    static void beginAt(String offset, Properties connector) {
        connector.put(FIRST, offset);
    }

    @Override
    public void configure(WorkerConfig config) {
        super.configure(config);
        Object first = config.originals().get(FIRST);
        if (first != null) {
            data.put(bytes(KEY), bytes(first.toString()));
        }
    }

    @Override
    public Set<Map<String, Object>> connectorPartitions(String connector) {
        return Set.of();
    }

    private static ByteBuffer bytes(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }
}
