//! The configuration: `config.toml` in the data directory. `configs/` holds commented examples.
//!
//! A key that is not known is an error, not a wish that is passed over: what an operator wrote must be what
//! the daemon does.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use cwn_crypto::PublicKey;
use cwn_engine::{limits, neighbours::Breadth};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, at},
    network::{Address, MOST_CIRCUITS, RelayLimits},
    store::Sizes,
};

/// The file's name in the data directory.
pub const FILE: &str = "config.toml";
/// Neighbours in a circle: with fewer a circle may fall apart while some are away, with more nothing is gained.
const NEIGHBOURS: RangeInclusive<usize> = 4..=64;
/// A configuration in bytes; a thousand bootstrap nodes fit.
const FILE_BYTES: u64 = 1 << 20;

/// Everything an operator can set. Every field has a default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections with other nodes.
    pub network: Network,
    /// What a node passes on for others, if it relays.
    pub relay: Relay,
    /// Joining circles.
    pub circles: Circles,
    /// The local API.
    pub api: LocalApi,
    /// How the keys are opened.
    pub keys: Keys,
    /// Files that come with entries.
    pub attachments: Attachments,
    /// How what is stored is laid out.
    pub store: Store,
    /// What the daemon says of itself.
    pub log: Log,
    /// The enrolment desk; the coordinator's node alone has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Where to listen, as multiaddresses; port 0 takes a free one. Default: nowhere, this node only dials.
    #[serde(with = "as_text")]
    pub listen: Vec<Address>,
    /// Addresses at which others reach this node, when they are not those it listens on. Default: none.
    #[serde(with = "as_text")]
    pub external: Vec<Address>,
    /// Whether others can rely on reaching this node at its addresses. Default: false.
    pub anchor: bool,
    /// Whether this node passes connections on between nodes that nobody can dial; for an anchor. What they say to
    /// each other it cannot read. Default: false.
    pub relay: bool,
    /// Whether to announce no address at all. Default: false.
    pub outbound_only: bool,
    /// Up to how many certified nodes all are connected with all. Default: 32.
    pub all_to_all: usize,
    /// With about how many members of each circle this node keeps connected in a larger network; 4 to 64. Default: 8.
    pub neighbours: usize,
    /// Over how many seconds at most the first dials after a start are spread. Default: 30.
    pub reconnect_jitter_seconds: u64,
    /// Whether this node makes and takes no connection, whatever else stands here: what it shares travels in files.
    /// Default: false.
    pub offline: bool,
    /// Nodes to dial before any address was heard from the network. `cwn join` fills it.
    pub bootstrap: Vec<Bootstrap>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            anchor: false,
            relay: false,
            outbound_only: false,
            all_to_all: limits::ALL_TO_ALL,
            neighbours: limits::NEIGHBOURS,
            reconnect_jitter_seconds: 30,
            offline: false,
            bootstrap: Vec::new(),
        }
    }
}

/// `[relay]`: how much a node passes on for others, if `relay` in `[network]` says that it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Nodes that can be reached through it; from 1. Default: 256.
    pub nodes: usize,
    /// Connections that are passed on at once; 1 to 1024. Default: 1024.
    pub circuits: usize,
    /// Of those, dialled by one node; from 1. Default: 128.
    pub circuits_per_node: usize,
    /// A connection is ended after so many seconds, and made anew; 60 to 604800. Default: 21600.
    pub circuit_seconds: u64,
    /// And after so many bytes; from 2 MiB, so that anything nodes say at once fits. Default: 1 GiB.
    pub circuit_bytes: u64,
}

/// A connection takes seconds to be made, and a session says something only after that; after a week a node that is
/// not looked after gives its place back.
const CIRCUIT_SECONDS: std::ops::RangeInclusive<u64> = 60..=604_800;
/// Two of the largest frames: with less nothing large would ever pass.
const CIRCUIT_BYTES_LEAST: u64 = 2 << 20;

impl Default for Relay {
    fn default() -> Self {
        let RelayLimits { nodes, circuits, circuits_per_node, circuit_lasts, circuit_bytes } = RelayLimits::default();
        Self { nodes, circuits, circuits_per_node, circuit_seconds: circuit_lasts.as_secs(), circuit_bytes }
    }
}

impl Relay {
    /// As the network takes them.
    pub fn limits(&self) -> RelayLimits {
        let Self { nodes, circuits, circuits_per_node, circuit_seconds, circuit_bytes } = *self;
        let circuit_lasts = Duration::from_secs(circuit_seconds);
        RelayLimits { nodes, circuits, circuits_per_node, circuit_lasts, circuit_bytes }
    }

    fn check(&self) -> Result<(), String> {
        let Self { nodes, circuits, circuits_per_node, circuit_seconds, circuit_bytes } = *self;
        if !(1..=MOST_CIRCUITS).contains(&circuits) {
            return Err(format!("relay.circuits: {circuits} is not from 1 to {MOST_CIRCUITS}"));
        }
        if nodes == 0 || circuits_per_node == 0 {
            return Err("relay.nodes, relay.circuits_per_node: 0 relays nothing; set network.relay = false".to_owned());
        }
        if !CIRCUIT_SECONDS.contains(&circuit_seconds) {
            let (least, most) = (CIRCUIT_SECONDS.start(), CIRCUIT_SECONDS.end());
            return Err(format!("relay.circuit_seconds: {circuit_seconds} is not from {least} to {most}"));
        }
        if circuit_bytes < CIRCUIT_BYTES_LEAST {
            return Err(format!("relay.circuit_bytes: {circuit_bytes} is less than {CIRCUIT_BYTES_LEAST}"));
        }
        Ok(())
    }
}

/// `[[network.bootstrap]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// The node's key, 64 hexadecimal digits.
    pub node: String,
    /// Where it listens.
    #[serde(with = "as_text")]
    pub addresses: Vec<Address>,
}

/// `[circles]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Circles {
    /// What to do with circles that members offer. Default: `"ask"`.
    pub accept: Accept,
}

/// Which circles a node joins when they are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// The operator decides, with `cwn circle accept`.
    #[default]
    Ask,
    /// Every circle that a certified partner founded.
    Certified,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalApi {
    /// The Unix socket. Default: `cwn.sock` in the data directory.
    pub socket: Option<PathBuf>,
}

/// `[keys]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// A file of 32 random bytes that opens the keys. Default: the credential `cwn` that systemd hands over; when
    /// there is none either, a passphrase is asked for.
    pub credential: Option<PathBuf>,
}

/// `[attachments]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attachments {
    /// Whether attachments of entries that this node can open are fetched as they come. Default: `"all"`.
    pub fetch: Fetch,
    /// The largest attachment that is fetched by itself, in bytes. Default: 1 GiB.
    pub most_bytes: u64,
}

impl Default for Attachments {
    fn default() -> Self {
        Self { fetch: Fetch::All, most_bytes: 1 << 30 }
    }
}

/// Which attachments are fetched as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fetch {
    /// All that are not larger than `most_bytes`.
    All,
    /// None; each is fetched when somebody saves it.
    OnDemand,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A segment file that reached this is followed by the next; 64 KiB to 1 GiB. Default: 64 MiB.
    pub segment_bytes: u32,
    /// After this much was stored the index is written out, and as much is read again after a crash; from 64 KiB.
    /// Default: 64 MiB.
    pub checkpoint_bytes: u64,
}

/// Smaller, and most of the time would go into starting segments and writing the index.
const STORE_BYTES_LEAST: u32 = 64 << 10;
/// A place in a segment is a number of 32 bits, and what is appended last may reach beyond.
const SEGMENT_BYTES_MOST: u32 = 1 << 30;

impl Default for Store {
    fn default() -> Self {
        let Sizes { segment_bytes, checkpoint_bytes, .. } = Sizes::default();
        Self { segment_bytes, checkpoint_bytes }
    }
}

impl Store {
    /// As the store takes them.
    pub fn sizes(&self) -> Sizes {
        Sizes { segment_bytes: self.segment_bytes, checkpoint_bytes: self.checkpoint_bytes, ..Sizes::default() }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much: `error`, `warn`, `info`, `debug`, or a filter such as `warn,cwn_node=debug`. Default: `"info"`.
    #[serde(deserialize_with = "level")]
    pub level: String,
    /// `"text"` for people, `"json"` for programs. Default: `"text"`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// A word that is no level would be taken for the name of a part of the program, and nothing be logged.
fn level<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let known = |part: &str| part.contains('=') || part.parse::<tracing::level_filters::LevelFilter>().is_ok();
    match text.split(',').find(|part| !known(part.trim())) {
        None => Ok(text),
        Some(part) => Err(serde::de::Error::custom(format!(
            "{part:?} is no level: error, warn, info, debug, trace or off, or a part and its level such as cwn_node=debug"
        ))),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `[enrolment]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Where the desk listens, as `address:port`; port 0 takes a free one.
    pub listen: String,
    /// Where newcomers reach the desk, as `name:port`, when it is not where it listens. Default: where it listens.
    #[serde(default)]
    pub external: Vec<String>,
    /// The CA's directory, as `cwn-ca` uses it.
    pub ca: PathBuf,
    /// The file that opens the issuer's key. Default: as for this node's own keys.
    #[serde(default)]
    pub credential: Option<PathBuf>,
    /// Requests that are answered in a minute, from one address. Default: 20.
    #[serde(default = "requests_per_minute")]
    pub requests_per_minute: u32,
}

/// How often one address may ask at the desk in a minute, when nothing else is set.
pub fn requests_per_minute() -> u32 {
    20
}

/// Multiaddresses as text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::network::Address;

    pub(super) fn serialize<S: Serializer>(addresses: &[Address], to: S) -> Result<S::Ok, S::Error> {
        addresses.iter().map(Address::to_string).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Address>, D::Error> {
        let parse = |text: String| {
            let address = text.parse();
            address.map_err(|error| {
                D::Error::custom(format!("{text:?} is no multiaddress, such as /ip4/192.0.2.1/tcp/4001: {error}"))
            })
        };
        Vec::<String>::deserialize(from)?.into_iter().map(parse).collect()
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// It is no configuration.
    #[error("{}: {why}; configs/member.toml shows every key", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// A member has none.
    #[error(
        "{}: there is no such file, and with it what it said of where this node listens, whom it dials and whether it is \
         to stay offline; bring it back from a backup, or write it anew from configs/member.toml", .path.display()
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
}

impl Config {
    /// The configuration of a data directory; the defaults where it has none.
    pub fn load(data: &Path) -> Result<Self, Error> {
        let path = data.join(FILE);
        match fs::metadata(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(at(&path)(source).into()),
            Ok(metadata) if metadata.len() > FILE_BYTES => {
                return Err(Error::Malformed { path, why: format!("longer than {FILE_BYTES} bytes") });
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(at(&path))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let why = format!("byte {} is no text", error.utf8_error().valid_up_to());
            Error::Malformed { path: path.clone(), why }
        })?;
        Self::parse(&text).map_err(|why| Error::Malformed { path, why })
    }

    /// As [`Self::load`], of a member, whose configuration `cwn join` wrote: without it a node would listen nowhere, dial
    /// nobody it was told to, and connect though it was to stay offline.
    pub fn expect(data: &Path) -> Result<Self, Error> {
        match Self::load(data) {
            Ok(_) if !data.join(FILE).exists() => Err(Error::Missing { path: data.join(FILE) }),
            loaded => loaded,
        }
    }

    /// Reads a configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().replace('\n', "\n  "))?;
        for bootstrap in &config.network.bootstrap {
            if PublicKey::from_hex(&bootstrap.node).is_none() {
                return Err(format!(
                    "network.bootstrap: {:?} is not a node's key of 64 hexadecimal digits",
                    bootstrap.node
                ));
            }
        }
        if config.network.offline && config.enrolment.is_some() {
            return Err("network.offline: the desk of [enrolment] takes connections; have one or the other".to_owned());
        }
        config.relay.check()?;
        let neighbours = config.network.neighbours;
        if !NEIGHBOURS.contains(&neighbours) {
            return Err(format!("network.neighbours: {neighbours} is not from 4 to 64"));
        }
        let Store { segment_bytes, checkpoint_bytes } = config.store;
        if !(STORE_BYTES_LEAST..=SEGMENT_BYTES_MOST).contains(&segment_bytes) {
            return Err(format!("store.segment_bytes: {segment_bytes} is not from 65536 to 1073741824"));
        }
        if checkpoint_bytes < u64::from(STORE_BYTES_LEAST) {
            return Err(format!("store.checkpoint_bytes: {checkpoint_bytes} is less than 65536"));
        }
        Ok(config)
    }

    /// The text of a configuration.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Where the local API listens.
    pub fn socket(&self, data: &Path) -> PathBuf {
        self.api.socket.clone().unwrap_or_else(|| data.join("cwn.sock"))
    }

    /// Whether nobody can dial this node, so that it is reached through relays.
    pub fn is_reached_through_relays(&self) -> bool {
        let Network { listen, external, outbound_only, .. } = &self.network;
        listen.is_empty() && external.is_empty() && !outbound_only
    }

    /// The nodes to dial before any address was heard.
    pub fn bootstrap(&self) -> impl Iterator<Item = (PublicKey, Vec<Address>)> {
        let known = |bootstrap: &Bootstrap| Some((PublicKey::from_hex(&bootstrap.node)?, bootstrap.addresses.clone()));
        self.network.bootstrap.iter().filter_map(known)
    }
}

impl Network {
    /// How many connections this node wants.
    pub fn breadth(&self) -> Breadth {
        Breadth { all_to_all: self.all_to_all, neighbours: self.neighbours }
    }
}

impl Attachments {
    /// Whether attachments are fetched as they come.
    pub fn fetches_all(&self) -> bool {
        self.fetch == Fetch::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_for_it_would_end_the_log() {
        let read =
            |level: &str| toml::from_str::<Log>(&format!("level = {level:?}")).map_err(|error| error.to_string());
        for level in ["info", "WARN", "warn,cwn_node=debug", "off"] {
            assert!(read(level).is_ok(), "{level}");
        }
        let refused = read("loud").unwrap_err();
        assert!(refused.contains("\"loud\" is no level") && refused.contains("warn"), "{refused}");
    }

    fn example(name: &str) -> (String, Config) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
        let text = fs::read_to_string(path).unwrap();
        let config = Config::parse(&text).unwrap();
        (text, config)
    }

    #[test]
    fn every_example_is_a_configuration() {
        for name in ["member.toml", "anchor.toml", "coordinator.toml"] {
            example(name);
        }
    }

    #[test]
    fn the_examples_name_every_key() {
        let text: String = ["member.toml", "anchor.toml", "coordinator.toml"].map(|name| example(name).0).concat();
        let full = Config {
            network: Network {
                bootstrap: vec![Bootstrap { node: String::new(), addresses: Vec::new() }],
                ..Network::default()
            },
            api: LocalApi { socket: Some(PathBuf::new()) },
            keys: Keys { credential: Some(PathBuf::new()) },
            enrolment: Some(Enrolment {
                listen: String::new(),
                external: Vec::new(),
                ca: PathBuf::new(),
                credential: Some(PathBuf::new()),
                requests_per_minute: 1,
            }),
            ..Config::default()
        };
        for line in full.to_text().unwrap().lines().filter(|line| !line.is_empty()) {
            let key = line.split(" = ").next().unwrap();
            assert!(text.contains(key), "no example shows {key:?}");
        }
    }

    #[test]
    fn the_examples_that_show_a_default_show_the_real_one() {
        let member = example("member.toml").1;
        assert_eq!(member, Config { network: member.network.clone(), ..Config::default() });
        assert_eq!(member.network.reconnect_jitter_seconds, Network::default().reconnect_jitter_seconds);
    }

    #[test]
    fn a_configuration_with_a_flipped_bit_is_one_that_could_have_been_written_or_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let whole = example("anchor.toml").0.into_bytes();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            match Config::load(dir.path()) {
                // In a comment, or another number.
                Ok(config) => assert!(Config::parse(&config.to_text().unwrap()).is_ok(), "bit {bit}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains(FILE) && said.contains("configs/member.toml"), "bit {bit}: {said}");
                    refused += 1;
                }
            }
            assert_eq!(fs::read(&path).unwrap(), flipped, "bit {bit}");
        }
        assert!(refused > whole.len(), "{refused}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let why = Config::parse("[network]\nlisten = []\nlissen = []\n").unwrap_err();
        assert!(why.contains("line 3") && why.contains("lissen") && why.contains("listen"), "{why}");
    }

    #[test]
    fn a_node_that_connects_with_nobody_has_no_desk() {
        let desk = "[enrolment]\nlisten = \"127.0.0.1:0\"\nca = \"ca\"\n";
        assert!(Config::parse(desk).is_ok());
        let why = Config::parse(&format!("{desk}[network]\noffline = true\n")).unwrap_err();
        assert!(why.contains("network.offline") && why.contains("[enrolment]"), "{why}");
    }

    #[test]
    fn sizes_of_the_store_that_it_cannot_have_are_named_with_those_it_can() {
        for (text, limit) in [
            ("segment_bytes = 100", "65536 to 1073741824"),
            ("segment_bytes = 2000000000", "65536 to 1073741824"),
            ("checkpoint_bytes = 1", "less than 65536"),
        ] {
            let why = Config::parse(&format!("[store]\n{text}\n")).unwrap_err();
            assert!(why.contains(text.split(" = ").next().unwrap()) && why.contains(limit), "{why}");
        }
    }

    #[test]
    fn limits_of_a_relay_that_would_pass_nothing_on_are_named_with_those_that_do() {
        for (text, limit) in [
            ("circuits = 0", "1 to 1024"),
            ("circuits = 1025", "1 to 1024"),
            ("nodes = 0", "network.relay = false"),
            ("circuits_per_node = 0", "network.relay = false"),
            ("circuit_seconds = 59", "60 to 604800"),
            ("circuit_seconds = 604801", "60 to 604800"),
            ("circuit_bytes = 1000000", "less than 2097152"),
        ] {
            let why = Config::parse(&format!("[relay]\n{text}\n")).unwrap_err();
            assert!(why.contains(text.split(" = ").next().unwrap()) && why.contains(limit), "{why}");
        }
        let relay = Config::parse("[relay]\ncircuit_seconds = 60\n").unwrap().relay;
        assert_eq!(relay.limits().circuit_lasts, Duration::from_secs(60));
    }

    #[test]
    fn a_bootstrap_node_that_is_no_key_is_named() {
        let why = Config::parse("[[network.bootstrap]]\nnode = \"abc\"\naddresses = []\n").unwrap_err();
        assert!(why.contains("abc"), "{why}");
    }
}
