//! The CA on a disk with faults: every place where its log and its other files are touched fails, tears or finds the disk
//! full, and the power goes off after every one of them. No certificate, revocation, invitation or request that was
//! acknowledged is lost, and the CA can be worked with again.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use cwn_crypto::{
    PublicKey,
    authority::{Request, SignedRequest},
    certificate::SignedCertificate,
    encoding,
    invitation::{Approve, Invitation},
};

use super::directory::{Ca, Error, Follower, Mesh, Outcome};
use crate::{
    clock,
    disk::{
        Site,
        faults::{Event, Fault, Faults, check_power_losses, directory},
    },
    files,
    keystore::{Keys, Unlock},
};

/// What somebody was told.
#[derive(Debug, Clone)]
enum Told {
    Founded,
    Invited(Invitation),
    Certified(Box<(SignedRequest, SignedCertificate)>),
    Waits(SignedRequest),
    Revoked(PublicKey),
}

/// One life of a CA, opened anew for each piece of work, as the coordinator does.
struct Life {
    dir: tempfile::TempDir,
    unlock: Unlock,
    faults: Arc<Faults>,
    /// After so many events each was told.
    told: Vec<(usize, Told)>,
}

/// A request of a new node, on an invitation for its partner.
fn request(invitation: &Invitation, keys: &Keys) -> SignedRequest {
    Request::sign(invitation, &keys.signing, keys.sealing.recipient(), clock::now())
}

impl Life {
    fn lived(planned: Option<(Site, usize, Fault)>) -> Self {
        let dir = directory();
        let credential = dir.path().join("credential");
        files::durable_write(&credential, &[7; 32]).unwrap();
        let unlock = Unlock::credential(&credential).unwrap();
        let mut life = Self { dir, unlock, faults: Faults::planning(planned), told: Vec::new() };
        let _disk = life.faults.on_this_thread();
        // What a fault came across may have come far enough.
        let founded = Ca::init(&life.ca(), &life.unlock, "test", clock::now()).map(drop);
        if founded.or_else(|_error| life.open().map(drop)).is_ok() {
            life.tell(Told::Founded);
            // Whatever became of one piece of work, the next is begun.
            let _ = life.certifies(&["z-cert"]);
            let _ = life.certifies(&["ferm", "ibd"]);
            let _ = life.revokes("ferm");
            let _ = life.approves();
            let _ = life.follows();
        }
        life
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn tell(&mut self, told: Told) {
        self.told.push((self.faults.count(), told));
    }

    fn open(&self) -> Result<Ca, Error> {
        let ca = Ca::open(&self.ca(), &self.unlock)?;
        let desk = Keys::generate().signing.public();
        ca.set_mesh(&Mesh { desk: Some(desk), desk_addresses: vec!["127.0.0.1:1".to_owned()], nodes: Vec::new() })?;
        Ok(ca)
    }

    fn invite(&mut self, ca: &Ca, partner: &str, approve: Approve) -> Result<Invitation, Error> {
        let invitation = ca.invite(partner.parse().unwrap(), partner, 3_600_000, approve, clock::now())?;
        self.tell(Told::Invited(invitation.clone()));
        Ok(invitation)
    }

    fn certifies(&mut self, partners: &[&str]) -> Result<(), Error> {
        let mut ca = self.open()?;
        for partner in partners {
            let invitation = self.invite(&ca, partner, Approve::Auto)?;
            let request = request(&invitation, &Keys::generate());
            if let Outcome::Certified(certificate) = ca.take_request(&request, clock::now())? {
                self.tell(Told::Certified(Box::new((request, *certificate))));
            }
        }
        Ok(())
    }

    fn revokes(&mut self, partner: &str) -> Result<(), Error> {
        let mut ca = self.open()?;
        for node in ca.revoke(partner, "stolen", clock::now())? {
            self.tell(Told::Revoked(node));
        }
        Ok(())
    }

    fn approves(&mut self) -> Result<(), Error> {
        let mut ca = self.open()?;
        let invitation = self.invite(&ca, "surf", Approve::Manual)?;
        let request = request(&invitation, &Keys::generate());
        if let Outcome::Waiting = ca.take_request(&request, clock::now())? {
            self.tell(Told::Waits(request.clone()));
        }
        let certificate = ca.approve("surf", clock::now())?;
        self.tell(Told::Certified(Box::new((request, certificate))));
        Ok(())
    }

    fn follows(&mut self) -> Result<(), Error> {
        let mut follower = Follower::new(&self.ca())?;
        follower.news()?;
        self.certifies(&["divd"])?;
        follower.news()?;
        Ok(())
    }

    /// Opens what is left on a good disk: all that was told holds, and so does what is told now.
    fn check(&self, left: &Path, events: &[Event], what: &str) {
        let told: Vec<&Told> =
            self.told.iter().filter(|(count, _)| *count <= events.len()).map(|(_, told)| told).collect();
        if told.is_empty() {
            return;
        }
        let open = || Ca::open(&left.join("ca"), &self.unlock).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut ca = open();
        for told in told {
            match told {
                Told::Founded => {}
                // It may have been used since.
                Told::Invited(invitation) => {
                    let asked = ca.take_request(&request(invitation, &Keys::generate()), clock::now());
                    let unknown = asked.as_ref().is_err_and(|error| error.to_string().contains("not known"));
                    assert!(!unknown, "{what}: {asked:?}");
                }
                Told::Certified(certified) => {
                    let node = certified.0.unverified(4_096).unwrap().node;
                    let stands = ca.word().certificate(&node).map(|own| encoding::to_bytes(&own.signed));
                    assert_eq!(stands, Some(encoding::to_bytes(&certified.1)), "{what}: a certificate is lost");
                }
                Told::Waits(request) => {
                    let node = request.unverified(4_096).unwrap().node;
                    let waits = ca.requests().unwrap().iter().any(|waiting| waiting.node == node);
                    assert!(waits || ca.word().certificate(&node).is_some(), "{what}: a request is lost");
                }
                Told::Revoked(node) => assert!(ca.word().revocation(node).is_some(), "{what}: a revocation is lost"),
            }
        }
        let issued = ca.word().nodes().count();
        drop(ca);
        assert_eq!(open().word().nodes().count(), issued, "{what}: what was issued now");
    }

    fn check_power_loss(&self, events: &[Event], what: &str) {
        check_power_losses(self.dir.path(), events, &|left| self.check(left, events, what));
    }
}

#[test]
fn i3_no_certificate_or_revocation_that_was_acknowledged_is_lost_by_a_fault_of_the_disk_or_a_power_cut() {
    let good = Life::lived(None);
    let events = good.faults.events();
    assert_eq!(good.told.len(), 13, "{:?}", good.told);
    for count in 0..=events.len() {
        good.check_power_loss(&events[..count], &format!("power loss after event {count} of {}", events.len()));
    }
    let hits = good.faults.hits();
    let sites = || Site::ISSUER_LOG.iter().chain(Site::FILES);
    // A torn end is cut back, and a directory taken back, only where another fault came before.
    let missed = |site: &&Site| !hits.contains_key(site) && !matches!(site, Site::LogCut | Site::DirTakeBack);
    assert_eq!(sites().find(missed), None, "no life touches a file there");
    for (site, (times, faults)) in &hits {
        let times = BTreeSet::from([0, times / 2, times - 1]);
        for (time, fault) in times.into_iter().flat_map(|time| faults.iter().map(move |fault| (time, *fault))) {
            let what = format!("{fault:?} at {site:?}, time {time}");
            let life = Life::lived(Some((*site, time, fault)));
            assert!(life.faults.has_struck(), "{what}: it did not come by");
            let events = life.faults.events();
            life.check_power_loss(&events, &format!("{what}, then the power went"));
            life.check(life.dir.path(), &events, &what);
        }
    }
}
