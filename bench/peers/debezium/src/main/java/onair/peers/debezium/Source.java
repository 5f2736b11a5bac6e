package onair.peers.debezium;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.Properties;
import java.util.concurrent.ThreadLocalRandom;

/** The table that is captured, and the connector for it. */
interface Source {
    /** Name of the engine, and what it calls the server. */
    String NAME = "peer";

    String host();

    int port();

    String user();

    String password();

    String database();

    String table();

    default String qualifiedTable() {
        return database() + "." + table();
    }

    /** What must be said; all else is at its default. */
    default Properties connector() {
        Properties connector = new Properties();
        connector.put("name", NAME);
        connector.put("connector.class", "io.debezium.connector.mysql.MySqlConnector");
        connector.put("topic.prefix", NAME);
        connector.put("offset.storage", PresetOffsets.class.getName());
        connector.put("schema.history.internal", "io.debezium.relational.history.MemorySchemaHistory");
        connector.put("database.hostname", host());
        connector.put("database.port", String.valueOf(port()));
        connector.put("database.user", user());
        connector.put("database.password", password());
        connector.put("database.server.id", String.valueOf(ThreadLocalRandom.current().nextInt(1 << 20, 1 << 30)));
        connector.put("database.include.list", database());
        connector.put("table.include.list", qualifiedTable());
        return connector;
    }

    /** How the engine is set. */
    enum Settings {
        /** As the first example of its documentation: every property at its default, changes as JSON with schemas. */
        @JsonProperty("default")
        DEFAULT,
        /** For throughput: {@link #apply}, and changes in the format of Kafka Connect, that is, not converted. */
        @JsonProperty("best")
        BEST;

        void apply(Properties connector) {
            if (this == BEST) {
                connector.put("max.batch.size", "16384");
                connector.put("max.queue.size", "65536");
                connector.put("poll.interval.ms", "1");
                connector.put("tombstones.on.delete", "false");
                connector.put("include.schema.changes", "false");
                connector.put("statistics.metrics.enabled", "false");
                connector.put("schema.history.internal.store.only.captured.tables.ddl", "true");
                connector.put("database.ssl.mode", "disabled");
                // Without TLS the driver asks the server for the key that the password is sent with.
                connector.put("driver.allowPublicKeyRetrieval", "true");
            }
        }
    }
}
