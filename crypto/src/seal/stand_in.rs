//! A sealing for simulations: the same input gives the same bytes, so that a seed replays a whole history.
//!
//! It keeps nothing secret from somebody who wants to read it: the key of each sealed thing follows from what
//! is inside and from public keys. Through [`Seal`], though, it behaves as [`super::Age`] does: without the
//! epoch's key or one of the recipients' keys it does not open, and what was altered does not open either; and
//! no plaintext stands in its bytes. So a checker can hold a simulation to "only members read".

use age_core::primitives::{aead_decrypt, aead_encrypt};
use minicbor::{Decode, Encode};

use super::{EpochKey, RECIPIENTS_LIMIT, Recipient, Refusal, Seal, SealingKey, check_recipients};
use crate::{
    encoding,
    encoding::{Domain, Hash},
};

/// Deterministic sealing without secrecy, for tests and simulations only.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandIn;

const DOMAIN: Domain = Domain::STAND_IN;
const TAG_BYTES: usize = 16;

#[derive(Encode, Decode)]
struct Sealed {
    /// To whom: the commitment of one epoch key, or each recipient's public key.
    #[n(0)]
    to: To,
    /// Makes the key of the body differ with what is inside, as age's random file key does.
    #[n(1)]
    nonce: Hash,
    #[cbor(n(2), with = "minicbor::bytes")]
    body: Vec<u8>,
}

#[derive(Encode, Decode)]
enum To {
    #[n(0)]
    Epoch(#[n(0)] Hash),
    #[n(1)]
    Recipients(#[n(0)] Vec<Recipient>),
}

fn seal(to: To, plaintext: &[u8]) -> Vec<u8> {
    let nonce = Hash::of(DOMAIN, &[plaintext]);
    let body = aead_encrypt(&body_key(&to, &nonce), plaintext);
    encoding::to_bytes(&Sealed { to, nonce, body })
}

/// The list of recipients goes into the key, so that to alter it is to damage the whole, as in age.
fn body_key(to: &To, nonce: &Hash) -> [u8; 32] {
    Hash::of(DOMAIN, &[&nonce.0, &encoding::to_bytes(to)]).0
}

fn open(sealed: &[u8], limit: usize, is_for_me: impl Fn(&To) -> bool) -> Result<Vec<u8>, Refusal> {
    let overhead = 64 * (RECIPIENTS_LIMIT + 4);
    if sealed.len() > limit.saturating_add(overhead) {
        return Err(Refusal::TooLong { limit });
    }
    let sealed: Sealed = encoding::from_bytes(sealed, sealed.len()).map_err(|_how| Refusal::NotSealed)?;
    if !is_for_me(&sealed.to) {
        return Err(Refusal::NotForThisKey);
    }
    let length = sealed.body.len().checked_sub(TAG_BYTES).ok_or(Refusal::Damaged)?;
    if length > limit {
        return Err(Refusal::TooLong { limit });
    }
    aead_decrypt(&body_key(&sealed.to, &sealed.nonce), length, &sealed.body).map_err(|_failed_tag| Refusal::Damaged)
}

impl Seal for StandIn {
    fn seal_to_epoch(&self, key: &EpochKey, plaintext: &[u8]) -> Vec<u8> {
        seal(To::Epoch(key.commitment()), plaintext)
    }

    fn open_with_epoch(&self, key: &EpochKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
        open(sealed, limit, |to| matches!(to, To::Epoch(commitment) if *commitment == key.commitment()))
    }

    fn seal_to_recipients(&self, recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, Refusal> {
        check_recipients(recipients)?;
        Ok(seal(To::Recipients(recipients.to_vec()), plaintext))
    }

    fn open_with_key(&self, key: &SealingKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
        open(sealed, limit, |to| matches!(to, To::Recipients(list) if list.contains(&key.recipient())))
    }
}
