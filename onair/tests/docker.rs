//! What can be checked of docker/ without an engine: the compose file against the types of its specification, and that the
//! command lines and the configuration in it are ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use docker_compose_types::{
    Command, Compose, DependsOnOptions, Environment, MapOrEmpty, Networks, Service, Volumes,
};
use onair::cli::Cli;
use onair::config::{self, Input};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docker")
        .join(name)
}

fn compose() -> Compose {
    let text = std::fs::read_to_string(path("compose.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn the_stack_is_whole_and_pinned() {
    let compose = compose();
    let services: BTreeSet<&str> = compose.services.0.keys().map(String::as_str).collect();
    let expected = [
        "cdc",
        "kafka",
        "merger-1",
        "merger-2",
        "mysql-8.4",
        "mysql-9",
        "scylla",
        "server-1",
        "server-2",
        "store-init",
    ];
    assert_eq!(services, BTreeSet::from(expected));
    for (name, service) in &compose.services.0 {
        let service = service.as_ref().unwrap();
        let image = service.image.as_deref().unwrap();
        let tag = image.split_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{name}: {image}");
        let DependsOnOptions::Conditional(needs) = &service.depends_on else {
            continue;
        };
        for (needed, how) in needs {
            let found = compose.services.0.get(needed).and_then(Option::as_ref);
            let found = found.unwrap_or_else(|| panic!("{name} needs {needed}"));
            // What a profile brings may be absent; all else must not.
            let may_be_absent = how.required == Some(false);
            assert_eq!(
                may_be_absent,
                !found.profiles.is_empty(),
                "{name}: {needed}"
            );
        }
    }
}

/// Where these images keep their data.
fn data(image: &str, service: &Service) -> String {
    match image.split(':').next().unwrap() {
        "mysql" => "/var/lib/mysql".to_owned(),
        "scylladb/scylla" => "/var/lib/scylla".to_owned(),
        "apache/kafka" => {
            let Environment::KvPair(set) = &service.environment else {
                panic!("{image} has no environment");
            };
            set["KAFKA_LOG_DIRS"].as_ref().unwrap().to_string()
        }
        other => panic!("where does {other} keep its data?"),
    }
}

/// Else `down` and `up` would lose what one of them has, and the others would notice.
#[test]
fn what_keeps_data_keeps_it_in_a_volume_of_its_own() {
    let compose = compose();
    let mut held = BTreeSet::new();
    for (name, service) in &compose.services.0 {
        let service = service.as_ref().unwrap();
        let image = service.image.as_deref().unwrap();
        if image == "onair:dev" {
            assert_eq!(service.volumes, [], "{name} keeps nothing");
            continue;
        }
        let data = data(image, service);
        let volume = service.volumes.iter().find_map(|volume| match volume {
            Volumes::Simple(text) => text.strip_suffix(&data)?.strip_suffix(':'),
            Volumes::Advanced(_) => None,
        });
        let volume = volume.unwrap_or_else(|| panic!("{name} has no volume at {data}"));
        assert!(held.insert(volume.to_owned()), "{name} shares {volume}");
    }
    let named: BTreeSet<String> = compose.volumes.0.keys().cloned().collect();
    assert_eq!(held, named);
    assert_eq!(held.len(), 4);
}

#[test]
fn each_profile_is_a_mysql_and_one_is_chosen() {
    let compose = compose();
    let mut images = Vec::new();
    let mut profiles = Vec::new();
    for (name, service) in &compose.services.0 {
        let service = service.as_ref().unwrap();
        let image = service.image.as_deref().unwrap();
        if !image.starts_with("mysql:") {
            assert!(service.profiles.is_empty(), "{name} is always there");
            continue;
        }
        assert_eq!(service.profiles, std::slice::from_ref(name));
        let Networks::Advanced(networks) = &service.networks else {
            panic!("{name} has no other name");
        };
        let MapOrEmpty::Map(default) = &networks.0["default"] else {
            panic!("{name} has no other name");
        };
        assert_eq!(default.aliases, ["mysql"], "{name}");
        // Merged from what both have.
        assert!(service.command.is_some() && service.healthcheck.is_some());
        images.push(image);
        profiles.push(name.as_str());
    }
    images.sort_unstable();
    assert_eq!(images, ["mysql:8.4", "mysql:9.7"]);
    let chosen = std::fs::read_to_string(path(".env")).unwrap();
    let chosen = chosen
        .lines()
        .find_map(|line| line.strip_prefix("COMPOSE_PROFILES="));
    assert_eq!(chosen, Some("mysql-9"));
    assert!(profiles.contains(&"mysql-9"), "{profiles:?}");
}

#[test]
fn its_command_lines_are_ours() {
    let mut seen = 0;
    for (name, service) in &compose().services.0 {
        let service = service.as_ref().unwrap();
        if service.image.as_deref() != Some("onair:dev") {
            continue;
        }
        let Some(Command::Args(words)) = &service.command else {
            panic!("{name} has no command");
        };
        let parsed =
            Cli::try_parse_from(std::iter::once("onair").chain(words.iter().map(String::as_str)));
        assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn its_configuration_is_valid() {
    let text = std::fs::read_to_string(path("onair.toml")).unwrap();
    let loaded = config::load(&Input {
        file: Some(("docker/onair.toml".to_owned(), text)),
        environment: vec![("ONAIR_SOURCE_PASSWORD".to_owned(), "onair".to_owned())],
        ..Input::default()
    });
    // A build without the engines says just that.
    match loaded {
        Ok(loaded) => {
            assert_eq!(loaded.config.kafka.brokers.as_deref(), Some("kafka:9092"));
            assert_eq!(loaded.config.scylla.nodes, ["scylla:9042"]);
        }
        Err(errors) => {
            for error in &errors.0 {
                assert!(
                    error.text.contains("this build does not have it"),
                    "{errors}"
                );
            }
        }
    }
}
