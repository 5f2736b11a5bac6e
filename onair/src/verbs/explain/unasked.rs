//! Servers that others know of and that nobody asked. Decisions only.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use onair_proto::v1::RoleStatus;

use super::judge::Place;
use crate::output::ago;

const SERVER: &str = "server";

/// Of what each server that was asked says of all roles, itself first: the other servers, by the name of their process.
/// A row there says what the process is called and how it is, not where it listens.
pub(super) fn servers(statuses: &[Vec<RoleStatus>], now: Timestamp) -> Vec<Place> {
    let of_servers = |roles: &[RoleStatus]| -> Vec<RoleStatus> {
        let servers = roles.iter().filter(|role| role.role == SERVER);
        servers.cloned().collect()
    };
    let mut others = BTreeMap::new();
    for roles in statuses {
        for role in of_servers(roles).into_iter().skip(1) {
            others.insert(role.process.clone(), role);
        }
    }
    for roles in statuses {
        if let Some(asked) = of_servers(roles).first() {
            others.remove(&asked.process);
        }
    }
    let place = |role: &RoleStatus| {
        let silent = now.as_microsecond().saturating_sub(role.at);
        let silent = Duration::from_micros(u64::try_from(silent).unwrap_or(0));
        let why = format!(
            "not asked: process {} ({}, as it said {} ago); its row in the store does not say where it listens, add --server URL with its address",
            role.process,
            role.state,
            ago(silent)
        );
        Place::silent(SERVER, why)
    };
    others.values().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(role: &str, process: &str) -> RoleStatus {
        RoleStatus {
            role: role.to_owned(),
            state: "serving".to_owned(),
            detail: String::new(),
            at: 1_000_000,
            process: process.to_owned(),
        }
    }

    #[test]
    fn servers_that_were_not_asked_are_named() {
        let a = vec![
            role("server", "a"),
            role("reader", "r"),
            role("server", "b"),
            role("server", "c"),
        ];
        let b = vec![
            role("server", "b"),
            role("server", "a"),
            role("server", "c"),
        ];
        let now = Timestamp::from_microsecond(3_500_000).unwrap();
        let named = |statuses: &[Vec<RoleStatus>]| -> Vec<String> {
            let places = servers(statuses, now);
            assert!(
                places
                    .iter()
                    .all(|place| !place.known && place.name == SERVER)
            );
            places.into_iter().map(|place| place.place).collect()
        };
        let one = named(std::slice::from_ref(&a));
        assert_eq!(one.len(), 2);
        assert!(
            one[0].starts_with("not asked: process b (serving, as it said 2.5 s ago);"),
            "{one:?}"
        );
        assert!(
            one[1].contains("process c") && one[1].contains("--server URL"),
            "{one:?}"
        );
        let two = named(&[a, b]);
        assert_eq!(two.len(), 1);
        assert!(two[0].contains("process c"), "{two:?}");
        // Everything in one process.
        let alone = vec![
            role("reader", "u"),
            role("merger", "u"),
            role("server", "u"),
        ];
        assert_eq!(named(&[alone.clone(), alone]), [""; 0]);
    }
}
