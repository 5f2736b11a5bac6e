package onair.peers;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.util.Map;

/**
 * A program that the bench measures us beside. The one argument is a job; standard output has JSON lines, standard
 * error the rest.
 */
public final class Peer {
    /** Snake case, and nothing unknown or missing. */
    private static final JsonMapper JSON = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    /** What a peer can be told to do. */
    public interface Job {
        void run() throws Exception;
    }

    private Peer() {}

    /** Does the job, and ends the process. */
    public static void main(String[] arguments, Map<String, Class<? extends Job>> jobs) {
        try {
            if (arguments.length != 1) {
                throw new IllegalArgumentException("one argument is meant, a job in JSON");
            }
            job(arguments[0], jobs).run();
        } catch (Exception error) {
            fail(error);
        }
        // Libraries leave threads behind.
        System.exit(0);
    }

    /** Says why, and ends the process. */
    public static void fail(Throwable error) {
        System.err.println("peer: " + error);
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            System.err.println("  " + cause);
        }
        System.exit(1);
    }

    private static Job job(String text, Map<String, Class<? extends Job>> jobs) throws JsonProcessingException {
        JsonNode job = JSON.readTree(text);
        String name = job.size() == 1 ? job.fieldNames().next() : "";
        if (!jobs.containsKey(name)) {
            throw new IllegalArgumentException("the job " + text + ": one of " + jobs.keySet() + " is meant");
        }
        return JSON.treeToValue(job.get(name), jobs.get(name));
    }

    /** Writes one line to standard output. */
    public static void say(Object line) throws JsonProcessingException {
        System.out.println(JSON.writeValueAsString(line));
    }
}
