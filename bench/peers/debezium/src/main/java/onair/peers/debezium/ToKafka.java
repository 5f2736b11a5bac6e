package onair.peers.debezium;

import com.fasterxml.jackson.annotation.JsonProperty;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine.ChangeConsumer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import onair.peers.Peer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes every change to a topic, as Debezium Server does: a batch is through when Kafka has all of it. */
record ToKafka(
        @JsonProperty(required = true) String host,
        int port,
        @JsonProperty(required = true) String user,
        @JsonProperty(required = true) String password,
        @JsonProperty(required = true) String database,
        @JsonProperty(required = true) String table,
        @JsonProperty(required = true) String brokers,
        @JsonProperty(required = true) String topic,
        Integer pollMs,
        boolean schemas)
        implements Source, Peer.Job {

    @Override
    public void run() throws Exception {
        Properties connector = Latency.streaming(this, pollMs);
        // They would go to a topic of their own.
        connector.put("include.schema.changes", "false");
        connector.put("converter.schemas.enable", String.valueOf(schemas));
        try (Producer<String, String> producer = new KafkaProducer<>(producer());
                Engine engine = Engine.startJson(connector, into(producer))) {
            engine.awaitStreaming();
            Peer.say(Map.of("ready", Map.of()));
            // There are no orders.
            while (System.in.read() >= 0) {}
        }
    }

    private Properties producer() {
        Properties producer = new Properties();
        producer.put("bootstrap.servers", brokers);
        producer.put("acks", "all");
        producer.put("key.serializer", StringSerializer.class.getName());
        producer.put("value.serializer", StringSerializer.class.getName());
        if (pollMs != null) {
            producer.put("linger.ms", "0");
        }
        return producer;
    }

    private ChangeConsumer<ChangeEvent<String, String>> into(Producer<String, String> producer) {
        return (events, committer) -> {
            List<Future<RecordMetadata>> sent = new ArrayList<>(events.size());
            for (ChangeEvent<String, String> event : events) {
                sent.add(producer.send(new ProducerRecord<>(topic, event.key(), event.value())));
            }
            for (int at = 0; at < sent.size(); at++) {
                try {
                    sent.get(at).get();
                } catch (ExecutionException error) {
                    throw new IllegalStateException("Kafka did not take a change", error.getCause());
                }
                committer.markProcessed(events.get(at));
            }
            committer.markBatchFinished();
        };
    }
}
