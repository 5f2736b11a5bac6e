package onair.peers.debezium;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * What is looked at of a change.
 *
 * @param operation {@code u} for an update, {@code r} for a row of a snapshot; empty for what is no row
 * @param isLive whether it is in the feed, before or after
 * @param transaction the GTID, null in a snapshot
 * @param isLast whether a snapshot ends with it
 */
record Change(String operation, boolean isLive, String transaction, boolean isLast) {
    private static final Change NO_ROW = new Change("", false, null, false);
    private static final String LIVE_STATUS = "live_status";
    private static final String LAST = "last";
    private static final ObjectMapper JSON = new ObjectMapper();

    static Change of(SourceRecord record) {
        if (!(record.value() instanceof Struct change) || change.schema().field("op") == null) {
            return NO_ROW;
        }
        Struct source = change.getStruct("source");
        return new Change(
                change.getString("op"),
                isLive(change.getStruct("before")) || isLive(change.getStruct("after")),
                source.getString("gtid"),
                LAST.equals(source.getString("snapshot")));
    }

    private static boolean isLive(Struct row) {
        return row != null && row.getInt16(LIVE_STATUS) == 1;
    }

    static Change of(String value) {
        JsonNode change;
        try {
            change = JSON.readTree(value).path("payload");
        } catch (JsonProcessingException error) {
            throw new IllegalStateException("a change that is no JSON", error);
        }
        if (!change.has("op")) {
            return NO_ROW;
        }
        JsonNode source = change.get("source");
        return new Change(
                change.get("op").textValue(),
                isLive(change.path("before")) || isLive(change.path("after")),
                source.get("gtid").textValue(),
                LAST.equals(source.get("snapshot").textValue()));
    }

    private static boolean isLive(JsonNode row) {
        return row.path(LIVE_STATUS).asInt() == 1;
    }
}
