package onair.peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** Runs from its making to {@link #stop}. */
public final class Meter {
    /** What Linux counts the CPU time of a process in, on every machine that has Java. */
    private static final double TICKS_A_SECOND = 100;

    private final Ticks before = Ticks.now();
    private final long begun = System.nanoTime();

    public Run stop(long units, Map<String, Long> counts) {
        long wall = System.nanoTime() - begun;
        Ticks after = Ticks.now();
        return new Run(
                units,
                (after.user - before.user) / TICKS_A_SECOND,
                (after.system - before.system) / TICKS_A_SECOND,
                wall / 1e9,
                memoryPeak(),
                counts);
    }

    /** Of all threads, those of the compiler and of the garbage collector too. */
    private record Ticks(long user, long system) {
        static Ticks now() {
            String stat = read("/proc/self/stat");
            // The program's name ends with the last bracket; the next field is the third.
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            return new Ticks(Long.parseLong(fields[14 - 3]), Long.parseLong(fields[15 - 3]));
        }
    }

    /** The most memory that the process ever held. */
    private static long memoryPeak() {
        String peak = read("/proc/self/status").replaceAll("(?s).*VmHWM:\\s*(\\d+) kB.*", "$1");
        return Long.parseLong(peak) << 10;
    }

    private static String read(String file) {
        try {
            return Files.readString(Path.of(file));
        } catch (IOException error) {
            throw new IllegalStateException("Linux's " + file + " is needed", error);
        }
    }
}
