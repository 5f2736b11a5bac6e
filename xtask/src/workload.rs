//! A busy table of rooms: its rows, and client processes that change them.

use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onair_xtask::servers::{Server, process};

/// One room in this many is on air at the start.
const LIVE_ONE_IN: u64 = 29;
/// Each is a connection of its own, so transactions overlap.
const WRITERS: u64 = 2;

/// Makes `live.room` with `rows` rows, a few thousand of 100,000 on air.
pub(crate) fn create_table(server: &Server, rows: u64) -> Result<()> {
    server.sql(&format!(
        "CREATE DATABASE live;
         CREATE TABLE live.room (
           uid         BIGINT UNSIGNED NOT NULL,
           id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
           area_id     INT NOT NULL,
           title       VARCHAR(120) CHARACTER SET utf8mb4 NOT NULL,
           live_status TINYINT NOT NULL DEFAULT 0,
           live_time   DATETIME(6) NULL,
           online      INT NOT NULL DEFAULT 0
         );
         SET SESSION cte_max_recursion_depth = {rows};
         INSERT INTO live.room (id, uid, area_id, title, live_status, live_time, online)
         WITH RECURSIVE room (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM room WHERE n < {rows})
         SELECT n, 1000000 + n * 7, n % 40,
                CONCAT(ELT(1 + n % 8, 'Late night jazz', 'Chess at dawn', 'Карты и чай', '深夜食堂',
                           'Speedruns', 'Learning Rust', 'Street food 🍜', 'Just talking'), ' ', n),
                n % {LIVE_ONE_IN} = 0,
                IF(n % {LIVE_ONE_IN} = 0, NOW(6) - INTERVAL n % 7200 SECOND, NULL), n % 500
         FROM room;"
    ))?;
    Ok(())
}

/// Writers at work, until [`Workload::stop`] or the drop of this.
#[derive(Debug)]
pub(crate) struct Workload {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<(JoinHandle<io::Result<()>>, Child)>,
}

impl Workload {
    /// Starts writers that together try `rate` transactions a second on a table of `rows` rows.
    pub(crate) fn start(server: &Server, rows: u64, rate: u32) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let mut command = server.bound_client();
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut client = process::spawn(command)?;
            let mut statements = client.stdin.take().context("the client has no input")?;
            let mut rooms = Rooms::of_writer(number, rows);
            let spacing = Duration::from_secs(WRITERS).div_f64(f64::from(rate.max(1)));
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            let writer =
                thread::spawn(move || write(&mut statements, &mut rooms, spacing, &is_over, &done));
            writers.push((writer, client));
        }
        Ok(Self {
            is_over,
            done,
            writers,
        })
    }

    /// Ends the writers and gives how many transactions they sent.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.end()?;
        Ok(self.done.load(Ordering::Relaxed))
    }

    fn end(&mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        for (writer, mut client) in self.writers.drain(..) {
            let written = writer
                .join()
                .ok()
                .context("a writer of the workload panicked")?;
            let status = client.wait()?;
            written.with_context(|| format!("the workload ended early; its client: {status}"))?;
        }
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Dropped where something else went wrong, which is what should be said.
        let _ = self.end();
    }
}

/// One writer: transactions at even distances. Behind a server that is slower than that it waits
/// at the pipe, and does not make up for it afterwards.
fn write(
    statements: &mut ChildStdin,
    rooms: &mut Rooms,
    spacing: Duration,
    is_over: &AtomicBool,
    done: &AtomicU64,
) -> io::Result<()> {
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        statements.write_all(rooms.transaction().as_bytes())?;
        done.fetch_add(1, Ordering::Relaxed);
        next = (next + spacing).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// The rooms that one writer changes: every [`WRITERS`]th, so that writers never wait for each
/// other's locks, and which of them are on air.
#[derive(Debug)]
struct Rooms {
    number: u64,
    rows: u64,
    live: Vec<u64>,
    random: u64,
}

impl Rooms {
    fn of_writer(number: u64, rows: u64) -> Self {
        let live = (1..=rows)
            .filter(|id| id % WRITERS == number && id % LIVE_ONE_IN == 0)
            .collect();
        // Any odd number does; the same one each time gives the same work each time.
        Self {
            number,
            rows,
            live,
            random: 0x9e37_79b9_7f4a_7c15 + 2 * number,
        }
    }

    /// xorshift64: a workload needs variety, not quality.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    fn any(&mut self) -> u64 {
        self.below(self.rows / WRITERS) * WRITERS + self.number
    }

    fn any_live(&mut self) -> Option<usize> {
        let count = self.live.len() as u64;
        (count > 0).then(|| self.below(count) as usize)
    }

    /// The statements of one transaction: about as many rooms go on air as off, some change, many
    /// changes are of something that nobody exports, and some transactions have several rows.
    fn transaction(&mut self) -> String {
        match self.below(100) {
            0..40 => self.toggle(),
            40..55 => self.retitle(),
            55..60 => format!(
                "BEGIN;\n{}{}{}COMMIT;\n",
                self.on(),
                self.off(),
                self.retitle()
            ),
            _ => {
                let (id, change) = (self.any(), self.below(50));
                format!("UPDATE live.room SET online = online + {change} WHERE id = {id};\n")
            }
        }
    }

    /// The further from the number at the start, the likelier back to it.
    fn toggle(&mut self) -> String {
        let usual = self.rows / WRITERS / LIVE_ONE_IN;
        if self.below(2 * usual) < self.live.len() as u64 {
            self.off()
        } else {
            self.on()
        }
    }

    fn on(&mut self) -> String {
        let id = self.any();
        if !self.live.contains(&id) {
            self.live.push(id);
        }
        format!(
            "UPDATE live.room SET live_status = 1, live_time = NOW(6), online = 1 WHERE id = {id};\n"
        )
    }

    fn off(&mut self) -> String {
        match self.any_live() {
            Some(at) => {
                let id = self.live.swap_remove(at);
                format!(
                    "UPDATE live.room SET live_status = 0, live_time = NULL, online = 0 \
                     WHERE id = {id};\n"
                )
            }
            None => self.on(),
        }
    }

    fn retitle(&mut self) -> String {
        match self.any_live() {
            Some(at) => {
                let (id, part) = (self.live[at], self.below(1000));
                format!("UPDATE live.room SET title = 'Part {part} of {id}' WHERE id = {id};\n")
            }
            None => self.on(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_share_no_room_and_the_live_set_stays() {
        let mut all = [Rooms::of_writer(0, 10_000), Rooms::of_writer(1, 10_000)];
        for (number, rooms) in (0..).zip(&mut all) {
            let before = rooms.live.len();
            for _ in 0..20_000 {
                let text = rooms.transaction();
                assert!(text.ends_with(";\n"), "{text}");
            }
            assert!(rooms.live.iter().all(|id| id % WRITERS == number));
            let after = rooms.live.len();
            assert!(
                after > before / 2 && after < before * 4,
                "{before} became {after}"
            );
        }
    }
}
