//! Committed vectors: what this version makes, byte for byte, and what it says of each.
//!
//! They are made from fixed keys, so a change of format shows as a difference here. After a wanted change, write
//! them anew with `CWN_WRITE_VECTORS=1 cargo test -p cwn-crypto vectors`, and say so in the commit.
#![allow(clippy::disallowed_methods, reason = "vectors are files; nothing but these tests reads them")]

use std::path::PathBuf;

use crate::{
    PublicKey, Signed, SigningKey, Time,
    armour::{self, Label},
    authority::{Decision, InvitationRecord, Issuer, Reason, Request, RequestRefusal, decide, due_at},
    certificate::{self, CERTIFICATE_LIMIT, Certificate, LIFE_MS, Refusal, SUITE, SignedCertificate, Standing},
    encoding::{self, Domain, Hash, Refusal as EncodingRefusal},
    identity::{BadSignature, SignedRefusal},
    invitation::{self, Approve, Invitation, Secret},
    issuer_log::{CutLine, Heard, LogId, Statement, Word},
    root::{IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::{Age, EpochKey, Recipient, Refusal as SealRefusal, Seal, SealingKey, StandIn},
    words,
};

const NOW: Time = Time(1_800_000_000_000);

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

fn sealing(number: u8) -> SealingKey {
    SealingKey::from_bytes([number; 32])
}

fn root(name: &str, issuer: u8) -> (SignedRoot, TrustRoot) {
    let document = RootDocument {
        version: 1,
        name: name.to_owned(),
        keys: vec![key(1).public()],
        threshold: 1,
        issuers: vec![IssuerTerm {
            issuer: key(issuer).public(),
            not_before: Time(NOW.0 - 10 * Time::DAY_MS),
            not_after: NOW.plus(80 * Time::DAY_MS),
        }],
        freshness_ms: Time::DAY_MS,
        previous: None,
        dropped: Vec::new(),
    };
    let signed = SignedRoot::sign(&document, &[&key(1)]);
    let root = TrustRoot::from_first(&signed).unwrap();
    (signed, root)
}

fn contents() -> Certificate {
    Certificate {
        suite: SUITE,
        network: root("vectors", 2).1.network(),
        serial: 7,
        node: key(3).public(),
        recipient: sealing(4).recipient(),
        partner: "z-cert".parse().unwrap(),
        name: "Z-CERT".to_owned(),
        not_before: NOW,
        not_after: NOW.plus(LIFE_MS),
        issuer: key(2).public(),
    }
}

fn signed(certificate: &Certificate, by: u8) -> SignedCertificate {
    Signed::sign(certificate, Domain::CERTIFICATE, &key(by))
}

fn certificate_file(signed: &SignedCertificate) -> String {
    armour::armour(Label::Certificate, &encoding::to_bytes(signed))
}

/// A certificate whose bytes were changed by hand after it was signed.
fn with_bytes(change: impl FnOnce(&mut Vec<u8>)) -> SignedCertificate {
    let whole = encoding::to_bytes(&signed(&contents(), 2));
    let mut changed = whole;
    change(&mut changed);
    encoding::from_bytes(&changed, 4096).unwrap()
}

/// The vectors: their file names and contents.
fn vectors() -> Vec<(&'static str, String)> {
    let expired = Certificate { not_after: NOW.plus(Time::DAY_MS), ..contents() };
    let other_network = Certificate { network: root("another", 2).1.network(), ..contents() };
    // The point of order two: a key of small order, under which anything can seem signed.
    let small_order = Certificate { node: small_order_key(), ..contents() };
    // The same point is of small order as an X25519 key too; asked to seal to it, age would panic.
    let small_order_recipient = Certificate { recipient: Recipient(small_order_key().0), ..contents() };
    let in_grace = Certificate { not_before: Time(NOW.0 - 9 * Time::DAY_MS), not_after: Time(NOW.0 - 1), ..contents() };
    let tampered = with_bytes(|bytes| {
        let name = bytes.windows(6).position(|window| window == b"Z-CERT").unwrap();
        bytes[name] = b'X';
    });
    let invitation = invitation();
    vec![
        ("root.txt", armour::armour(Label::RootDocument, &encoding::to_bytes(&root("vectors", 2).0))),
        ("valid.txt", certificate_file(&signed(&contents(), 2))),
        ("expired.txt", certificate_file(&signed(&expired, 2))),
        ("tampered.txt", certificate_file(&tampered)),
        ("wrong-issuer.txt", certificate_file(&signed(&Certificate { issuer: key(9).public(), ..contents() }, 9))),
        ("forged-issuer.txt", certificate_file(&signed(&contents(), 9))),
        ("wrong-network.txt", certificate_file(&signed(&other_network, 2))),
        ("small-order.txt", certificate_file(&signed(&small_order, 2))),
        ("in-grace.txt", certificate_file(&signed(&in_grace, 2))),
        ("non-canonical.txt", certificate_file(&non_canonical())),
        ("small-order-recipient.txt", certificate_file(&signed(&small_order_recipient, 2))),
        ("invitation.txt", format!("{}\n", invitation.to_text().unwrap().as_str())),
    ]
}

/// A certificate that its issuer did sign, over another spelling of the same contents: the length of the array
/// in two bytes where one will do.
fn non_canonical() -> SignedCertificate {
    let bytes = [&[0x98, 10], &encoding::to_bytes(&contents())[1..]].concat();
    let signature = key(2).sign(Domain::CERTIFICATE, &bytes);
    let mut whole = minicbor::Encoder::new(Vec::new());
    whole.array(2).unwrap().bytes(&bytes).unwrap().encode(signature).unwrap();
    encoding::from_bytes(whole.writer(), 4096).unwrap()
}

fn small_order_key() -> PublicKey {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xec, 0x7f);
    PublicKey(bytes)
}

fn invitation() -> Invitation {
    Invitation {
        secret: Secret::from_bytes([5; 16]),
        network: root("vectors", 2).1.network(),
        root_key: key(1).public(),
        desk: key(6).public(),
        addresses: vec!["mesh.example.org:4002".to_owned()],
        partner: "z-cert".parse().unwrap(),
        name: "Z-CERT".to_owned(),
        expires: NOW.plus(Time::DAY_MS),
        approve: Approve::Auto,
    }
}

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn read(name: &str) -> SignedCertificate {
    let text = std::fs::read_to_string(testdata(name)).unwrap();
    let bytes = armour::dearmour(Label::Certificate, &text, 2 * CERTIFICATE_LIMIT).unwrap();
    encoding::from_bytes(&bytes, 2 * CERTIFICATE_LIMIT).unwrap()
}

fn judge(name: &str) -> Result<Certificate, Refusal> {
    certificate::verify(&read(name), &root("vectors", 2).1)
}

#[test]
fn the_committed_vectors_are_what_this_version_makes() {
    for (name, text) in vectors() {
        if std::env::var_os("CWN_WRITE_VECTORS").is_some() {
            std::fs::write(testdata(name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(testdata(name)).unwrap();
        assert_eq!(committed, text, "testdata/{name}");
    }
}

#[test]
fn a_valid_certificate_says_who_it_is_for_and_how_long() {
    let certificate = judge("valid.txt").unwrap();
    assert_eq!(certificate, contents());
    assert_eq!(certificate.standing(NOW), Standing::Valid);
    let day = |days| NOW.plus(days * Time::DAY_MS);
    assert!(matches!(certificate.standing(day(31)), Standing::Grace { .. }));
    assert!(matches!(certificate.standing(day(61)), Standing::Expired { .. }));
    assert_eq!(certificate.standing(Time(NOW.0 - 3_600_000)), Standing::NotYet);
}

#[test]
fn a_certificate_expired_beyond_its_grace_is_refused_with_the_remedy() {
    let certificate = judge("expired.txt").unwrap();
    let refused = certificate.in_use(NOW.plus(40 * Time::DAY_MS)).unwrap_err().to_string();
    assert!(refused.contains("z-cert") && refused.contains("coordinator"), "{refused}");
    assert!(certificate.in_use(NOW.plus(20 * Time::DAY_MS)).is_ok(), "within its grace it works");
}

#[test]
fn a_tampered_certificate_or_a_forged_signature_is_refused() {
    for name in ["tampered.txt", "forged-issuer.txt"] {
        assert_eq!(judge(name), Err(Refusal::Signed(SignedRefusal::Signature(BadSignature))), "{name}");
    }
}

#[test]
fn a_certificate_of_another_issuer_or_network_is_refused() {
    assert!(matches!(judge("wrong-issuer.txt"), Err(Refusal::UnknownIssuer { .. })));
    assert!(matches!(judge("wrong-network.txt"), Err(Refusal::OtherNetwork { .. })));
}

#[test]
fn a_key_of_small_order_is_refused() {
    assert!(matches!(judge("small-order.txt"), Err(Refusal::UnsoundNode { .. })));
    assert!(!small_order_key().is_sound());
    // Under such a key the all-zero signature would hold for some messages, if the check were not strict.
    let forged = crate::Signature([0; 64]);
    for message in 0..64_u8 {
        assert_eq!(small_order_key().verify(Domain::ENTRY, &[message], &forged), Err(BadSignature));
    }
}

#[test]
fn another_spelling_of_the_same_certificate_is_refused() {
    // The array's length in two bytes instead of one: the same value to a lenient reader.
    let bytes = encoding::to_bytes(&contents());
    assert_eq!(bytes[0], 0x8a, "an array of ten");
    let longer = [&[0x98, 10], &bytes[1..]].concat();
    let refused: Result<Certificate, _> = encoding::from_bytes(&longer, CERTIFICATE_LIMIT);
    assert_eq!(refused, Err(EncodingRefusal::NotCanonical));
    let long = vec![0; CERTIFICATE_LIMIT + 1];
    let refused: Result<Certificate, _> = encoding::from_bytes(&long, CERTIFICATE_LIMIT);
    assert!(matches!(refused, Err(EncodingRefusal::TooLong { .. })));
    for garbage in [vec![], vec![0xff], vec![0x81; 10_000]] {
        let refused: Result<Certificate, _> = encoding::from_bytes(&garbage, 1 << 20);
        assert!(matches!(refused, Err(EncodingRefusal::Malformed(_))));
    }
}

#[test]
fn a_certificate_in_its_grace_works_and_says_since_when_it_should_not() {
    let certificate = judge("in-grace.txt").unwrap();
    assert_eq!(certificate.in_use(NOW), Ok(Standing::Grace { expired_at: Time(NOW.0 - 1) }));
}

#[test]
fn a_certificate_signed_in_another_spelling_is_refused_though_its_signature_holds() {
    let refusal = Refusal::Signed(SignedRefusal::Encoding(EncodingRefusal::NotCanonical));
    assert_eq!(judge("non-canonical.txt"), Err(refusal));
}

#[test]
fn a_certificate_for_a_key_to_which_nothing_can_be_sealed_is_refused() {
    assert!(matches!(judge("small-order-recipient.txt"), Err(Refusal::UnsoundRecipient { .. })));
}

#[test]
fn a_certificate_outside_its_issuers_term_or_without_a_life_or_with_a_false_name_is_refused() {
    let (_, trust) = root("vectors", 2);
    let judge = |certificate: Certificate| certificate::verify(&signed(&certificate, 2), &trust).unwrap_err();
    let early = Certificate { not_before: Time(NOW.0 - 11 * Time::DAY_MS), ..contents() };
    assert!(matches!(judge(early), Refusal::OutsideTerm { .. }));
    let lifeless = Certificate { not_after: NOW, ..contents() };
    assert!(matches!(judge(lifeless), Refusal::EmptyLife { .. }));
    let turned = Certificate { name: "Z\u{202e}TREC".to_owned(), ..contents() };
    assert!(matches!(judge(turned), Refusal::Name { .. }));
    let later_suite = Certificate { suite: 2, ..contents() };
    assert!(matches!(judge(later_suite), Refusal::UnknownSuite { suite: 2, .. }));
}

#[test]
fn a_clock_that_is_five_minutes_behind_does_not_refuse_a_fresh_certificate() {
    let behind = |ms: u64| contents().standing(Time(NOW.0 - ms));
    assert_eq!(behind(certificate::SKEW_MS), Standing::Valid);
    assert_eq!(behind(certificate::SKEW_MS + 1), Standing::NotYet);
}

#[test]
fn a_signature_for_one_purpose_proves_nothing_for_another() {
    let signature = key(1).sign(Domain::ENTRY, b"bytes");
    assert_eq!(key(1).public().verify(Domain::ENTRY, b"bytes", &signature), Ok(()));
    assert_eq!(key(1).public().verify(Domain::CERTIFICATE, b"bytes", &signature), Err(BadSignature));
    assert_ne!(Hash::of(Domain::ENTRY, &[b"x"]), Hash::of(Domain::PAYLOAD, &[b"x"]));
}

#[test]
fn a_root_document_with_a_signature_too_few_founds_no_network() {
    let mut document = root("vectors", 2).1.document().clone();
    document.keys.push(key(8).public());
    document.threshold = 2;
    assert!(SignedRoot::sign(&document, &[&key(1)]).verify_first().is_err());
    assert!(SignedRoot::sign(&document, &[&key(1), &key(1)]).verify_first().is_err());
    assert!(SignedRoot::sign(&document, &[&key(1), &key(9)]).verify_first().is_err());
    assert!(SignedRoot::sign(&document, &[&key(1), &key(8)]).verify_first().is_ok());
}

#[test]
fn an_invitation_is_one_line_that_survives_mail_and_not_a_typing_error() {
    let text = invitation().to_text().unwrap();
    assert_eq!(Invitation::from_text(&text).unwrap(), invitation());
    let middle = text.len() / 2;
    let wrapped = format!("  {}\r\n{}\n", &text[..middle], &text[middle..]);
    assert_eq!(Invitation::from_text(&wrapped).unwrap(), invitation());
    for at in [12, middle, text.len() - 1] {
        let typed = text.as_bytes()[at];
        let wrong = if typed == b'q' { "p" } else { "q" };
        let mistyped = [&text[..at], wrong, &text[at + 1..]].concat();
        assert_eq!(Invitation::from_text(&mistyped), Err(invitation::Refusal::Mistyped), "at {at}");
    }
    assert_eq!(Invitation::from_text("hello"), Err(invitation::Refusal::NotAnInvitation));
    assert!(invitation().expired(NOW.plus(2 * Time::DAY_MS)) && !invitation().expired(NOW));
}

/// A request with the invitation above, by this node, and what is decided about it.
fn asked(node: u8, now: Time, change: impl FnOnce(&mut InvitationRecord)) -> Decision {
    let mut record = InvitationRecord::of(&invitation());
    change(&mut record);
    let signed = Request::sign(&invitation(), &key(node), sealing(node).recipient(), NOW);
    let request = Request::verify(&signed, root("vectors", 2).1.network()).unwrap();
    decide(&record, &request, now)
}

#[test]
fn an_invitation_serves_one_node_key_and_serves_it_again() {
    assert_eq!(asked(3, NOW, |_| {}), Decision::Issue);
    assert_eq!(asked(3, NOW, |record| record.used_by = Some(key(3).public())), Decision::Again);
    let another = asked(9, NOW, |record| record.used_by = Some(key(3).public()));
    assert_eq!(another, Decision::Refuse(Reason::UsedWithAnotherKey { node: key(3).public() }));
}

#[test]
fn an_expired_a_refused_and_a_foreign_invitation_get_nothing() {
    let late = asked(3, NOW.plus(2 * Time::DAY_MS), |_| {});
    assert!(matches!(late, Decision::Refuse(Reason::Expired { .. })));
    assert_eq!(asked(3, NOW, |record| record.refused = true), Decision::Refuse(Reason::Refused));
    let foreign = asked(3, NOW, |record| record.secret_hash = Hash([0; 32]));
    assert_eq!(foreign, Decision::Refuse(Reason::Unknown));
    let other = asked(3, NOW, |record| record.partner = "ferm".parse().unwrap());
    assert!(matches!(other, Decision::Refuse(Reason::WrongPartner { .. })));
    assert_eq!(asked(3, NOW, |record| record.approve = Approve::Manual), Decision::Ask);
}

#[test]
fn a_request_without_the_secret_gets_nothing_and_raises_no_alarm() {
    // Somebody saw the request of another in the mail, and puts keys of its own in its place.
    let network = root("vectors", 2).1.network();
    let seen = Request::sign(&invitation(), &key(3), sealing(3).recipient(), NOW);
    let seen = Request::verify(&seen, network).unwrap();
    let stolen = Request { node: key(9).public(), ..seen.clone() };
    let stolen = Request::verify(&Signed::sign(&stolen, Domain::REQUEST, &key(9)), network).unwrap();
    let resealed = Request { recipient: sealing(9).recipient(), ..seen };
    let mut record = InvitationRecord::of(&invitation());
    assert_eq!(decide(&record, &stolen, NOW), Decision::Refuse(Reason::BadProof));
    assert_eq!(decide(&record, &resealed, NOW), Decision::Refuse(Reason::BadProof));
    record.used_by = Some(key(3).public());
    assert_eq!(decide(&record, &stolen, NOW), Decision::Refuse(Reason::BadProof));
}

#[test]
fn what_the_coordinator_keeps_of_an_invitation_cannot_be_used_in_place_of_its_secret() {
    let record = InvitationRecord::of(&invitation());
    let thief = SigningKey::from_seed(&record.secret_hash.0);
    assert_ne!(invitation::secret_hash(&thief.public()), record.secret_hash);
    assert!(!encoding::to_bytes(&record).windows(16).any(|window| window == [5; 16]));
}

#[test]
fn a_request_that_its_node_did_not_sign_or_for_another_network_is_refused() {
    let network = root("vectors", 2).1.network();
    let signed = Request::sign(&invitation(), &key(3), sealing(3).recipient(), NOW);
    let request = Request::verify(&signed, network).unwrap();
    let forged = Signed::sign(&request, Domain::REQUEST, &key(9));
    assert!(matches!(Request::verify(&forged, network), Err(RequestRefusal::Signed(_))));
    let elsewhere = root("another", 2).1.network();
    assert!(matches!(Request::verify(&signed, elsewhere), Err(RequestRefusal::OtherNetwork { .. })));
    let unsound = Request { recipient: Recipient([0; 32]), ..request };
    let unsound = Signed::sign(&unsound, Domain::REQUEST, &key(3));
    assert!(matches!(Request::verify(&unsound, network), Err(RequestRefusal::Unsound { .. })));
}

#[test]
fn renewal_is_due_from_two_thirds_of_a_life_and_spread_over_a_twenty_fourth() {
    let (first, last) = (NOW.plus(20 * Time::DAY_MS), NOW.plus(20 * Time::DAY_MS + LIFE_MS / 24));
    assert_eq!(due_at(&contents(), 0), first);
    assert_eq!(due_at(&contents(), LIFE_MS / 24), last);
    assert_eq!(due_at(&contents(), LIFE_MS / 24 + 1), first);
    assert!((first..=last).contains(&due_at(&contents(), u64::MAX)));
}

#[test]
fn an_issuer_issues_and_renews_within_its_term_alone() {
    let (_, trust) = root("vectors", 2);
    let issuer = Issuer::new(key(2), &trust).unwrap();
    let signed = Request::sign(&invitation(), &key(3), sealing(4).recipient(), NOW);
    let request = Request::verify(&signed, trust.network()).unwrap();
    let certificate = certificate::verify(&issuer.issue(&request, 7, NOW).unwrap(), &trust).unwrap();
    assert_eq!(certificate, contents());
    assert!(issuer.issue(&request, 8, NOW.plus(81 * Time::DAY_MS)).is_err(), "after its term");
    let renewed = issuer.renew(&certificate, 8, NOW.plus(20 * Time::DAY_MS)).unwrap();
    let renewed = certificate::verify(&renewed, &trust).unwrap();
    assert_eq!((renewed.node, renewed.serial), (certificate.node, 8));
    assert!(issuer.renew(&certificate, 9, NOW.plus(61 * Time::DAY_MS)).is_err(), "beyond its grace");
    assert!(Issuer::new(key(9), &trust).is_err(), "a key that the root document does not allow");
}

/// A statement in the one log of an issuer.
fn heard(issuer: u8, seq: u8, statement: &Statement) -> Heard<'_> {
    Heard {
        issuer: key(issuer).public(),
        log: LogId([issuer; 16]),
        seq: seq.into(),
        at: NOW,
        entry: Hash([seq; 32]),
        cites: None,
        statement,
    }
}

#[test]
fn the_issuers_word_is_the_same_in_whatever_order_it_is_heard() {
    let (_, trust) = root("vectors", 2);
    let renewed = Certificate { serial: 8, not_before: NOW.plus(Time::DAY_MS), ..contents() };
    let cut = vec![CutLine { log: LogId([1; 16]), height: 3, head: Hash([2; 32]) }];
    let revocation = Statement::Revocation { node: key(3).public(), serial: 8, reason: "stolen".to_owned(), cut };
    let statements = [
        Statement::Certificate(signed(&contents(), 2)),
        Statement::Certificate(signed(&renewed, 2)),
        Statement::Certificate(signed(&Certificate { issuer: key(9).public(), ..contents() }, 9)),
        revocation.clone(),
        Statement::NothingElse,
    ];
    let hear = |order: &[usize]| {
        let mut word = Word::default();
        for index in order {
            word.hear(heard(2, *index as u8, &statements[*index]), &trust);
        }
        word
    };
    let word = hear(&[0, 1, 2, 3, 4]);
    assert_eq!(word, hear(&[4, 3, 2, 1, 0, 0, 3]));
    assert_eq!(word.certificate(&key(3).public()).unwrap().certificate.serial, 8);
    assert_eq!(word.revocation(&key(3).public()).unwrap().reason, "stolen");
    assert_eq!(word.ignored().len(), 1, "another issuer's certificate");
    assert_eq!(Statement::from_bytes(&revocation.to_bytes()), Ok(revocation));
}

#[test]
fn a_revocation_stands_against_any_later_certificate_and_several_are_one_in_any_order() {
    let (_, trust) = root("vectors", 2);
    let line = |log, height| CutLine { log: LogId([log; 16]), height, head: Hash([log; 32]) };
    let revocation = |reason: &str, cut: Vec<CutLine>| Statement::Revocation {
        node: key(3).public(),
        serial: 7,
        reason: reason.to_owned(),
        cut,
    };
    let first = revocation("stolen", vec![line(1, 3), line(2, 5)]);
    let second = revocation("left", vec![line(2, 9), line(4, 1)]);
    let renewed = Certificate { serial: 99, not_before: NOW.plus(Time::DAY_MS), ..contents() };
    let later = Statement::Certificate(signed(&renewed, 2));
    let hear = |order: [(u8, &Statement); 3]| {
        let mut word = Word::default();
        order.iter().for_each(|(seq, said)| word.hear(heard(2, *seq, said), &trust));
        word
    };
    let word = hear([(1, &first), (2, &second), (3, &later)]);
    assert_eq!(word, hear([(3, &later), (2, &second), (1, &first)]));
    let revoked = word.revocation(&key(3).public()).unwrap();
    assert_eq!((revoked.reason.as_str(), &revoked.cut), ("stolen", &vec![line(1, 3), line(2, 5), line(4, 1)]));
    assert_eq!(word.nodes().count(), 1);
    assert_eq!(word.unrevoked().count(), 0, "nobody renews it");
}

#[test]
fn who_is_no_issuer_says_nothing_and_does_not_freshen_the_issuers_word() {
    let (_, trust) = root("vectors", 2);
    let mut word = Word::default();
    let revocation = Statement::Revocation { node: key(3).public(), serial: 7, reason: String::new(), cut: Vec::new() };
    word.hear(heard(9, 1, &revocation), &trust);
    word.hear(heard(9, 2, &Statement::NothingElse), &trust);
    assert_eq!((word.revocation(&key(3).public()), word.newest()), (None, None));
    assert_eq!(word.ignored().len(), 2);
}

/// What must hold of every sealing, the real one and the stand-in.
fn check_sealing(seal: &dyn Seal) {
    let (epoch, other) = (EpochKey::from_bytes([1; 32]), EpochKey::from_bytes([2; 32]));
    let sealed = seal.seal_to_epoch(&epoch, b"plaintext");
    assert!(!sealed.windows(9).any(|window| window == b"plaintext"));
    assert_eq!(seal.open_with_epoch(&epoch, &sealed, 9).unwrap(), b"plaintext");
    assert!(seal.open_with_epoch(&other, &sealed, 9).is_err());
    assert_eq!(seal.open_with_epoch(&epoch, &sealed, 8), Err(SealRefusal::TooLong { limit: 8 }));
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert!(seal.open_with_epoch(&epoch, &altered, 9).is_err(), "altered at {at}");
    }
    let to: Vec<Recipient> = (10..15).map(|number| sealing(number).recipient()).collect();
    let sealed = seal.seal_to_recipients(&to, b"plaintext").unwrap();
    for number in 10..15 {
        assert_eq!(seal.open_with_key(&sealing(number), &sealed, 9).unwrap(), b"plaintext");
    }
    assert_eq!(seal.open_with_key(&sealing(16), &sealed, 9), Err(SealRefusal::NotForThisKey));
    assert!(seal.open_with_epoch(&epoch, &sealed, 9).is_err());
    assert_eq!(seal.seal_to_recipients(&[], b"x"), Err(SealRefusal::NoRecipients));
    assert!(seal.open_with_key(&sealing(10), b"garbage", 9).is_err());
}

#[test]
fn i1_age_opens_for_those_it_was_sealed_to_and_for_nobody_else() {
    check_sealing(&Age);
}

#[test]
fn i1_the_stand_in_opens_for_those_it_was_sealed_to_and_for_nobody_else() {
    check_sealing(&StandIn);
}

#[test]
fn age_opens_an_entry_sealed_by_an_earlier_build() {
    // Made once, with this very key: age draws random bytes, so it cannot be made again to compare.
    let sealed = std::fs::read(testdata("epoch.age")).unwrap();
    let opened = Age.open_with_epoch(&EpochKey::from_bytes([1; 32]), &sealed, 100);
    assert_eq!(opened.unwrap(), b"from an earlier build");
}

#[test]
fn two_keys_have_two_fingerprints() {
    let words = words::fingerprint(&key(3).public(), &sealing(4).recipient());
    assert_ne!(words, words::fingerprint(&key(3).public(), &sealing(5).recipient()));
    assert_ne!(words, words::fingerprint(&key(4).public(), &sealing(4).recipient()));
}
