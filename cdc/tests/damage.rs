//! Event bodies with flipped bits and cut ends: an error or other values, never a panic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use onair_cdc::decode::{Decoder, Net};
use onair_cdc::feed::Feed;
use onair_cdc::source::{Dialect, RawEvent};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Decodes damaged copies of recorded events, each after the sound table map of its table. Prints the seed.
pub(crate) fn damaged_events_are_errors(
    feeds: &[Arc<Feed>],
    dialect: Dialect,
    recorded: &[RawEvent],
    rounds: usize,
) -> Result<()> {
    let seed = rand::random();
    eprintln!("damage: seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let begun = Instant::now();
    let maps: HashMap<&[u8], &RawEvent> = recorded
        .iter()
        .filter(|event| event.kind == 19)
        .map(|event| (&event.body[..6], event))
        .collect();
    let (mut refused, mut taken) = (0, 0);
    let mut decoder = Decoder::new(feeds.into()).speaking(dialect);
    let mut net = Net::default();
    for round in 0..rounds {
        let event = &recorded[random.random_range(0..recorded.len())];
        let mut body = event.body.to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = if random.random() {
                // The beginning decides most.
                random.random_range(0..body.len().min(200))
            } else {
                random.random_range(0..body.len())
            };
            body[at] ^= 1 << random.random_range(0..8);
        }
        if random.random_range(0..4) == 0 {
            body.truncate(random.random_range(0..body.len()));
        }
        let outcome = if event.kind == 19 {
            let rows = recorded
                .iter()
                .find(|e| e.kind != 19 && e.body[..6] == event.body[..6]);
            let told = decoder.table_map(&body);
            let rows = rows.map(|rows| decoder.rows(rows.kind, &rows.body, &mut net));
            told.and(rows.unwrap_or(Ok(())))
        } else {
            decoder.table_map(&maps[&event.body[..6]].body)?;
            decoder.rows(event.kind, &body, &mut net)
        };
        match outcome {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
        if round % 16 == 0 {
            net.take();
            decoder = Decoder::new(feeds.into()).speaking(dialect);
        }
    }
    eprintln!(
        "damage: {refused} refused, {taken} taken in {:?}",
        begun.elapsed()
    );
    assert!(refused > 0 && taken > 0);
    Ok(())
}
