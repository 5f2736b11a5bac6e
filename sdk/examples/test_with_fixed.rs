//! Testing code that reads a feed, without any server: `cargo test -p onair-sdk --example test_with_fixed`.

use onair_sdk::{Feed, Snapshot};

/// A row as the service uses it.
#[derive(Clone, Debug)]
struct Room {
    uid: u64,
    price: u32,
}

/// The code to test: it is given a snapshot, so that it sees one version throughout.
fn may_send_gift(rooms: &Snapshot<Room>, room: u64, price: u32) -> Option<u64> {
    let room = rooms.get(&room)?;
    (price >= room.price).then_some(room.uid)
}

fn main() {
    let rooms = Feed::fixed([(42, Room { uid: 7, price: 5 })]);
    println!("{:?}", may_send_gift(&rooms.snapshot(), 42, 5));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gifts_go_to_rooms_on_air_that_take_them() {
        let rooms = Feed::fixed([(42, Room { uid: 7, price: 5 })]).snapshot();
        assert_eq!(may_send_gift(&rooms, 42, 5), Some(7));
        assert_eq!(may_send_gift(&rooms, 42, 4), None);
        assert_eq!(may_send_gift(&rooms, 43, 5), None);
    }
}
