//! What can be checked of docker/ without an engine: the compose file against the types of its specification, and that the
//! command lines and the configuration in it are ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use docker_compose_types::{Command, Compose, DependsOnOptions};
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
        "mysql",
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
        for needed in needs.keys() {
            assert!(services.contains(needed.as_str()), "{name} needs {needed}");
        }
    }
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
