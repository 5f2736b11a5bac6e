//! Sessions that run random transactions on `live.room`.

use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onair_xtask::servers::{Server, process};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Keys are drawn from 1 to this.
const KEYS: u64 = 3_000;
/// Above all keys: a swap's third place.
const ASIDE: u64 = 1 << 40;

/// At the end of each round all sessions are quiet together.
const ROUND: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(2_500);

/// Makes the tables and some rows. The types show signs, NULL and text beyond ASCII.
pub fn create(server: &Server) -> Result<()> {
    let mut script = String::from(
        "CREATE DATABASE live;
         CREATE TABLE live.room (
           uid BIGINT UNSIGNED NOT NULL, id BIGINT UNSIGNED NOT NULL PRIMARY KEY, area_id INT NOT NULL,
           title VARCHAR(120) CHARACTER SET utf8mb4 NULL, live_status TINYINT NOT NULL DEFAULT 0,
           live_time DATETIME(6) NULL, online INT NOT NULL DEFAULT 0);
         CREATE TABLE live.other (n BIGINT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(40));\n",
    );
    script.push_str(&fill(1..=KEYS / 2));
    server.sql(&script)?;
    Ok(())
}

/// One INSERT of rows with these keys, a third of them live; keys that are there stay as they are.
pub fn fill(keys: std::ops::RangeInclusive<u64>) -> String {
    let rows: Vec<String> = keys
        .map(|id| {
            format!(
                "({}, {id}, {}, 'Комната {id} 🍜', {}, '2026-11-22 10:00:00.{id:06}', 0)",
                u64::MAX - id,
                id as i64 % 40 - 20,
                u8::from(id % 3 == 0)
            )
        })
        .collect();
    format!(
        "INSERT IGNORE INTO live.room (uid, id, area_id, title, live_status, live_time, online) VALUES {};\n",
        rows.join(",")
    )
}

/// Sessions at work, until [`Workload::stop`] or the drop of this.
#[derive(Debug)]
pub struct Workload {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sessions: Vec<(JoinHandle<io::Result<()>>, Child)>,
}

impl Workload {
    /// Starts this many sessions, each with about this long between two transactions.
    pub fn start(server: &Server, seed: u64, sessions: u64, spacing: Duration) -> Result<Self> {
        let mut workload = Workload {
            is_over: Arc::default(),
            sent: Arc::default(),
            sessions: Vec::new(),
        };
        let began = Instant::now();
        for number in 0..sessions {
            let mut command = server.bound_client();
            // A deadlock or a duplicate key is part of the game: the session goes on.
            command
                .arg("--force")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut client = process::spawn(command)?;
            let mut statements = client.stdin.take().context("the client has no input")?;
            let mut session = Session {
                number,
                rng: StdRng::seed_from_u64(seed.wrapping_add(number)),
            };
            let (is_over, sent) = (Arc::clone(&workload.is_over), Arc::clone(&workload.sent));
            let writer = thread::spawn(move || {
                session.run(&mut statements, spacing, began, &is_over, &sent)
            });
            workload.sessions.push((writer, client));
        }
        Ok(workload)
    }

    /// Ends the sessions, waits until the server has done what they sent, and gives how many transactions that were.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        Ok(self.sent.load(Ordering::Relaxed))
    }

    fn end(&mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        for (writer, mut client) in self.sessions.drain(..) {
            let written = writer.join().ok().context("a session panicked")?;
            let status = client.wait()?;
            written.with_context(|| format!("a session ended early; its client: {status}"))?;
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

struct Session {
    number: u64,
    rng: StdRng,
}

impl Session {
    fn run(
        &mut self,
        statements: &mut ChildStdin,
        spacing: Duration,
        began: Instant,
        is_over: &AtomicBool,
        sent: &AtomicU64,
    ) -> io::Result<()> {
        while !is_over.load(Ordering::Relaxed) {
            statements.write_all(self.transaction().as_bytes())?;
            sent.fetch_add(1, Ordering::Relaxed);
            let factor = self.rng.random_range(0.2..1.8);
            thread::sleep(spacing.mul_f64(factor));
            let left = ROUND.as_millis() - began.elapsed().as_millis() % ROUND.as_millis();
            if left <= QUIET.as_millis() {
                thread::sleep(Duration::from_millis(left as u64));
            }
        }
        Ok(())
    }

    fn key(&mut self) -> u64 {
        self.rng.random_range(1..=KEYS)
    }

    fn transaction(&mut self) -> String {
        let (a, b, c) = (self.key(), self.key(), self.key());
        let n = self.rng.random_range(-1_000_000..1_000_000);
        match self.rng.random_range(0..100) {
            0..25 => format!(
                "UPDATE live.room SET live_status = 1 - live_status, live_time = NOW(6) WHERE id = {a};\n"
            ),
            25..40 => format!(
                "UPDATE live.room SET title = IF({n} % 7 = 0, NULL, 'Ночь {n} 🎷'), area_id = {n} WHERE id = {a};\n"
            ),
            40..52 => format!(
                "INSERT IGNORE INTO live.room VALUES ({a} * 7, {a}, {n}, '深夜食堂 {n}', {}, NULL, 1);\n",
                n & 1
            )
            .replace("live.room VALUES", "live.room (uid, id, area_id, title, live_status, live_time, online) VALUES"),
            52..60 => format!("DELETE FROM live.room WHERE id = {a};\n"),
            60..68 => format!("UPDATE IGNORE live.room SET id = {a}, area_id = {n} WHERE id = {b};\n"),
            68..76 => format!(
                "UPDATE live.room SET area_id = {n}, live_status = 1 - live_status WHERE id IN ({a}, {b}, {c}, {}, {});\n",
                a + 1,
                b + 1
            ),
            // One goes off, one comes on: the count stays.
            76..82 => format!(
                "BEGIN; UPDATE live.room SET live_status = 0 WHERE live_status = 1 AND id > {a} ORDER BY id LIMIT 1;
                 UPDATE live.room SET live_status = 1 WHERE live_status = 0 AND id > {b} ORDER BY id LIMIT 1; COMMIT;\n"
            ),
            82..84 => format!(
                "UPDATE live.room SET area_id = area_id + 1, online = {n} WHERE id BETWEEN {a} AND {};\n",
                a + 400
            ),
            84..88 => format!(
                "BEGIN; UPDATE live.room SET area_id = {n} WHERE id = {a}; DELETE FROM live.room WHERE id = {b}; ROLLBACK;\n"
            ),
            88..92 => format!(
                "BEGIN; UPDATE live.room SET area_id = {n} WHERE id = {a}; SAVEPOINT s;
                 UPDATE live.room SET live_status = 1 - live_status WHERE id = {b}; DELETE FROM live.room WHERE id = {c};
                 ROLLBACK TO s; UPDATE live.room SET title = 'Шаг {n}' WHERE id = {c}; COMMIT;\n"
            ),
            // Two keys change places within one transaction.
            92..95 => {
                let aside = ASIDE + self.number;
                format!(
                    "BEGIN; UPDATE live.room SET id = {aside} WHERE id = {a}; UPDATE live.room SET id = {a} WHERE id = {b};
                     UPDATE live.room SET id = {b} WHERE id = {aside}; COMMIT;\n"
                )
            }
            // On and off again in one transaction.
            95..97 => format!(
                "BEGIN; UPDATE live.room SET live_status = 1 - live_status WHERE id = {a};
                 UPDATE live.room SET live_status = 1 - live_status WHERE id = {a}; COMMIT;\n"
            ),
            _ => format!("INSERT INTO live.other (note) VALUES ('{n}');\n"),
        }
    }
}
