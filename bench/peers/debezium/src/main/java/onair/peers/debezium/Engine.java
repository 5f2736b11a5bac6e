package onair.peers.debezium;

import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.DebeziumEngine.ChangeConsumer;
import io.debezium.engine.RecordChangeEvent;
import io.debezium.engine.format.ChangeEventFormat;
import io.debezium.engine.format.Json;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import javax.management.InstanceNotFoundException;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import onair.peers.Peer;
import org.apache.kafka.connect.source.SourceRecord;

/** A running engine. */
final class Engine implements AutoCloseable {
    /** Between two looks whether it streams. */
    private static final long POLL_MILLIS = 20;

    private final DebeziumEngine<?> engine;
    /** Complete once it has ended, exceptionally unless it was closed. */
    private final CompletableFuture<Void> end;

    private Engine(DebeziumEngine<?> engine, CompletableFuture<Void> end) {
        this.engine = engine;
        this.end = end;
        Thread thread = new Thread(engine, "engine");
        thread.setDaemon(true);
        thread.start();
    }

    /** Hands each change over as the settings have it. */
    static Engine start(Source.Settings settings, Properties connector, Consumer<Change> handler) {
        settings.apply(connector);
        return switch (settings) {
            case DEFAULT -> startJson(connector, each(event -> {
                // Deletions are followed by an event without a value.
                if (event.value() != null) {
                    handler.accept(Change.of(event.value()));
                }
            }));
            case BEST -> startConnect(connector, record -> handler.accept(Change.of(record)));
        };
    }

    /** In the format of Kafka Connect. */
    static Engine startConnect(Properties connector, Consumer<SourceRecord> handler) {
        ChangeConsumer<RecordChangeEvent<SourceRecord>> consumer = each(event -> handler.accept(event.record()));
        return start(DebeziumEngine.create(ChangeEventFormat.of(Connect.class)), connector, consumer);
    }

    /** As JSON. */
    static Engine startJson(Properties connector, ChangeConsumer<ChangeEvent<String, String>> consumer) {
        return start(DebeziumEngine.create(Json.class), connector, consumer);
    }

    private static <E> Engine start(
            DebeziumEngine.Builder<E> builder, Properties connector, ChangeConsumer<E> consumer) {
        CompletableFuture<Void> end = new CompletableFuture<>();
        DebeziumEngine<E> engine = builder.using(connector)
                .notifying(consumer)
                .using((success, message, error) -> {
                    if (success) {
                        end.complete(null);
                    } else {
                        end.completeExceptionally(new IllegalStateException(message, error));
                    }
                })
                .build();
        return new Engine(engine, end);
    }

    private static <E> ChangeConsumer<E> each(Consumer<E> handler) {
        return (events, committer) -> {
            for (E event : events) {
                handler.accept(event);
                committer.markProcessed(event);
            }
            committer.markBatchFinished();
        };
    }

    /** Until {@code done}, or the error that ended the engine before. */
    <T> T await(CompletableFuture<T> done) {
        CompletableFuture.anyOf(done, end).join();
        if (!done.isDone()) {
            throw new IllegalStateException("the engine ended early");
        }
        return done.join();
    }

    /** Until it reads the binlog. Should it fail later, the process does. */
    void awaitStreaming() throws JMException, InterruptedException {
        ObjectName metrics = new ObjectName(
                "debezium.mysql:type=connector-metrics,context=streaming,server=" + Source.NAME);
        while (!isConnected(metrics)) {
            if (end.isDone()) {
                end.join();
                throw new IllegalStateException("the engine ended early");
            }
            Thread.sleep(POLL_MILLIS);
        }
        end.exceptionally(error -> {
            Peer.fail(error);
            return null;
        });
    }

    private static boolean isConnected(ObjectName metrics) throws JMException {
        MBeanServer beans = ManagementFactory.getPlatformMBeanServer();
        try {
            return beans.getAttribute(metrics, "Connected").equals(true);
        } catch (InstanceNotFoundException notYet) {
            return false;
        }
    }

    @Override
    public void close() throws IOException {
        engine.close();
    }
}
