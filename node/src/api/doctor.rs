//! What can be looked at when something does not work, each with what to do about it.

use std::{
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::Path,
    time::Instant,
};

use cwn_crypto::{Time, certificate::Standing};

use super::{
    count,
    door::Api,
    status::REVOKED_MEMBERS,
    types::{Check, CircleSummary, Problem, Status},
};
use crate::{
    clock,
    config::Config,
    files,
    keystore::{Keys, Unlock},
    membership::Membership,
    network, store,
};

/// Less free disk than this is a warning: a day of heavy use.
const FREE_WARNS: u64 = 1 << 30;
/// And less than this is broken: a rebuild of the index needs room.
const FREE_BROKEN: u64 = 64 << 20;
/// An fsync slower than this makes publishing feel slow.
const FSYNC_WARNS_MS: u128 = 100;
/// Two clocks further apart than this confuse people, though no rule depends on them.
const CLOCK_WARNS_MS: u64 = 60_000;

fn check(what: &str, state: &str, found: impl Into<String>) -> Check {
    Check { what: what.to_owned(), state: state.to_owned(), found: found.into() }
}

impl Api {
    /// Looks at everything this node depends on.
    pub async fn doctor(&self) -> Result<Vec<Check>, Problem> {
        let data = self.node.data.clone();
        let mut checks =
            tokio::task::spawn_blocking(move || vec![modes(&data), free(&data), fsync(&data), encryption(&data)])
                .await
                .map_err(Problem::broken)?;
        checks.push(match self.node.driver.failure() {
            None => check("store", "ok", "takes writes"),
            Some(why) => check("store", "broken", format!("read-only: {why}")),
        });
        checks.push(match self.node.damage.get() {
            None => check("stored data", "ok", "nothing damaged was met since the start"),
            Some((places, first)) => check(
                "stored data",
                "warning",
                format!(
                    "damage was met since the start ({places} in all), first: {first}; what partners have is fetched from \
                     them again; look at the disk"
                ),
            ),
        });
        let now = clock::now();
        let status = self.status().await?;
        let certificate = self.node.certificate.get();
        let days = certificate.not_after.since(now) / Time::DAY_MS;
        checks.push(match certificate.standing(now) {
            Standing::Valid => check("certificate", "ok", format!("valid for {} more", count(days, "day", "days"))),
            Standing::Grace { expired_at } => check(
                "certificate",
                "warning",
                format!("expired on {expired_at}; accepted for 30 days after that; ask the coordinator to renew it"),
            ),
            Standing::Expired { expired_at } => check(
                "certificate",
                "broken",
                format!("expired on {expired_at} and accepted no longer; ask the coordinator to renew it"),
            ),
            Standing::NotYet => check("certificate", "broken", "not valid yet: set this machine's clock right"),
        });
        checks.push(match status.issuer_word {
            None => check("issuer's word", "warning", "nothing was heard from the issuer; connect to a partner"),
            Some(at) if now.0.saturating_sub(at) > Time::DAY_MS => check(
                "issuer's word",
                "warning",
                format!("{} hours old: later revocations are not known here", now.0.saturating_sub(at) / 3_600_000),
            ),
            Some(at) => check(
                "issuer's word",
                "ok",
                format!("{} old", count(now.0.saturating_sub(at) / 60_000, "minute", "minutes")),
            ),
        });
        let alarms: Vec<&str> =
            status.warnings.iter().map(String::as_str).filter(|warning| warning.starts_with("ALARM")).collect();
        checks.push(match alarms.first() {
            None => check("trust", "ok", format!("root document version {}, no alarm", status.root_version)),
            Some(first) => check(
                "trust",
                "broken",
                format!("{}; the first: {first}", count(alarms.len() as u64, "alarm", "alarms")),
            ),
        });
        // An entry that was seen long before its own time shows that one of two clocks is wrong.
        let ahead = self.entries(None, 100, None).await?;
        let doubtful = ahead.iter().filter(|entry| entry.time > entry.first_seen + CLOCK_WARNS_MS).count();
        checks.push(match doubtful {
            0 => check("clock", "ok", "no recent entry came from the future"),
            some => check(
                "clock",
                "warning",
                format!(
                    "of a time ahead of this clock: {}; compare it with a time server",
                    count(some as u64, "recent entry", "recent entries")
                ),
            ),
        });
        let peers = self.peers().await?;
        let connected = peers.iter().filter(|peer| peer.since.is_some()).count();
        checks.push(match (connected, peers.len()) {
            _ if status.offline => check("peers", "ok", "offline, as its configuration says: nobody is dialled"),
            (0, 0) => check("peers", "warning", "no other partner is certified yet"),
            (0, all) => {
                let why =
                    peers.iter().find_map(|peer| Some(format!("{}: {}", peer.partner, peer.last_failure.clone()?)));
                let why = why.unwrap_or_else(|| "no address is known; ask an anchor's operator".to_owned());
                check(
                    "peers",
                    "broken",
                    format!(
                        "nobody is connected, of {}; the first failure: {why}; see whether this machine has a line out and \
                         `cwn peers` for the others: it goes on dialling by itself",
                        count(all as u64, "node", "nodes")
                    ),
                )
            }
            (some, all) => check("peers", "ok", format!("connected: {some} of {}", count(all as u64, "node", "nodes"))),
        });
        checks.push(circles(&status));
        let revoked = status.warnings.iter().filter(|warning| warning.starts_with(REVOKED_MEMBERS));
        checks.extend(revoked.map(|warning| check("members", "warning", warning)));
        Ok(checks)
    }
}

/// What a node waits for in its circles, and where it may wait for ever.
fn circles(status: &Status) -> Check {
    let waiting = status.circles.iter().filter(|circle| circle.member && (!circle.current || circle.may_be_removed()));
    let said = |circle: &CircleSummary| {
        let mut said = circle.name.clone();
        if !circle.current {
            said += &format!(" waits for {}", circle.unheard.join(", "));
        }
        if circle.may_be_removed() {
            said += &format!(
                ", connected and silent about it: {}: you may have been removed, ask a steward",
                circle.silent.join(", ")
            );
        }
        said
    };
    let waiting: Vec<String> = waiting.map(said).collect();
    match (waiting.is_empty(), status.offline) {
        (true, _) => check("circles", "ok", "current in all"),
        (false, false) => check(
            "circles",
            "warning",
            format!(
                "{}; word comes by itself once one that is waited for is connected and shares the circle: see `cwn peers`",
                waiting.join("; ")
            ),
        ),
        (false, true) => check(
            "circles",
            "warning",
            format!(
                "{}; no word comes to a node that is kept offline: what is above GREEN is sealed with `cwn drafts publish \
                 --anyway`",
                waiting.join("; ")
            ),
        ),
    }
}

/// What can be looked at of a data directory on which no daemon answers, and why it did not.
pub fn without_daemon(data: &Path, unanswered: &str) -> Vec<Check> {
    if let Err(error) = fs::read_dir(data) {
        return vec![check("data directory", "broken", files::at(data)(error).to_string())];
    }
    let runs = store::in_use(data);
    let daemon = match runs {
        true => format!("one runs here, and does not answer: {unanswered}; look at its log, or start it again"),
        false => format!("none runs here: {unanswered}"),
    };
    let mut checks = vec![check("daemon", "broken", daemon), modes(data), free(data), fsync(data)];
    match Config::expect(data) {
        Err(error) => checks.push(check("configuration", "broken", error.to_string())),
        Ok(config) => {
            checks.push(check("configuration", "ok", "it can be read"));
            checks.push(keys(data, &config));
            // What a daemon listens on is taken by that daemon.
            if !runs {
                checks.push(listens(&config));
                checks.push(socket(&config.socket(data)));
            }
        }
    }
    checks
}

/// Whether the keys open, where that takes nobody to type, and the certificate is theirs.
fn keys(data: &Path, config: &Config) -> Check {
    let opened = |credential: &Path| -> anyhow::Result<()> {
        let keys = Keys::open(data, &Unlock::credential(credential)?)?;
        Ok(Membership::load(data, &keys).map(drop)?)
    };
    let looked = match (Membership::expect(data), &config.keys.credential) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), None) => {
            Ok("there; whether they open is seen when the daemon starts, for no credential file is named")
        }
        (Ok(()), Some(credential)) => opened(credential)
            .map(|()| "the credential opens the keys, and the certificate is theirs")
            .map_err(|why| why.to_string()),
    };
    match looked {
        Ok(found) => check("keys", "ok", found),
        Err(why) => check("keys", "broken", why),
    }
}

fn listens(config: &Config) -> Check {
    if config.network.offline {
        return check("listening", "ok", "offline, as its configuration says: nowhere");
    }
    let taken = config.network.listen.iter().find_map(|address| network::may_listen(address).err());
    let desk = config.enrolment.as_ref().map(|desk| (&desk.listen, TcpListener::bind(&desk.listen)));
    match (taken, desk) {
        (Some(error), _) => check("listening", "broken", error.to_string()),
        (None, Some((listen, Err(error)))) => check(
            "listening",
            "broken",
            format!("the enrolment desk, on {listen}: {error}; [enrolment] listen can name another"),
        ),
        (None, _) => check("listening", "ok", "every address is free"),
    }
}

fn socket(path: &Path) -> Check {
    let dir = files::dir_of(path);
    match dir.is_dir() {
        true => check("local API", "ok", path.display().to_string()),
        false => check(
            "local API",
            "broken",
            format!("there is no directory {}; make it, or name another under [api] socket", dir.display()),
        ),
    }
}

fn modes(data: &Path) -> Check {
    let paths = [data.to_owned(), data.join(crate::keystore::FILE)];
    for path in &paths {
        match files::check_private(path) {
            Ok(Ok(())) => {}
            Ok(Err(too_wide)) => return check("file modes", "broken", too_wide.to_string()),
            Err(error) => return check("file modes", "broken", files::at(path)(error).to_string()),
        }
    }
    check("file modes", "ok", "the data directory and the keys are this user's alone")
}

fn free(data: &Path) -> Check {
    match rustix::fs::statvfs(data) {
        Err(error) => check("free disk", "broken", files::at(data)(error.into()).to_string()),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let state = match free {
                free if free < FREE_BROKEN => "broken",
                free if free < FREE_WARNS => "warning",
                _ => "ok",
            };
            let remedy = if state == "ok" { "" } else { "; make room" };
            check("free disk", state, format!("{} MiB{remedy}", free >> 20))
        }
    }
}

fn fsync(data: &Path) -> Check {
    let path = data.join(".doctor");
    let timed = (|| {
        let mut file = File::create(&path)?;
        let start = Instant::now();
        file.write_all(&[0; 1024])?;
        file.sync_data()?;
        let took = start.elapsed().as_millis();
        fs::remove_file(&path)?;
        Ok::<_, std::io::Error>(took)
    })();
    match timed {
        Ok(took) if took > FSYNC_WARNS_MS => {
            check("fsync", "warning", format!("{took} ms: every publication waits for it; use a faster disk"))
        }
        Ok(took) => check("fsync", "ok", format!("{took} ms")),
        Err(error) => check("fsync", "broken", files::at(&path)(error).to_string()),
    }
}

/// Whether the file system stands on an encrypted device, as far as Linux says: the device mapper's uuid
/// begins with CRYPT.
fn encryption(data: &Path) -> Check {
    let unknown = "whether the disk is encrypted is not visible here; entries in clear rely on it, see SECURITY.md";
    let Ok(metadata) = fs::metadata(data) else { return check("disk encryption", "warning", unknown) };
    let device = metadata.dev();
    let uuid = format!("/sys/dev/block/{}:{}/dm/uuid", rustix::fs::major(device), rustix::fs::minor(device));
    match fs::read_to_string(uuid) {
        Ok(uuid) if uuid.starts_with("CRYPT-") => check("disk encryption", "ok", "the disk is encrypted (dm-crypt)"),
        _ => check("disk encryption", "warning", unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_data_directory_that_cannot_be_looked_into_nothing_else_is_said() {
        let no_directory = tempfile::NamedTempFile::new().unwrap();
        let checks = without_daemon(no_directory.path(), "no daemon answers");
        let [only] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((only.what.as_str(), only.state.as_str()), ("data directory", "broken"));
        assert!(
            only.found.contains(&no_directory.path().display().to_string()) && only.found.contains(';'),
            "{only:?}"
        );
        // Nor is it said of a directory that cannot be looked into that it is no member's.
        let why = Membership::expect(no_directory.path()).unwrap_err().to_string();
        assert!(!why.contains("missing") && why.contains("certificate.cwn"), "{why}");
    }
}
