//! The house itself: which crate may know which, and which file may name which library.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The normal dependencies of a crate, whatever is behind them included, as `cargo tree` has them.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

#[test]
fn the_arrows_between_the_crates_go_one_way() {
    let ours = ["cwn-crypto", "cwn-engine", "cwn-functions", "cwn-node", "cwn-tests"];
    for (place, package) in ours.iter().enumerate() {
        let tree = tree(package);
        for (other, name) in ours.iter().enumerate() {
            assert_eq!(tree.contains(*name), other <= place, "{package} and {name}");
        }
    }
}

#[test]
fn the_simulations_know_the_engine_and_no_node() {
    let tree = tree("cwn-sim");
    assert!(tree.contains("cwn-engine") && !tree.contains("cwn-node") && !tree.contains("tokio"));
}

#[test]
fn the_engine_and_the_functions_know_no_io() {
    for package in ["cwn-crypto", "cwn-engine", "cwn-functions"] {
        let tree = tree(package);
        for library in ["tokio", "libp2p", "libp2p-core", "sled", "axum", "hyper", "mio", "rustix"] {
            assert!(!tree.contains(library), "{package} knows {library}");
        }
    }
}

/// What cargo knows of our crates.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What each of our crates names in its own manifest.
fn named() -> BTreeMap<String, BTreeSet<String>> {
    packages()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            (text(&package["name"]), dependencies.iter().map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn only_the_simulation_can_plant_bugs_and_nobody_builds_on_it() {
    let mut planters = Vec::new();
    for package in packages() {
        let features = package["features"].as_object().unwrap();
        let by_feature = features.values().any(|turned_on| turned_on.to_string().contains("planted-bugs"));
        assert!(!by_feature, "a feature of {} turns it on", package["name"]);
        for dependency in package["dependencies"].as_array().unwrap() {
            assert_ne!(dependency["name"], "cwn-sim", "{} names it", package["name"]);
            if dependency["features"].to_string().contains("planted-bugs") {
                planters.push(text(&package["name"]));
            }
        }
    }
    assert_eq!(planters, ["cwn-sim"]);
}

#[test]
fn the_store_the_network_and_sealing_have_one_owner_each() {
    let named = named();
    for (library, owner) in [("sled", "cwn-node"), ("libp2p", "cwn-node"), ("age", "cwn-crypto"), ("axum", "cwn-node")]
    {
        let owners: Vec<&str> =
            named.iter().filter(|(_, names)| names.contains(library)).map(|(name, _)| name.as_str()).collect();
        assert_eq!(owners, [owner], "{library}");
    }
}

/// All source files of the project, by their path from its root.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, root, found);
            } else if name.ends_with(".rs") {
                let place = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(place, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&root(), &root(), &mut found);
    found
}

#[test]
fn every_file_says_what_it_is() {
    let sources = sources();
    assert!(sources.len() > 50, "{} files", sources.len());
    for (path, text) in sources {
        assert!(text.starts_with("//! "), "{path}");
    }
}

#[test]
fn libraries_that_are_kept_behind_one_door_are_named_there_alone() {
    let doors = [
        ("sled::", ["node/src/store/index.rs"].as_slice()),
        // One that is compared with is libp2p itself.
        ("libp2p::", &["node/src/network/", "node/src/enrolment/", "tests/rivals/src/gossipsub.rs"]),
        ("age::", &["crypto/src/seal/"]),
        ("axum::", &["node/src/api/"]),
    ];
    for (path, text) in sources() {
        for (library, rooms) in doors {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let names = |line: &str| {
                line.match_indices(library).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                })
            };
            let inside = rooms.iter().any(|room| path.starts_with(room)) || path == "tests/tests/all/arrows.rs";
            let named: Vec<&str> = code.filter(|line| names(line)).collect();
            assert!(inside || named.is_empty(), "{path} names {library} {named:?}");
        }
    }
}

#[test]
fn nothing_is_left_open() {
    let left = ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "TODO"];
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "tests/tests/all/arrows.rs") {
        assert!(!left.iter().any(|word| text.contains(word)), "{path}");
    }
}
