-- A table to try OnAir on, and an account that may read it and its binlog, and nothing else.
CREATE DATABASE live;
CREATE TABLE live.room (
  uid         BIGINT UNSIGNED NOT NULL,
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  area_id     INT NOT NULL,
  title       VARCHAR(120) CHARACTER SET utf8mb4 NOT NULL,
  live_status TINYINT NOT NULL DEFAULT 0,
  live_time   DATETIME(6) NULL
);
INSERT INTO live.room (uid, area_id, title, live_status, live_time) VALUES
  (1000007, 1, 'Late night jazz', 1, NOW(6)),
  (1000014, 2, 'Chess at dawn', 0, NULL),
  (1000021, 3, '深夜食堂', 1, NOW(6));
CREATE USER onair IDENTIFIED BY 'onair';
GRANT REPLICATION SLAVE ON *.* TO onair;
GRANT SELECT ON live.* TO onair;
