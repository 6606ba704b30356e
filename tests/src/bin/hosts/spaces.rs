//! Hosts on this machine: network namespaces, each with one device and no way out but over our wires.

use std::{net::Ipv4Addr, process::Command};

use anyhow::Context;
use cwn_tests::{skip::NotPermitted, world::Place};
use tokio_tun::Tun;

use crate::wires::MTU;

/// What every namespace of this program is called, before its process and its number.
const PREFIX: &str = "cwn-hosts";
/// Every host listens here: each has its addresses to itself.
const PORT: u16 = 4001;

/// Hosts. They are gone with this, however it ends.
#[derive(Debug)]
pub(crate) struct Hosts {
    namespaces: Vec<String>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            if let Err(error) = ip(&["netns", "delete", namespace]) {
                eprintln!("{error:#}; remove it with `ip netns delete {namespace}`");
            }
        }
    }
}

/// Our ends of the hosts' devices, each with its host's address.
pub(crate) type Devices = Vec<(Ipv4Addr, Tun)>;

impl Hosts {
    /// So many hosts. The error is [`NotPermitted`] where there can be none.
    pub(crate) fn open(count: usize) -> anyhow::Result<(Self, Devices)> {
        let not_permitted = |error: anyhow::Error| NotPermitted(format!("{error:#}"));
        sweep().map_err(not_permitted)?;
        let mut hosts = Self { namespaces: Vec::new() };
        let mut devices = Vec::new();
        for number in 0..count {
            let namespace = format!("{PREFIX}-{}-{number}", std::process::id());
            ip(&["netns", "add", &namespace]).map_err(not_permitted)?;
            hosts.namespaces.push(namespace.clone());
            // Fifteen characters are the most that a device's name may have.
            let device = format!("cwn{}.{number}", std::process::id());
            let tuns = Tun::builder().name(&device).mtu(MTU).close_on_exec().build();
            let tuns = tuns.context("no TUN device").map_err(not_permitted)?;
            let tun = tuns.into_iter().next().context("one device was asked for")?;
            let address = address(number)?;
            ip(&["link", "set", &device, "netns", &namespace])?;
            ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", &device])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "link", "set", &device, "up"])?;
            devices.push((address, tun));
        }
        Ok((hosts, devices))
    }

    /// Where a node on one of the hosts runs.
    pub(crate) fn place(&self, number: usize) -> anyhow::Result<Place> {
        let into = ["ip", "netns", "exec", &self.namespaces[number]];
        let before = into.into_iter().map(str::to_owned).collect();
        Ok(Place { address: std::net::SocketAddrV4::new(address(number)?, PORT), before, disk: None })
    }
}

fn address(number: usize) -> anyhow::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(10, 77, 0, u8::try_from(number + 1).context("a /24 has 254 hosts")?))
}

/// Takes away what a run left behind that was killed before it could.
fn sweep() -> anyhow::Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let Some(namespace) = line.split_whitespace().next() else { continue };
        let Some(process) = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)) else { continue };
        if std::path::Path::new("/proc").join(process).exists() {
            continue;
        }
        for left in ip(&["netns", "pids", namespace])?.lines().filter_map(|pid| pid.trim().parse().ok()) {
            if let Some(left) = rustix::process::Pid::from_raw(left) {
                // It may have ended meanwhile.
                let _ended = rustix::process::kill_process(left, rustix::process::Signal::KILL);
            }
        }
        ip(&["netns", "delete", namespace])?;
    }
    Ok(())
}

/// Runs `ip`, and says what it printed.
fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let line = || format!("ip {}", arguments.join(" "));
    let ran = Command::new("ip").args(arguments).output().with_context(line)?;
    let said = String::from_utf8_lossy(&ran.stderr);
    anyhow::ensure!(ran.status.success(), "{}: {}", line(), said.trim());
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
