//! Statements for a server, and the steps that must come of them.

/// What a server is given to do, and the steps that must come of it, but for heartbeats.
pub(super) struct Case {
    pub(super) sql: &'static str,
    pub(super) steps: &'static [&'static str],
}

const fn case(sql: &'static str, steps: &'static [&'static str]) -> Case {
    Case { sql, steps }
}

pub(super) const SCHEMA: &str = "CREATE DATABASE live; USE live;
    CREATE TABLE room (id INT UNSIGNED PRIMARY KEY, live_status INT, title VARCHAR(60), note VARCHAR(300));
    CREATE TABLE x (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(300));
    CREATE TABLE mixed (id INT) ENGINE=MyISAM";

/// The same on both dialects.
pub(super) const COMMON: &[Case] = &[
    case(
        "INSERT INTO room VALUES (1, 1, 'a', ''), (2, 0, 'b', ''); UPDATE room SET live_status = 1;
         UPDATE room SET title = 'c' WHERE id = 2; DELETE FROM room WHERE id = 1",
        &["tx 1:+a", "tx 2:+b", "tx 2:b>c", "tx 1:-a"],
    ),
    case(
        "BEGIN; INSERT INTO x (note) VALUES (''); COMMIT; BEGIN; UPDATE room SET note = 'n'; COMMIT",
        &["tx", "tx"],
    ),
    // What was rolled back to a savepoint is not in the binlog; what is rolled back whole is nothing at all.
    case(
        "BEGIN; UPDATE room SET title = 'd'; SAVEPOINT s; DELETE FROM room; ROLLBACK TO s; SAVEPOINT t;
         RELEASE SAVEPOINT t; COMMIT; BEGIN; DELETE FROM room; ROLLBACK",
        &["tx 2:c>d"],
    ),
    case(
        "BEGIN; INSERT INTO room VALUES (1, 1, 'x', ''); UPDATE room SET id = id + 10; DELETE FROM room WHERE id = 11; COMMIT",
        &["tx 2:-d 12:+d"],
    ),
    // XA: rows at PREPARE, nothing of them until COMMIT.
    case(
        "XA START 'p'; UPDATE room SET title = 'e'; XA END 'p'; XA PREPARE 'p'; XA COMMIT 'p'",
        &["tx", "tx 12:d>e"],
    ),
    case(
        "XA START 'p', 'branch', 7; DELETE FROM room; XA END 'p', 'branch', 7; XA PREPARE 'p', 'branch', 7;
         XA ROLLBACK 'p', 'branch', 7",
        &["tx", "tx"],
    ),
    case(
        "XA START 'p'; UPDATE room SET title = 'f'; XA END 'p'; XA COMMIT 'p' ONE PHASE",
        &["tx 12:e>f"],
    ),
    case(
        "XA START 'p'; INSERT INTO x (note) VALUES ('p'); XA END 'p'; XA PREPARE 'p'; XA COMMIT 'p'",
        &["tx", "tx"],
    ),
    case(
        "XA START 'empty'; XA END 'empty'; XA PREPARE 'empty'; XA COMMIT 'empty';
         XA START 'reads'; SELECT * FROM room; XA END 'reads'; XA PREPARE 'reads'; XA COMMIT 'reads';
         XA START 'back'; DELETE FROM room; XA END 'back'; XA ROLLBACK 'back'; UPDATE room SET note = 'o'",
        &["tx"],
    ),
    // Definitions.
    case(
        "CREATE TABLE y (id INT PRIMARY KEY, room INT) ENGINE=InnoDB; ALTER TABLE y ADD COLUMN a INT; TRUNCATE y;
         RENAME TABLE y TO z; CREATE TABLE y LIKE room;
         CREATE VIEW room_view AS SELECT * FROM room; DROP VIEW room_view; DROP TABLE y; DROP TABLE z",
        &["tx", "tx", "tx", "tx", "tx", "tx", "tx", "tx", "tx"],
    ),
    case(
        "CREATE USER IF NOT EXISTS room@localhost; GRANT SELECT ON live.room TO room@localhost; DROP USER room@localhost;
         ANALYZE TABLE room; OPTIMIZE TABLE room; FLUSH TABLES room",
        &["tx", "tx", "tx", "tx", "tx", "tx"],
    ),
    case(
        "ALTER TABLE room ADD COLUMN added INT FIRST, COMMENT='x'; UPDATE room SET title = 'g';
         CREATE INDEX i ON room (note); ALTER TABLE room DROP COLUMN added; UPDATE room SET title = 'h'",
        &["tx", "tx 12:f>g", "tx", "tx", "tx 12:g>h"],
    ),
    case(
        "CREATE TABLE copied AS SELECT * FROM room; INSERT INTO copied VALUES (12, 1, '', ''); DROP TABLE copied",
        &["tx", "tx", "tx"],
    ),
    case(
        "CREATE TABLE room_new LIKE room; INSERT INTO room_new SELECT * FROM room;
         RENAME TABLE room TO room_old, room_new TO room; DROP TABLE room_old; UPDATE room SET title = 'i'",
        &[
            "tx",
            "tx",
            "barrier RENAME TABLE of live.room",
            "tx",
            "tx 12:h>i",
        ],
    ),
    case(
        "TRUNCATE TABLE room; INSERT INTO room VALUES (5, 1, 'a', '')",
        &["barrier TRUNCATE of live.room", "tx 5:+a"],
    ),
    case(
        "ALTER TABLE room MODIFY title VARCHAR(61)",
        &["barrier ALTER TABLE .. MODIFY of live.room"],
    ),
    case(
        "CREATE TABLE parts LIKE room; ALTER TABLE parts PARTITION BY HASH (id) PARTITIONS 2;
         ALTER TABLE parts EXCHANGE PARTITION p1 WITH TABLE room;
         ALTER TABLE parts EXCHANGE PARTITION p1 WITH TABLE room; DROP TABLE parts",
        &[
            "tx",
            "tx",
            "barrier ALTER TABLE of another table, not understood, with live.room in it",
            "barrier ALTER TABLE of another table, not understood, with live.room in it",
            "tx",
        ],
    ),
    // Triggers and procedures write rows like everybody else.
    case(
        "CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW UPDATE room SET title = 'by trigger';
         CREATE PROCEDURE p() UPDATE room SET title = 'by procedure'; INSERT INTO x (note) VALUES (''); CALL p();
         DROP TRIGGER t; DROP PROCEDURE p",
        &["tx", "tx", "tx 5:a>by trigger", "tx 5:by trigger>by procedure", "tx", "tx"],
    ),
    // Statements instead of rows.
    case(
        "SET SESSION binlog_format = STATEMENT; INSERT INTO x (note) VALUES (CONCAT('r', @@pseudo_thread_id));
         INSERT INTO x (note) SELECT title FROM room; UPDATE x, (SELECT 1) AS s SET x.note = 'room'",
        &["tx", "tx", "tx"],
    ),
    case(
        "SET SESSION binlog_format = STATEMENT; UPDATE room SET title = 'by statement';
         SET SESSION binlog_format = ROW; UPDATE room SET title = 'by row'",
        &[
            "barrier a statement-format UPDATE of live.room",
            "tx 5:by statement>by row",
        ],
    ),
    case(
        "SET SESSION binlog_format = STATEMENT; BEGIN; UPDATE live.room SET title = 'j'; SET @a = 1;
         INSERT INTO x (note) VALUES (@a); COMMIT",
        &["barrier a statement-format UPDATE of live.room"],
    ),
    case(
        "SET SESSION binlog_format = STATEMENT; CREATE TEMPORARY TABLE room (id INT); DROP TEMPORARY TABLE room",
        &["tx", "tx"],
    ),
    case(
        "SET SESSION binlog_format = STATEMENT; LOAD DATA LOCAL INFILE 'Cargo.toml' IGNORE INTO TABLE room (note) SET id = 100;
         LOAD DATA LOCAL INFILE 'Cargo.toml' INTO TABLE x (note); SET SESSION binlog_format = ROW; DELETE FROM room WHERE id = 100",
        &["barrier LOAD DATA of live.room", "tx", "tx"],
    ),
    // MIXED: a statement that is safe comes as itself, one that is not as rows.
    case(
        "SET SESSION binlog_format = MIXED; UPDATE room SET title = 'mixed'; UPDATE room SET title = LEFT(CONCAT('l', UUID()), 1)",
        &["barrier a statement-format UPDATE of live.room", "tx 5:mixed>l"],
    ),
    case(
        "SET SESSION binlog_row_image = MINIMAL; UPDATE room SET title = 'm'; SET SESSION binlog_row_image = FULL;
         UPDATE room SET title = 'n'",
        &[
            "barrier live.room: a session wrote a row image without column live_status: its binlog_row_image is MINIMAL or NOBLOB, FULL is needed",
            "tx 5:m>n",
        ],
    ),
    case(
        "SET GLOBAL binlog_row_metadata = MINIMAL; UPDATE room SET note = 'minimal'; SET GLOBAL binlog_row_metadata = FULL;
         UPDATE room SET note = 'full'",
        &[
            "barrier live.room: its table map no longer tells the names of columns: binlog_row_metadata was FULL and is not",
            "tx",
        ],
    ),
];

pub(super) const MYSQL_FIRST: &[Case] = &[
    case(
        "SET SESSION binlog_rows_query_log_events = ON; UPDATE room SET note = 'rows query'",
        &["tx"],
    ),
    case(
        "SET SESSION binlog_transaction_compression = ON, binlog_rows_query_log_events = ON;
         BEGIN; INSERT INTO room VALUES (7, 1, 'a', REPEAT('x', 300)), (8, 1, 'b', REPEAT('y', 300)); DELETE FROM x; COMMIT;
         XA START 'c'; UPDATE room SET title = 'c', note = REPEAT('z', 300); XA END 'c'; XA PREPARE 'c'; XA COMMIT 'c';
         INSERT INTO x (note) WITH RECURSIVE n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT REPEAT('x', 300) FROM n;
         DELETE FROM room WHERE id > 6",
        &["tx 7:+a 8:+b", "tx", "tx 5:n>c 7:a>c 8:b>c", "tx", "tx 7:-c 8:-c"],
    ),
    case(
        "SET SESSION binlog_transaction_compression = ON, binlog_format = STATEMENT; UPDATE room SET title = 'c', note = REPEAT('s', 60)",
        &["barrier a statement-format UPDATE of live.room"],
    ),
];

// Even when nothing was to be done; and a DROP of tables of two engines is two transactions.
pub(super) const MYSQL_LAST: &[Case] = &[
    case("CREATE TABLE IF NOT EXISTS room (id INT)", &["tx"]),
    case(
        "DROP TABLE x, mixed; DROP DATABASE live",
        &["tx", "tx", "barrier DROP DATABASE of live.room"],
    ),
];

/// Since 8.3.
pub(super) const TAGS: &[Case] = &[
    case(
        "SET SESSION gtid_next = 'AUTOMATIC:blue'; UPDATE room SET title = 't'; UPDATE room SET title = 'u';
         SET SESSION gtid_next = 'AUTOMATIC:a_tag_of_thirty_two_characters_'; UPDATE room SET title = 'c';
         SET SESSION gtid_next = 'AUTOMATIC:green', binlog_transaction_compression = ON; INSERT INTO x (note) VALUES (REPEAT('x', 300))",
        &[
            "tx:blue:1 5:c>t",
            "tx:blue:2 5:t>u",
            "tx:a_tag_of_thirty_two_characters_:1 5:u>c",
            "tx:green:1",
        ],
    ),
];

pub(super) const MARIADB: &[Case] = &[
    // A table without transactions between rows of ours; MySQL with GTIDs refuses that.
    case(
        "BEGIN; UPDATE room SET title = 'o'; INSERT INTO mixed VALUES (1); ROLLBACK; BEGIN; INSERT INTO mixed VALUES (1);
         UPDATE room SET title = 'p'; COMMIT",
        &["tx", "tx", "tx 5:n>p"],
    ),
    case(
        "SET GLOBAL log_bin_compress = ON, log_bin_compress_min_len = 10",
        &[],
    ),
    case(
        "INSERT INTO room VALUES (7, 1, 'a', REPEAT('x', 300)), (8, 1, 'b', REPEAT('y', 300));
         UPDATE room SET title = 'c', note = REPEAT('z', 300); DELETE FROM room WHERE id > 6;
         CREATE TABLE y (id INT PRIMARY KEY COMMENT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'); DROP TABLE y",
        &["tx 7:+a 8:+b", "tx 5:p>c 7:a>c 8:b>c", "tx 7:-c 8:-c", "tx", "tx"],
    ),
    case(
        "SET STATEMENT max_statement_time = 10 FOR UPDATE room SET title = 'd';
         SET SESSION binlog_format = STATEMENT; SET STATEMENT max_statement_time = 10 FOR UPDATE room SET title = 'e'",
        &["tx 5:c>d", "barrier a statement-format UPDATE of live.room"],
    ),
    case(
        "SET SESSION gtid_domain_id = 7; UPDATE room SET title = 'f'; CREATE SEQUENCE s; SELECT NEXT VALUE FOR s; DROP SEQUENCE s",
        &["tx 5:e>f", "tx", "tx", "tx"],
    ),
    // Since 10.8 told twice, when it begins and when it is done.
    case(
        "SET SESSION binlog_alter_two_phase = ON; ALTER TABLE x ADD COLUMN added INT; ALTER TABLE room ADD INDEX i2 (title);
         ALTER TABLE room MODIFY title VARCHAR(62)",
        &[
            "tx",
            "tx",
            "tx",
            "tx",
            "barrier ALTER TABLE .. MODIFY of live.room",
            "barrier ALTER TABLE .. MODIFY of live.room",
        ],
    ),
    case(
        "ALTER ONLINE TABLE room ADD COLUMN IF NOT EXISTS added INT; ALTER TABLE room DROP COLUMN IF EXISTS added",
        &["tx", "tx"],
    ),
    case(
        "CREATE OR REPLACE TABLE room (id INT UNSIGNED PRIMARY KEY, live_status INT, title VARCHAR(61))",
        &["barrier CREATE TABLE of live.room"],
    ),
    case("DROP TABLE x, mixed; DROP DATABASE live", &["tx", "barrier DROP DATABASE of live.room"]),
];
