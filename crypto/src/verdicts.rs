//! Verdicts on signatures that were given before: for simulations, in which every node verifies the same bytes.
//!
//! A verdict depends on key, domain, bytes and signature alone, so that one which is remembered is the one that would
//! be given again; and a signature that was just made holds. No program that serves people has this: a node sees a signature once, and need not keep it.

use std::cell::RefCell;

use crate::{
    encoding::{Domain, Hash},
    identity::{BadSignature, PublicKey, Signature},
};

/// How many are remembered in each thread: what the nodes of one life send each other within minutes. Each has one
/// place, and gives way to the next that has the same.
const REMEMBERED: usize = 1 << 14;

/// What was judged, and how.
type Verdict = (Hash, Result<(), BadSignature>);

thread_local! {
    static VERDICTS: RefCell<Vec<Option<Verdict>>> = const { RefCell::new(Vec::new()) };
}

/// The verdict on a signature: what was said of it before, else what `judge` says.
pub(crate) fn remembered(
    key: &PublicKey,
    domain: Domain,
    bytes: &[u8],
    signature: &Signature,
    judge: impl FnOnce() -> Result<(), BadSignature>,
) -> Result<(), BadSignature> {
    let what = name(key, domain, bytes, signature);
    let known = VERDICTS.with_borrow(|verdicts| verdicts.get(place(&what)).copied().flatten());
    if let Some((_, verdict)) = known.filter(|(known, _)| *known == what) {
        return verdict;
    }
    let verdict = judge();
    remember(what, verdict);
    verdict
}

/// A signature was made just now: it holds.
pub(crate) fn made(key: &PublicKey, domain: Domain, bytes: &[u8], signature: &Signature) {
    remember(name(key, domain, bytes, signature), Ok(()));
}

fn remember(what: Hash, verdict: Result<(), BadSignature>) {
    VERDICTS.with_borrow_mut(|verdicts| {
        verdicts.resize(REMEMBERED, None);
        verdicts[place(&what)] = Some((what, verdict));
    });
}

fn name(key: &PublicKey, domain: Domain, bytes: &[u8], signature: &Signature) -> Hash {
    let mut parts: Vec<&[u8]> = vec![&key.0, &signature.0];
    domain.separator().for_each(|part| parts.push(part));
    parts.push(bytes);
    Hash::of(Domain::STAND_IN, &parts)
}

fn place(what: &Hash) -> usize {
    usize::from(u16::from_be_bytes([what.0[0], what.0[1]])) % REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SigningKey;

    #[test]
    fn a_signature_is_judged_once_and_any_other_for_itself() {
        let key = SigningKey::from_seed(&[1; 32]);
        let signature = key.sign(Domain::ENTRY, b"hello");
        let judge = |key: &SigningKey, domain: Domain, bytes: &[u8], signature: &Signature| {
            let mut judged = false;
            let key = key.public();
            let verdict = remembered(&key, domain, bytes, signature, || {
                judged = true;
                key.verify(domain, bytes, signature)
            });
            (verdict, judged)
        };
        assert_eq!(judge(&key, Domain::ENTRY, b"hello", &signature).0, Ok(()));
        assert_eq!(judge(&key, Domain::ENTRY, b"hello", &signature), (Ok(()), false));
        let next = key.sign(Domain::ENTRY, b"world");
        made(&key.public(), Domain::ENTRY, b"world", &next);
        assert_eq!(judge(&key, Domain::ENTRY, b"world", &next), (Ok(()), false));
        let other = SigningKey::from_seed(&[2; 32]);
        let bad = key.sign(Domain::ENTRY, b"hallo");
        for judged in [true, false] {
            assert_eq!(judge(&key, Domain::ENTRY, b"hellO", &signature), (Err(BadSignature), judged));
            assert_eq!(judge(&key, Domain::EPOCH, b"hello", &signature), (Err(BadSignature), judged));
            assert_eq!(judge(&other, Domain::ENTRY, b"hello", &signature), (Err(BadSignature), judged));
            assert_eq!(judge(&key, Domain::ENTRY, b"hello", &bad), (Err(BadSignature), judged));
        }
        assert_eq!(judge(&key, Domain::ENTRY, b"hello", &signature), (Ok(()), false));
    }
}
