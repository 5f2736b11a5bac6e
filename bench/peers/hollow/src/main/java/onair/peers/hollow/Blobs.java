package onair.peers.hollow;

import com.netflix.hollow.api.consumer.HollowConsumer;
import com.netflix.hollow.api.producer.HollowProducer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;

/** What the producer published, in memory. */
final class Blobs implements HollowProducer.Publisher, HollowConsumer.BlobRetriever {
    private final TreeMap<Long, HollowConsumer.Blob> snapshots = new TreeMap<>();
    private final Map<Long, HollowConsumer.Blob> deltas = new HashMap<>();

    @Override
    public void publish(HollowProducer.PublishArtifact artifact) {
        if (!(artifact instanceof HollowProducer.Blob blob)) {
            return;
        }
        switch (blob.getType()) {
            case SNAPSHOT -> snapshots.put(
                    blob.getToVersion(), new Bytes(Long.MIN_VALUE, blob.getToVersion(), bytes(blob)));
            case DELTA -> deltas.put(
                    blob.getFromVersion(), new Bytes(blob.getFromVersion(), blob.getToVersion(), bytes(blob)));
            // Nobody goes back.
            case REVERSE_DELTA -> {}
        }
    }

    private static byte[] bytes(HollowProducer.Blob blob) {
        try (InputStream input = blob.newInputStream()) {
            return input.readAllBytes();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Override
    public HollowConsumer.Blob retrieveSnapshotBlob(long desiredVersion) {
        Map.Entry<Long, HollowConsumer.Blob> snapshot = snapshots.floorEntry(desiredVersion);
        return snapshot == null ? null : snapshot.getValue();
    }

    @Override
    public HollowConsumer.Blob retrieveDeltaBlob(long currentVersion) {
        return deltas.get(currentVersion);
    }

    @Override
    public HollowConsumer.Blob retrieveReverseDeltaBlob(long currentVersion) {
        return null;
    }

    private static final class Bytes extends HollowConsumer.Blob {
        private final byte[] bytes;

        Bytes(long fromVersion, long toVersion, byte[] bytes) {
            super(fromVersion, toVersion);
            this.bytes = bytes;
        }

        @Override
        public InputStream getInputStream() {
            return new ByteArrayInputStream(bytes);
        }
    }
}
